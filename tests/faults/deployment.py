"""How the service under harm is set up: small, on SQLite, or large, with two processes of each kind on PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from servers.postgres import Postgres

#: Seconds to wait for a database that is away, and for a single answer of it.
_PATIENCE: Final = 30.0
_TIMEOUT: Final = 5


@dataclass(frozen=True)
class Deployment:
    """The service's database, past the service, and how many processes use it.

    Attributes:
        url: The database, as in the service's settings.
        flags: What ``gridtune serve`` is told.
        server: The database server; None for an embedded database.
    """

    url: str
    flags: Sequence[str] = ()
    server: Postgres | None = None

    @classmethod
    def embedded(cls, folder: Path) -> Deployment:
        """What ``gridtune serve`` is by itself."""
        return cls(f"sqlite:///{folder / 'data' / 'gridtune.db'}")

    @classmethod
    def large(cls, server: Postgres) -> Deployment:
        """Two web processes and two optimizer hosts, on a database of their own."""
        return cls(server.new_database(), ("--web", "2", "--hosts", "2"), server)

    @property
    def settings(self) -> dict[str, str]:
        """The service's settings for it."""
        return {} if self.server is None else {"GRIDTUNE_STEERING_DATABASE": self.url}

    def rows(self, query: str, **values: Any) -> Sequence[Any]:
        """What the database says, when it is there again."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with closing(self._connect()) as connection:
                    return connection.execute(sa.text(query), values).all()
            except sa.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def flaws(self) -> Iterator[str]:
        """What the database's own tools find wrong with it."""
        if self.server is not None:
            yield from self.server.flaws(self.url)
            return
        with closing(sqlite3.connect(sa.make_url(self.url).database or "")) as connection:
            yield from (said for (said,) in connection.execute("pragma integrity_check") if said != "ok")

    def _connect(self) -> sa.Connection:
        url = sa.make_url(self.url)
        if self.server is not None:
            url = url.set(drivername="postgresql+psycopg")
        timeout = "timeout" if self.server is None else "connect_timeout"
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args={timeout: _TIMEOUT}).connect()
