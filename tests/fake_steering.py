"""A steering service for tests of its callers: answers what it is told to, remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from gridtune_common import protocol, wire
from gridtune_common.cli import connection

CREATED = "2026-03-01T12:00:00+00:00"


@dataclass(frozen=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    token: str


@dataclass(frozen=True)
class Problem:
    """An answer that says no."""

    status: int
    document: dict[str, Any] = field(default_factory=dict)


Answer = Any  # a wire message, bytes, None (204), a Problem, or a function of what was asked that gives one


class FakeSteering:
    """Answers by method and path (below ``/api/v1``), with a message or a function of the request."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.asked: list[Asked] = []
        self.url = ""

    def on(self, method: str, path: str, answer: Answer) -> None:
        """Answer a request from now on."""
        self.answers[method, path] = answer

    def respond(self, asked: Asked) -> Answer:
        """The answer to a request."""
        self.asked.append(asked)
        missing = Problem(404, {"title": "Not found", "detail": f"there is no {asked.path}"})
        answer = self.answers.get((asked.method, asked.path), missing)
        return answer(asked) if isinstance(answer, Callable) else answer  # type: ignore[arg-type]


@contextlib.contextmanager
def served() -> Iterator[FakeSteering]:
    """A fake service on a free port of this machine."""
    fake = FakeSteering()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def configure(fake: FakeSteering, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in *folder*, with the fake as the service that the environment names."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("GRIDTUNE_SERVER", fake.url)
    monkeypatch.setenv("GRIDTUNE_TOKEN", "abc")
    monkeypatch.setattr(connection, "RETRY_FOR", 0.0)


def _handler(fake: FakeSteering) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_request(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            path = url.path.removeprefix("/api/v1")
            self._send(fake.respond(Asked(self.command, path, dict(parse_qsl(url.query)), body, token)))

        do_GET = do_POST = do_PATCH = do_DELETE = do_request  # noqa: N815

        def _send(self, answer: Answer) -> None:
            status, kind = 200, "application/json"
            if isinstance(answer, Problem):
                status, kind = answer.status, "application/problem+json"
                answer = {"status": answer.status, **answer.document}
            content = answer if isinstance(answer, bytes) else json.dumps(wire.encode(answer)).encode()
            if answer is None:
                status, content = 204, b""
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    return Handler


def make_summary(**changes: Any) -> protocol.TaskSummary:
    """A task after some of its points."""
    summary = protocol.TaskSummary(
        id="t2t2t2t2",
        name="digits",
        owner="ada",
        state=protocol.TaskState.RUNNING,
        algorithm="hyperopt/tpe",
        created_at=CREATED,
        counts=protocol.PointCounts(ready=1, running=2, done=5, failed=1),
        objective="loss",
        goal="minimize",
        points=20,
        best=0.123456789,
        best_point=3,
    )
    return replace(summary, **changes)


def make_task(**changes: Any) -> protocol.Task:
    """A task, whole; *changes* are its summary's."""
    document = {
        "name": "digits",
        "space": {
            "learning_rate": {"type": "float", "low": 1e-5, "high": 0.1, "scale": "log"},
            "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
            "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": ["sgd"]}},
        },
        "constants": {"epochs": 30},
    }
    return protocol.Task(make_summary(**changes), document, "name: digits\n", seed=7, versions={"gridtune": "0.1.0"})


def make_point(number: int = 3, **changes: Any) -> protocol.Point:
    """A done point."""
    point = protocol.Point(
        number=number,
        state=protocol.PointState.DONE,
        parameters={"learning_rate": 0.01, "optimizer": "adam"},
        metrics={"loss": 0.123456789, "accuracy": 0.9},
        attempts=1,
        created_at=CREATED,
        value=0.123456789,
        started_at=CREATED,
        ended_at="2026-03-01T12:01:15+00:00",
    )
    return replace(point, **changes)


def make_evaluation(**changes: Any) -> protocol.Evaluation:
    """A failed evaluation."""
    evaluation = protocol.Evaluation(
        id="e1",
        point=4,
        epoch=1,
        attempt=1,
        state=protocol.EvaluationState.FAILED,
        worker="node-1/0",
        site="local",
        host="node-1",
        agent_version="0.1.0",
        started_at=CREATED,
        lease_expires_at=CREATED,
        ended_at="2026-03-01T12:00:02+00:00",
        cause="exit_code",
        message="the command ended with code 1",
        exit_code=1,
        output_tail="Traceback\nValueError: no data\n",
    )
    return replace(evaluation, **changes)


def make_best(**changes: Any) -> protocol.Best:
    """The best of five done points."""
    best = protocol.Best(goal="minimize", objective="loss", point=make_point(), median=0.5, n_done=5)
    return replace(best, **changes)
