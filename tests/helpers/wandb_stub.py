"""As much of W&B's server as its real client needs: a few GraphQL operations, the file stream, uploads; on loopback."""

from __future__ import annotations

import gzip
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Server:
    """What arrived.

    Args:
        failing: the share of requests that are answered with 500.
        orders: from the ids of the runs that an agent has going to what it is to do next.
    """

    failing: float = 0.0
    orders: Callable[[set[str]], list[dict[str, Any]]] = lambda _: [{"type": "exit"}]
    url: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)  # as UpsertBucket named them, by id
    history: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)  # rows by line number, by run
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    sweep: str = "{}"  # YAML
    broken: list[str] = field(default_factory=list)  # what this stub could not answer
    answered: Counter = field(default_factory=Counter)
    luck: random.Random = field(default_factory=lambda: random.Random(0))
    lock: Any = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """Of a client that is logged in here, and tries again soon."""
        quick = {
            f"WANDB_X_{kind}_RETRY_WAIT_{end}_SECONDS": str(seconds) for kind in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
            for end, seconds in (("MIN", 0.05), ("MAX", 0.2))
        }  # fmt: skip
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "k" * 40, "WANDB_ERROR_REPORTING": "false", **quick}

    def rows(self, run: str) -> list[dict[str, Any]]:
        return [row for _, row in sorted(self.history.get(run, {}).items())]

    def fails(self) -> bool:
        with self.lock:
            failed = self.luck.random() < self.failing
            self.answered["failed" if failed else "answered"] += 1
            return failed

    def stream(self, run: str, content: dict[str, Any]) -> None:
        """Lines have their numbers, so that what is sent again is not there twice."""
        chunk = content.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        with self.lock:
            lines = self.history.setdefault(run, {})
            for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                lines[number] = json.loads(line)

    def query(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL operation; nothing to those that the client can do without."""
        operation = query.split("(")[0].split("{")[0].split()[-1]
        answer = getattr(self, f"_{operation}", None)
        return answer(values.get("input") or values) if answer else {}

    def _Viewer(self, _: dict) -> dict:  # noqa: N802
        return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def _RunResumeStatus(self, values: dict) -> dict:  # noqa: N802
        if values["name"] not in self.runs:
            return {"model": {"id": "p", "name": "rfr", "entity": {"id": "e", "name": "me"}, "bucket": None}}
        rows = self.rows(values["name"])
        bucket = {
            "id": "b", "name": values["name"], "summaryMetrics": "{}", "displayName": "", "logLineCount": 0,
            "historyLineCount": len(rows), "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsLineCount": 0, "eventsTail": "[]", "config": "{}", "tags": [], "notes": "", "wandbConfig": '{"t": 1}',
        }  # fmt: skip
        return {"model": {"id": "p", "name": "rfr", "entity": {"id": "e", "name": "me"}, "bucket": bucket}}

    def _UpsertBucket(self, values: dict) -> dict:  # noqa: N802
        known = self.runs.setdefault(values["name"], {})
        known.update({key: value for key, value in values.items() if value is not None})
        project = {"id": "p", "name": values.get("project") or "rfr", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": values["name"], "displayName": known.get("displayName"), "description": "", "config": "{}"}
        inserted = not self.history.get(values["name"])
        lines = len(self.history.get(values["name"], {}))
        bucket |= {"sweepName": None, "project": project, "historyLineCount": lines}
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, values: dict) -> dict:  # noqa: N802
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{values['run']}/{name}"} for name in values["files"]]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, _: dict) -> dict:  # noqa: N802
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, values: dict) -> dict:  # noqa: N802
        self.artifacts.append(values)
        sequence = {"id": "s", "latestArtifact": None}
        return {
            "createArtifact": {"artifact": {"id": f"a{len(self.artifacts)}", "state": "PENDING", "artifactSequence": sequence}}
        }

    def _CreateArtifactManifest(self, _: dict) -> dict:  # noqa: N802
        file = {"id": "f", "name": "m", "displayName": "m", "uploadUrl": f"{self.url}/upload/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _CreateArtifactFiles(self, values: dict) -> dict:  # noqa: N802
        nodes = [
            {"id": "x", "name": file["name"], "displayName": file["name"], "uploadUrl": f"{self.url}/upload/{file['name']}",
             "uploadHeaders": [], "storagePath": "s", "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}
            for file in values["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _UpsertView2(self, values: dict) -> dict:  # noqa: N802
        self.views.append(values)
        return {"upsertView": {"view": {"id": "v", "name": values["name"]}, "inserted": True}}

    def _UpsertSweep(self, values: dict) -> dict:  # noqa: N802
        self.sweep = values["config"]
        project = {"id": "p", "name": "rfr", "entity": {"id": "e", "name": "me"}}
        return {"upsertSweep": {"sweep": {"name": "swept", "project": project}, "configValidationWarnings": []}}

    def _SweepWithRuns(self, values: dict) -> dict:  # noqa: N802
        about = {"id": "s", "name": values["sweep"], "state": "RUNNING", "config": self.sweep, "runs": {"edges": []}}
        return {"project": {"sweep": about}}

    def _CreateAgent(self, _: dict) -> dict:  # noqa: N802
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _Heartbeat(self, values: dict) -> dict:  # noqa: N802
        commands = self.orders(set(json.loads(values["runState"])))
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _CommitArtifact(self, values: dict) -> dict:  # noqa: N802
        return {"commitArtifact": {"artifact": {"id": values["artifactID"], "digest": "d"}}}


@contextmanager
def serving(failing: float = 0.0) -> Iterator[Server]:
    """A server on a free port of loopback."""
    state = Server(failing=failing)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            try:
                self._reply(*((500, {"error": "out of luck"}) if state.fails() else (200, self._content(body))))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                state.broken.append(repr(error))
                self._reply(500, {"error": repr(error)})

        def _content(self, body: bytes) -> dict:
            if self.path == "/graphql":
                asked = json.loads(body)
                return {"data": state.query(asked["query"], asked.get("variables") or {})}
            if self.path.endswith("/file_stream"):
                state.stream(self.path.split("/")[-2], json.loads(body))
            elif self.path.startswith("/upload/"):
                state.files[self.path.removeprefix("/upload/")] = body
            return {}

        do_POST = do_PUT = do_GET = _answer

        def _reply(self, code: int, content: dict) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Silence."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that goes while it is answered is no news."""

    server = Quiet(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
