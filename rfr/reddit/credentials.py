"""Reads credentials from the environment or ~/.config/praw.ini only, and never shows them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from pathlib import Path
from urllib.parse import urlsplit

from rfr.errors import UserError, as_user_error

FIRST_STEPS = (
    "no Reddit credentials: ask Reddit for API access, then set praw_client_id, praw_client_secret and praw_user_agent in the "
    "environment (docs/reddit.md tells the steps), or try source=demo"
)
SECRET_KEY = re.compile(r"(client_id|client_secret|password|username|token)[\"']?\s*[=:]", re.IGNORECASE)
SETTING = re.compile(r"\b(client_id|client_secret|user_agent)\b")


def refuse_on_command_line(arguments: Iterable[str]) -> None:
    """Hydra prints overrides in its errors and sweeps write them to disk, so a secret must not come that way.

    Raises:
        UserError: an argument sets something that looks like a credential; its value is not repeated.
    """
    for argument in arguments:
        if match := SECRET_KEY.search(argument):
            raise UserError(
                f"{match[1]} does not belong on the command line: set praw_{match[1]} in the environment or in ~/.config/praw.ini"
            )


def check_files(working_folder: Path) -> None:
    """Look at the praw.ini files that asyncpraw would read.

    Raises:
        UserError: a praw.ini lies in the working folder, or the user's own is open to others or is no ini file.
    """
    if (working_folder / "praw.ini").exists():
        raise UserError("a praw.ini in the working folder can send your credentials elsewhere: move it to ~/.config/praw.ini")
    settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    own = Path(settings) / "praw.ini"
    if own.exists() and stat.S_IMODE(own.stat().st_mode) & 0o077:
        raise UserError(f"{own} can be read by others: run chmod 600 {own}")
    if not _is_ini(own):  # asyncpraw's error would show the line, and with it the secret
        raise UserError(f"{own} is no ini file: it needs a line [DEFAULT], and lines such as client_id=...")


def _is_ini(path: Path) -> bool:
    try:
        ConfigParser(interpolation=None).read(path, encoding="utf-8")
    except (ConfigParserError, UnicodeDecodeError):
        return False
    return True


def missing_setting(message: str) -> str:
    """Which setting asyncpraw lacks, by its message."""
    match = SETTING.search(message)
    return f"praw_{match[1]} is not set" if match else "a setting is missing"


def check_url(url: str) -> None:
    """
    Raises:
        UserError: the URL is neither https nor loopback.
    """
    with as_user_error(f"{url} is no URL", ValueError):
        parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise UserError(
            f"{parts.scheme}://{parts.hostname} is neither https nor on this machine: credentials would travel in the clear"
        )
