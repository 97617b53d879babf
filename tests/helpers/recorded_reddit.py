"""Recorded Reddit traffic, served again: the recordings of the PRAW project's tests, as Betamax and VCR write them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from rfr.demo.loopback import LoopbackReddit, listing


class RecordedReddit(LoopbackReddit):
    """Answers every path with what was recorded for it, in order, the last for ever; unknown ones with an empty listing.

    Args:
        cassettes: JSON files with `interactions`.
        server: faults and rate limit, see `LoopbackReddit`.
    """

    def __init__(self, cassettes: Iterable[Path], **server: Any) -> None:
        super().__init__(**server)
        self._recorded: dict[str, list[tuple[int, bytes]]] = {}
        for cassette in cassettes:
            for interaction in json.loads(cassette.read_text())["interactions"]:
                if interaction["request"]["method"] == "GET":
                    path = urlsplit(interaction["request"]["uri"]).path.rstrip("/")
                    self._recorded.setdefault(path, []).append(_answer(interaction["response"]))

    @property
    def paths(self) -> list[str]:
        """What was recorded, in order."""
        return list(self._recorded)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/{path:.*}", self._replay)

    async def _replay(self, request: web.Request) -> web.Response:
        answers = self._recorded.get(request.path.rstrip("/"))
        if not answers:
            return web.json_response(listing([]))
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        return web.Response(status=status, body=body, content_type="application/json")


def _answer(response: dict[str, Any]) -> tuple[int, bytes]:
    body = response["body"]
    content = base64.b64decode(body["base64_string"]) if "base64_string" in body else body.get("string", "").encode()
    return int(response["status"]["code"]), content
