"""Transactions: on SQLite for one machine, on PostgreSQL for a service."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

#: How long SQLite waits for another process's transaction, in seconds.
_BUSY_TIMEOUT = 30.0
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Connections to one database. Safe to share between threads, not between processes: make one after a fork.

    Args:
        url: An SQLAlchemy URL.
    """

    def __init__(self, url: str) -> None:
        self._engine = _sqlite(url) if url.startswith("sqlite") else _server(url)
        self._writer = self._engine.execution_options(begin="IMMEDIATE")
        is_sqlite = self._engine.dialect.name == "sqlite"
        # one state for a whole block of reads: SQLite gives it anyway, PostgreSQL has to be asked
        self._reader = self._engine if is_sqlite else self._engine.execution_options(isolation_level="REPEATABLE READ")
        # SQLite has one writer at a time and makes others poll for their turn; threads of one process queue here
        self._turn = threading.Lock() if is_sqlite else None

    @property
    def engine(self) -> Engine:
        """The engine, for migrations and tests."""
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is durable when the block ends well, and without effect when it raises."""
        if self._turn is None:
            with self._writer.begin() as connection:
                yield connection
            return
        with self._turn, self._writer.begin() as connection:
            yield connection

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema up to date, or up to an older revision."""
        from alembic import command  # web processes and hosts, which do not migrate, start the sooner without
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with self.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


def _server(url: str) -> Engine:
    return sa.create_engine(url, pool_pre_ping=True, json_serializer=_json, hide_parameters=True)


def _sqlite(url: str) -> Engine:
    engine = sa.create_engine(
        url,
        connect_args={"timeout": _BUSY_TIMEOUT},
        pool_size=16,
        max_overflow=64,
        json_serializer=_json,
        hide_parameters=True,  # they hold what users wrote, and errors are logged
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by its own rules
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # acknowledged means durable, also when the power fails
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN " + connection.get_execution_options().get("begin", "DEFERRED"))

    return engine


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
