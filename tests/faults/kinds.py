"""The kinds of faults: each does its harm, and tells to whom and for how long; None if nobody is there."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import psycopg
import sqlalchemy as sa

from faults.deployment import Deployment
from faults.fleet import children_of, command_of
from faults.proxy import Trouble
from faults.scene import Scene
from faults.shelf import Shelf
from servers.postgres import Postgres

_UNLIMITED: Final = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
Harm = tuple[str, float]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _freeze(scene: Scene, pid: int, longest: float) -> float:
    seconds = scene.random.uniform(0.3, longest)
    _signal(pid, signal.SIGSTOP)
    scene.later(seconds, lambda: _signal(pid, signal.SIGCONT))
    return seconds


def _kill_agent(scene: Scene) -> Harm | None:
    berth = scene.living()
    if berth is None:
        return None
    berth.end(signal.SIGKILL, replace_in=scene.random.uniform(0.1, 1.5))
    return berth.name, 0.0


def _end_agent(scene: Scene) -> Harm | None:
    berth = scene.living()
    if berth is None:
        return None
    berth.end(signal.SIGTERM, replace_in=scene.random.uniform(0.0, 1.0))
    return berth.name, 0.0


def _freeze_agent(scene: Scene) -> Harm | None:
    """Often for longer than a lease: then its payloads go on, and it comes back as one that was lost."""
    berth = scene.living()
    if berth is None or berth.agent is None:
        return None
    return berth.name, _freeze(scene, berth.agent.pid, longest=6.0)


def _kill_payload(scene: Scene) -> Harm | None:
    pid = scene.payload()
    if pid is None:
        return None
    _signal(pid, signal.SIGKILL)
    return f"payload {pid}", 0.0


def _freeze_payload(scene: Scene) -> Harm | None:
    pid = scene.payload()
    return None if pid is None else (f"payload {pid}", _freeze(scene, pid, longest=4.0))


def _kill_part(module: str) -> Callable[[Scene], Harm | None]:
    def harm(scene: Scene) -> Harm | None:
        pid = scene.part(module)
        if pid is None:
            return None
        _signal(pid, signal.SIGKILL)
        return f"{module} {pid}", 0.0

    return harm


def _freeze_part(module: str, longest: float) -> Callable[[Scene], Harm | None]:
    def harm(scene: Scene) -> Harm | None:
        pid = scene.part(module)
        return None if pid is None else (f"{module} {pid}", _freeze(scene, pid, longest))

    return harm


def _kill_service(scene: Scene) -> Harm:
    """The main process alone; its children have to notice."""
    scene.service.kill()
    return _start_again(scene)


def _kill_everything(scene: Scene) -> Harm:
    """As when the machine loses power, as far as processes can tell."""
    assert scene.service.serving is not None
    family = children_of(scene.service.serving.pid)
    family += [pid for parent in family for pid in children_of(parent)]
    scene.service.kill()
    for pid in family:
        _signal(pid, signal.SIGKILL)
    return _start_again(scene)


def _restart_service(scene: Scene) -> Harm:
    """As for an update; the old one ends in order."""
    assert scene.service.serving is not None
    scene.service.serving.terminate()
    scene.service.serving.wait(30)
    return _start_again(scene)


def _start_again(scene: Scene) -> Harm:
    began = time.monotonic()
    time.sleep(scene.random.uniform(0.0, 1.0))
    with scene.outage:  # it does not start without its database
        scene.service.start()
    return "service", time.monotonic() - began


def _lock_file(scene: Scene) -> Harm | None:
    """Another process writes for a long time."""
    seconds = scene.random.uniform(0.3, 3.0)
    path = sa.make_url(scene.deployment.url).database or ""
    connection = sqlite3.connect(path, timeout=5, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        connection.close()
        return None
    scene.later(seconds, connection.close)
    return "database", seconds


def _lock_table(scene: Scene) -> Harm | None:
    """Somebody changes or copies a table as a whole, and nobody can even read it."""
    seconds, table = scene.random.uniform(0.3, 3.0), scene.random.choice(["tasks", "points", "evaluations"])
    try:
        connection = psycopg.connect(scene.deployment.url, connect_timeout=5, options="-c lock_timeout=5s")
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    except psycopg.OperationalError:  # its connection ends with it
        return None
    scene.later(seconds, connection.close)
    return table, seconds


def _outage(begin: Callable[[Postgres], Callable[[], None]]) -> Callable[[Scene], Harm | None]:
    """The database server is away, often for longer than leases are; one outage at a time."""

    def harm(scene: Scene) -> Harm | None:
        assert scene.deployment.server is not None
        if not scene.outage.acquire(blocking=False):
            return None
        seconds = scene.random.uniform(0.3, 8.0)
        end = begin(scene.deployment.server)

        def undo() -> None:
            end()
            scene.outage.release()

        scene.later(seconds, undo)
        return "database", seconds

    return harm


def _crash(server: Postgres) -> Callable[[], None]:
    server.crash()
    return server.start


def _freeze_server(server: Postgres) -> Callable[[], None]:
    family = [server.pid, *children_of(server.pid)]
    for pid in family:
        _signal(pid, signal.SIGSTOP)

    def thaw() -> None:
        for pid in family:
            _signal(pid, signal.SIGCONT)

    return thaw


def _kill_backend(scene: Scene) -> Harm | None:
    """What serves one connection; the server then ends all others and starts again."""
    if scene.deployment.server is None or scene.outage.locked():
        return None
    backends = [pid for pid in children_of(scene.deployment.server.pid) if b": gridtune " in command_of(pid)]
    if not backends:
        return None
    pid = scene.random.choice(backends)
    _signal(pid, signal.SIGKILL)
    return f"backend {pid}", 0.0


def _cut_connections(scene: Scene) -> Harm | None:
    """As a proxy before the server does when it is restarted."""
    if scene.outage.locked():
        return None
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    n_cut = len(scene.deployment.rows(f"{query} AND pid <> pg_backend_pid()"))
    return f"{n_cut} connections", 0.0


def _fill_disk(scene: Scene) -> Harm | None:
    """For a while neither the agent nor the payloads that it starts can write a byte into a file."""
    berth = scene.living()
    if berth is None or berth.agent is None:
        return None
    berth.is_mute = True
    return berth.name, _forbid_writing(scene, berth.agent.pid)


def _fill_disk_of_part(module: str) -> Callable[[Scene], Harm | None]:
    """The database cannot be written to by one of the service's processes."""

    def harm(scene: Scene) -> Harm | None:
        pid = scene.part(module)
        return None if pid is None else (f"{module} {pid}", _forbid_writing(scene, pid))

    return harm


def _forbid_writing(scene: Scene, pid: int) -> float:
    seconds = scene.random.uniform(0.3, 2.0)
    _limit_files(pid, (0, resource.RLIM_INFINITY))
    scene.later(seconds, lambda: _limit_files(pid, _UNLIMITED))
    return seconds


def _limit_files(pid: int, limits: tuple[int, int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def _harm_checkpoint(harm: Callable[[Shelf, random.Random], int | None]) -> Callable[[Scene], Harm | None]:
    """One that is needed at once, for its training is killed."""

    def do(scene: Scene) -> Harm | None:
        point = harm(scene.shelf, scene.random)
        if point is None:
            return None
        pid = scene.training_of(point)
        if pid is not None:
            _signal(pid, signal.SIGKILL)
        return f"point {point}", 0.0

    return do


def _store_away(scene: Scene) -> Harm | None:
    seconds = scene.random.uniform(0.3, 3.0)
    come_back = scene.shelf.depot.go_away()
    if come_back is None:
        return None
    scene.later(seconds, come_back)
    return "object store", seconds


def _clean_store(scene: Scene) -> Harm | None:
    """Old checkpoints are deleted while their points are at work."""
    return ("object store", 0.0) if scene.shelf.clean() else None


def _network(trouble: Trouble) -> Callable[[Scene], Harm | None]:
    def harm(scene: Scene) -> Harm | None:
        berth = scene.living()
        if berth is None:
            return None
        seconds = scene.random.uniform(0.5, 4.0)
        berth.proxy.trouble(trouble, seconds=seconds, share=scene.random.uniform(0.3, 1.0))
        return berth.name, seconds

    return harm


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what it does, and how often it is drawn in comparison."""

    harm: Callable[[Scene], Harm | None]
    weight: int


_WEB, _HOST = "gridtune_steering.api", "gridtune_steering.host"
#: What can happen to a service on one machine, with SQLite.
EMBEDDED_FAULTS: Final[Mapping[str, Kind]] = {
    "agent: kill -9": Kind(_kill_agent, 7),
    "agent: SIGTERM": Kind(_end_agent, 4),
    "agent: freeze": Kind(_freeze_agent, 4),
    "agent: no space on disk": Kind(_fill_disk, 2),
    "payload: kill -9": Kind(_kill_payload, 6),
    "payload: freeze": Kind(_freeze_payload, 3),
    "web: kill -9": Kind(_kill_part(_WEB), 2),
    "web: freeze": Kind(_freeze_part(_WEB, 3.0), 2),
    "web: no space on disk": Kind(_fill_disk_of_part(_WEB), 2),
    "host: kill -9": Kind(_kill_part(_HOST), 2),
    "host: freeze": Kind(_freeze_part(_HOST, 3.0), 2),
    "host: no space on disk": Kind(_fill_disk_of_part(_HOST), 1),
    "service: kill -9": Kind(_kill_service, 1),
    "service: kill -9 of all": Kind(_kill_everything, 1),
    "service: restart": Kind(_restart_service, 1),
    "database: locked": Kind(_lock_file, 2),
    "store: damaged checkpoint": Kind(_harm_checkpoint(Shelf.damage), 3),
    "store: lost checkpoint": Kind(_harm_checkpoint(Shelf.lose), 2),
    "store: away": Kind(_store_away, 3),
    "store: cleaned": Kind(_clean_store, 1),
    "network: reset a request": Kind(_network(Trouble.RESET_REQUEST), 3),
    "network: reset an answer": Kind(_network(Trouble.RESET_ANSWER), 4),
    "network: cut a request": Kind(_network(Trouble.CUT_REQUEST), 2),
    "network: cut an answer": Kind(_network(Trouble.CUT_ANSWER), 2),
    "network: delay": Kind(_network(Trouble.DELAY), 3),
    "network: black hole": Kind(_network(Trouble.BLACK_HOLE), 3),
}
#: And to one on PostgreSQL. Only there are processes frozen for longer than their leases: another one takes over.
LARGE_FAULTS: Final[Mapping[str, Kind]] = {
    **{name: kind for name, kind in EMBEDDED_FAULTS.items() if name != "host: no space on disk"},  # it writes no file
    "web: kill -9": Kind(_kill_part(_WEB), 3),
    "web: freeze": Kind(_freeze_part(_WEB, 8.0), 3),
    "host: kill -9": Kind(_kill_part(_HOST), 4),
    "host: freeze": Kind(_freeze_part(_HOST, 8.0), 6),
    "database: locked": Kind(_lock_table, 3),
    "database: crash": Kind(_outage(_crash), 3),
    "database: freeze": Kind(_outage(_freeze_server), 3),
    "database: kill -9 of a backend": Kind(_kill_backend, 3),
    "database: connections cut": Kind(_cut_connections, 3),
}


def faults_of(deployment: Deployment) -> Mapping[str, Kind]:
    """Every kind of fault that can happen there."""
    return EMBEDDED_FAULTS if deployment.server is None else LARGE_FAULTS
