"""What grows while a simulation runs: rows, bytes, memory; and what the database's server computes for whom."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa
from benchmarks.scale.processes import cpu_seconds
from sqlalchemy import event

from gridtune_steering.bookkeeping import schema
from gridtune_steering.bookkeeping.database import Database

from .clock import Clock
from .journal import Journal

if TYPE_CHECKING:
    from .experiment import Experiment

#: Characters of a statement that tell it from others.
_STATEMENT_LENGTH = 400


@dataclass(frozen=True, slots=True)
class Look:
    """What there was at one moment.

    Attributes:
        rows: Of each table.
        sizes: Bytes of each table with its indexes; of SQLite, of the file.
        memory: Of this process, in MiB.
        campaigns: That the hosts have in memory.
        server: Processor seconds of the whole database server so far; None without one.
        backends: Processor seconds of the server's processes that serve the web side and the hosts.
    """

    seconds: float
    rows: dict[str, int]
    sizes: dict[str, int]
    memory: float
    campaigns: int
    server: float | None
    backends: dict[str, float]


class Growth:
    """Looks now and then, which costs the simulation no time."""

    def __init__(self, world: Experiment, server_pid: int | None) -> None:
        self.looks: list[Look] = []
        self._world = world
        self._server_pid = server_pid

    def look(self) -> None:
        """Look now."""
        world, pid = self._world, self._server_pid
        backends = {who: _backend_seconds(database) for who, database in world.databases.items()} if pid else {}
        server = cpu_seconds(pid) if pid else None
        with world.databases["web"].read() as connection:
            rows = {
                table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in schema.metadata.sorted_tables
            }
            sizes = _sizes(connection)
        self.looks.append(
            Look(
                seconds=world.agenda.now,
                rows=rows,
                sizes=sizes,
                memory=psutil.Process(os.getpid()).memory_info().rss / 2**20,
                campaigns=sum(each.host.n_campaigns for each in world.hosts),
                server=server,
                backends=backends,
            )
        )


def watch_statements(database: Database, who: str, clock: Clock, journal: Journal) -> None:
    """Note how long the database takes for each statement."""
    begun = 0.0

    def before(*_: Any) -> None:
        nonlocal begun
        begun = time.perf_counter()

    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        journal.stated(who, statement[:_STATEMENT_LENGTH], clock.seconds(), time.perf_counter() - begun)

    event.listen(database.engine, "before_cursor_execute", before)
    event.listen(database.engine, "after_cursor_execute", after)


def _backend_seconds(database: Database) -> float:
    with database.read() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _sizes(connection: sa.Connection) -> dict[str, int]:
    if connection.dialect.name == "sqlite":
        pages, size = (connection.exec_driver_sql(f"PRAGMA page_{name}").scalar_one() for name in ("count", "size"))
        return {"all": pages * size}
    found = connection.exec_driver_sql("SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'")
    known = set(schema.metadata.tables)
    return {name: size for name, size in found if name in known}
