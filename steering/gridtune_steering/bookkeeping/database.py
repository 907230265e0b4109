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
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gridtune_common.errors import ConfigurationError

#: What is raised when the database is away, busy, or has given a transaction up: whoever asked may try again.
TROUBLE = (OperationalError, InterfaceError, InternalError, PoolTimeout)
#: How long SQLite waits for another process's transaction, in seconds.
_BUSY_TIMEOUT = 30.0
_MIGRATIONS = Path(__file__).parent / "migrations"
#: How PostgreSQL guards itself against a process of ours that was stopped in the middle, or that hangs.
_SERVER_LIMITS = {
    "idle_in_transaction_session_timeout": "15s",
    "lock_timeout": "20s",
    "statement_timeout": "60s",
    "timezone": "UTC",
}
_CONNECTION = {"connect_timeout": 10, "application_name": "gridtune", "tcp_user_timeout": 20_000, "keepalives_idle": 10}
#: Advisory locks of ours: what the first of two numbers says that the second is about.
_MIGRATING, _WRITING = 7_021, 7_022
_ALONE = sa.text("SELECT pg_advisory_xact_lock(:kind, hashtext(:topic))")


class Database:
    """Connections to one database. Safe to share between threads, not between processes: make one after a fork.

    Args:
        url: An SQLAlchemy URL; ``postgresql://`` means the driver psycopg.
        connections: The most that PostgreSQL is asked for at a time.
        migrations: The folder of the schema's history.

    Raises:
        ConfigurationError: The URL cannot be used here.
    """

    def __init__(self, url: str, *, connections: int = 10, migrations: Path = _MIGRATIONS) -> None:
        parsed = _parsed(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        self._engine = _sqlite(parsed) if is_sqlite else _server(parsed, connections)
        self._writer = self._engine.execution_options(begin="IMMEDIATE") if is_sqlite else self._engine
        # one state for a whole block of reads: SQLite gives it anyway, PostgreSQL has to be asked
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reader = self._engine if is_sqlite else self._engine.execution_options(**snapshot)
        # SQLite has one writer at a time and makes others poll for their turn; threads of one process queue here
        self._turn = threading.Lock() if is_sqlite else None
        self._migrations = migrations

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

    @contextmanager
    def read_settled(self, topic: str) -> Iterator[Connection]:
        """Like `read`, while no transaction that has an `announcement` of this topic is under way.

        What such transactions number while they run may become visible in another order; here there are no gaps.
        """
        if self._turn is not None:
            with self.read() as connection:
                yield connection
            return
        with self._engine.begin() as connection:
            _lock(connection, _WRITING, topic)
            yield connection

    @property
    def is_embedded(self) -> bool:
        """Whether it is a file that one machine's processes use."""
        return self._turn is not None

    def revision(self) -> str | None:
        """The schema's revision; None for an empty database."""
        from alembic.migration import MigrationContext

        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def path_from(self, revision: str | None, *, finish: bool) -> list[str]:
        """The revisions that are missing, oldest first.

        A revision whose module says ``step = "contract"`` takes away what older versions of the program need: it and
        what comes after it are left out unless *finish* is set.
        """
        from alembic.script import ScriptDirectory

        path: list[str] = []
        scripts = ScriptDirectory(str(self._migrations))
        for script in reversed(list(scripts.iterate_revisions("head", revision or "base"))):
            if not finish and getattr(script.module, "step", "expand") == "contract":
                break
            path.append(script.revision)
        return path

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema up to date, or up to an older revision."""
        from alembic import command  # web processes and hosts, which do not migrate, start the sooner without
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(self._migrations))
        with self.write() as connection:
            if self._turn is None:
                _lock(connection, _MIGRATING, "")
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


def in_short(error: Exception) -> str:
    """What went wrong with the database, in one line: an outage is told of again and again."""
    cause = getattr(error, "orig", None) or error
    return next(iter(str(cause).splitlines()), type(cause).__name__)


def sqlite_file(url: str) -> Path | None:
    """The file of a database; None if it is no SQLite.

    Raises:
        ConfigurationError: The URL cannot be used here.
    """
    parsed = _parsed(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def announcement(topic: sa.ColumnElement[str]) -> sa.FromClause:
    """For PostgreSQL, a table of one row: who selects from it lets `Database.read_settled` wait for its transaction."""
    return sa.func.pg_advisory_xact_lock_shared(_WRITING, sa.func.hashtext(topic)).table_valued("lock")


def _lock(connection: Connection, kind: int, topic: str) -> None:
    connection.execute(_ALONE, {"kind": kind, "topic": topic})


def _parsed(url: str) -> URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigurationError(
            "GRIDTUNE_STEERING_DATABASE is no URL: postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    if parsed.drivername in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        kind = parsed.get_backend_name()
        raise ConfigurationError(f"GRIDTUNE_STEERING_DATABASE: {kind!r} is not supported; use postgresql or sqlite")
    return parsed


def _server(url: URL, connections: int) -> Engine:
    limits = " ".join(f"-c {name}={value}" for name, value in _SERVER_LIMITS.items())
    try:
        return sa.create_engine(
            url,
            connect_args={**_CONNECTION, "options": limits},
            pool_size=connections,
            max_overflow=0,
            pool_use_lifo=True,  # few connections are kept warm instead of all lukewarm
            json_serializer=_json,
            hide_parameters=True,  # they hold what users wrote, and errors are logged
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError("PostgreSQL needs psycopg: pip install 'gridtune[postgresql]'") from error


def _sqlite(url: URL) -> Engine:
    engine = sa.create_engine(
        url,
        connect_args={"timeout": _BUSY_TIMEOUT},
        pool_size=16,
        max_overflow=64,
        json_serializer=_json,
        hide_parameters=True,
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
