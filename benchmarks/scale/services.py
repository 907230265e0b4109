"""The real service, set up for a measurement."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridtune_common.client import Client, new_request_id
from gridtune_common.protocol import Ask, ChangeTask, Lease, SubmitTask, TaskAction, Tell
from gridtune_steering.bookkeeping.database import Database
from real_service import RealService, wait_for

from .history import preload
from .objective import document, loss_of

#: Long enough for any ask here, in seconds.
_PATIENCE = 120.0


@dataclass(frozen=True)
class Served:
    """A service at work.

    Attributes:
        database: Where its bookkeeping is.
        pid: The process that all others of it are below.
    """

    service: RealService
    database: str
    pid: int

    def options(self, tasks: Sequence[str], **more: Any) -> dict[str, Any]:
        """What a `service_seat.ServiceSeat` needs."""
        return {"url": self.service.url, "token": self.service.token, "tasks": list(tasks), **more}


@contextlib.contextmanager
def service(url: str, *flags: str, **settings: str) -> Iterator[Served]:
    """``gridtune serve`` in a fresh folder, on a database or, for an empty URL, on SQLite there."""
    with tempfile.TemporaryDirectory(prefix="gridtune-bench-") as folder:
        environment = {"GRIDTUNE_STEERING_LEASE_SECONDS": "60", **settings}
        if url:
            environment["GRIDTUNE_STEERING_DATABASE"] = url
        running = RealService(Path(folder), settings=environment, flags=flags)
        running.start()
        assert running.serving is not None
        try:
            yield Served(running, url or f"sqlite:///{Path(folder) / 'data' / 'gridtune.db'}", running.serving.pid)
        finally:
            running.end()


def submit(served: Served, algorithm: str, n: int, observations: int = 0) -> list[str]:
    """Submit so many tasks, each with a past, and wait until its optimizer has taken that up."""
    with served.service.client() as client:
        tasks = [client.submit(SubmitTask(new_request_id(), document(algorithm))).summary.id for _ in range(n)]
        for task in tasks if observations else ():
            _give_past(served, client, task, observations)
    return tasks


def _give_past(served: Served, client: Client, task: str, observations: int) -> None:
    """Write a task's past while it is paused, so that no host owns it, and get one point from what that makes."""
    client.change_task(task, ChangeTask(new_request_id(), TaskAction.PAUSE))
    database = Database(served.database)
    preload(database, task, observations)
    database.close()
    client.change_task(task, ChangeTask(new_request_id(), TaskAction.RESUME))
    ask = Ask(new_request_id(), "first", wait=20.0)
    lease = wait_for("the first point", lambda: _leased(client, task, ask), timeout=_PATIENCE)
    told: dict[str, float | None] = {"loss": loss_of(lease.parameters)}
    client.tell(lease.evaluation, Tell(new_request_id(), lease.epoch, told, leaving=True))


def _leased(client: Client, task: str, ask: Ask) -> Lease | None:
    answer = client.ask(task, ask)
    return answer if isinstance(answer, Lease) else None


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Declare how many processes there are on either side."""
    parser.add_argument("--web", type=int, default=1, help="web processes of the service")
    parser.add_argument("--hosts", type=int, default=1, help="optimizer hosts of the service")
    # one Python uses one core at most
    parser.add_argument("--processes", type=int, default=2 * (os.cpu_count() or 1), help="client processes")


def serve_flags(arguments: argparse.Namespace) -> list[str]:
    """The flags of ``gridtune serve`` that say so."""
    return ["--web", str(arguments.web), "--hosts", str(arguments.hosts)]


def described(arguments: argparse.Namespace) -> str:
    """How many processes there are, in words."""
    servers = f"{arguments.web} web process(es), {arguments.hosts} optimizer host(s)"
    return f"{servers}, {arguments.processes} client process(es), all on this machine"
