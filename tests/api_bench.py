"""The HTTP API, called without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gridtune_common.client import new_request_id
from gridtune_steering.api.app import PREFIX, create_app
from gridtune_steering.doorbell import LocalBell, WaitingRoom
from gridtune_steering.services.tokens import ensure_operator
from service_bench import Bench, document


@dataclass(frozen=True)
class Api:
    """The application of one web process, and the operator's secret."""

    client: FlaskClient
    secret: str

    def call(self, method: str, path: str, body: Any = None, *, secret: str | None = None, **more: Any) -> TestResponse:
        """Call as the operator, or as whoever holds *secret*; an empty one sends no token at all."""
        token = self.secret if secret is None else secret
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        return self.client.open(PREFIX + path, method=method, data=data, headers=headers, **more)

    def submit(self, **more: Any) -> str:
        """Submit a task; returns its id."""
        message = {"request_id": new_request_id(), "document": document(**more)}
        task: str = self.call("POST", "/tasks", message).get_json()["summary"]["id"]
        return task

    def ask(
        self,
        task: str,
        worker: str = "w",
        *,
        secret: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> TestResponse:
        """Ask for a point, without waiting."""
        message = {"request_id": new_request_id(), "worker": worker, **more}
        return self.call("POST", f"/tasks/{task}/ask", message, secret=secret, headers=headers or {})

    def token(self, scope: str, **more: Any) -> str:
        """Make a token; returns its secret."""
        answer = self.call("POST", "/tokens", {"request_id": new_request_id(), "scope": scope, **more})
        secret: str = answer.get_json()["secret"]
        return secret


@contextmanager
def api_on(bench: Bench, **settings: Any) -> Iterator[Api]:
    """The application on the bench's service, with some settings of its own."""
    steering = replace(bench.steering, settings=replace(bench.steering.settings, **settings))
    data = steering.settings.data
    ensure_operator(steering)
    with LocalBell(data) as bell:
        app = create_app(steering, WaitingRoom(bell.listen_as_asker()))
        yield Api(app.test_client(), (data / "operator.token").read_text().strip())
        bell.remove()
