"""Reads prompts from a file, or from standard input: a prompt a line, or JSON lines."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rfr.errors import UserError

STANDARD_INPUT = "-"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt, and where it stands, for messages about it."""

    text: str
    place: str


def read_prompts(source: str) -> list[Prompt]:
    """The prompts of a file, empty lines left out.

    Args:
        source: a path; lines of a `.jsonl` are objects with a `prompt`. `-`: standard input, a prompt a line.

    Raises:
        UserError: there is no such file, it is no text, it holds no prompt, or a line of a `.jsonl` has none.
    """
    name = "standard input" if source == STANDARD_INPUT else source
    lines = _bytes(source).split(b"\n")
    try:
        texts = [line.decode().strip() for line in lines]
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is no text in UTF-8 ({error.reason}): prompts= takes a .txt or a .jsonl") from error
    as_json = source.endswith((".jsonl", ".json"))
    prompts = [
        Prompt(text=_prompt_of(text, f"{name}, line {number}") if as_json else text, place=f"{name}, line {number}")
        for number, text in enumerate(texts, start=1)
        if text
    ]
    if not prompts:
        raise UserError(f"{name} holds no prompt: give it a prompt a line")
    return prompts


def _bytes(source: str) -> bytes:
    if source == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    path = Path(source)
    if not path.exists() or path.is_dir():
        raise UserError(f"there is no file {source}: prompts= takes a .txt, a .jsonl, - for standard input, or corpus")
    data = path.read_bytes()
    if b"\0" in data:
        raise UserError(f"{source} is no text (it holds a zero byte): prompts= takes a .txt or a .jsonl")
    return data


def _prompt_of(line: str, place: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is no JSON: {line[:60]!r}") from error
    prompt = row.get("prompt") if isinstance(row, dict) else row
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f'{place} has no "prompt": {line[:60]!r}')
    return prompt.strip()
