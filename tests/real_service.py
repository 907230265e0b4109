"""A real service in real processes, for tests that kill some of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gridtune_common import wire
from gridtune_common.client import Client, new_request_id
from gridtune_common.errors import Unreachable
from gridtune_common.protocol import CreateToken, Export, Scope, ShippedFile, SubmitTask

T = TypeVar("T")
#: Leases are short in these tests, so that a lost worker is noticed in seconds.
LEASE_SECONDS = 4


def wait_for(what: str, look: Callable[[], T | None], *, timeout: float = 60.0, pace: float = 0.1) -> T:
    """Look again and again until there is something true to see."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(pace)
    raise AssertionError(f"waited {timeout:g} s in vain for {what}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RealService:
    """``gridtune serve`` on a folder and a fixed port, to be started and killed at will, with agents beside it."""

    folder: Path
    port: int = field(default_factory=free_port)
    settings: Mapping[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()
    serving: subprocess.Popen[bytes] | None = None
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The operator's secret."""
        return (self.folder / "data" / "operator.token").read_text().strip()

    def start(self) -> None:
        """Start it, or start it again, and wait until it is ready."""
        log = (self.folder / "serve.log").open("ab")
        with log:
            self.serving = subprocess.Popen(
                [*GRIDTUNE, "serve", "--data", str(self.folder / "data"), "--port", str(self.port), *self.flags],
                env={**os.environ, "GRIDTUNE_STEERING_LEASE_SECONDS": str(LEASE_SECONDS), **self.settings},
                stdout=log,
                stderr=log,
            )
        wait_for("the service", self._is_ready, timeout=120)

    def _is_ready(self) -> bool:
        note = self.folder / "data" / "service.json"
        assert self.serving is not None
        if self.serving.poll() is not None:
            raise AssertionError((self.folder / "serve.log").read_text()[-3000:])
        if not note.exists() or json.loads(note.read_text())["pid"] != self.serving.pid:
            return False
        with contextlib.closing(Client(self.url, "", retry_for=5)) as client, contextlib.suppress(Unreachable):
            return client.health().status == "ok"
        return False  # its port is open, and nobody behind it yet

    def kill(self) -> None:
        """End it by ``kill -9``."""
        assert self.serving is not None
        self.serving.kill()
        self.serving.wait()

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """A client with the operator's token."""
        with contextlib.closing(Client(self.url, self.token, retry_for=60)) as client:
            yield client

    def submit(self, document: dict[str, Any], **files: str) -> str:
        """Submit a task with files given as name=text (underscores stand for dots); returns its id."""
        import base64

        shipped = [
            ShippedFile(name.replace("_", "."), base64.b64encode(text.encode()).decode())
            for name, text in files.items()
        ]
        with self.client() as client:
            return client.submit(SubmitTask(new_request_id(), document, files=shipped)).summary.id

    def start_agent(self, task: str, *flags: str, name: str = "agent") -> subprocess.Popen[bytes]:
        """Start an agent with a token for this task alone."""
        with self.client() as client:
            secret = client.create_token(CreateToken(new_request_id(), Scope.TASK, task=task)).secret
        work = self.folder / f"work-{name}"
        with (self.folder / f"{name}.log").open("ab") as log:
            agent = subprocess.Popen(
                [*GRIDTUNE, "agent", "--server", self.url, "--task", task, "--work-dir", str(work), *flags],
                env={**os.environ, "GRIDTUNE_TOKEN": secret},
                stdout=log,
                stderr=log,
            )
        self.agents.append(agent)
        return agent

    def export(self, task: str) -> Export:
        """All that is known of a task."""
        with self.client() as client:
            return wire.decode(Export, json.loads(client.export(task)))

    def end(self) -> None:
        """End whatever still runs."""
        for process in [*self.agents, self.serving]:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in [*self.agents, self.serving]:
            if process is not None:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


GRIDTUNE = [sys.executable, "-m", "gridtune_common"]
