"""Rings through PostgreSQL, to processes on any machine: NOTIFY and LISTEN.

A ring gets lost while the database is away. Pools that give a connection to another client after each transaction
(PgBouncer's transaction mode) lose all of them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeAlias

import psycopg

from gridtune_steering.doorbell.port import ALL, read_ring, ring_text

#: Channel, task, and for how many.
_Ring: TypeAlias = tuple[str, str, int]
_log = logging.getLogger("gridtune.doorbell")
_HOSTS, _ASKERS = "gridtune_hosts", "gridtune_askers"
#: Seconds to leave a database alone that does not answer.
_PAUSE = 1.0
#: A ring is no news that has to be on disk before the next one.
_OPTIONS = "-c synchronous_commit=off"
_LIVELINESS: Mapping[str, Any] = {"connect_timeout": 10, "keepalives_idle": 10, "tcp_user_timeout": 20_000}


class PostgresBell:
    """Rings every listener on the same database. Rings that come while one is sent are sent together.

    Args:
        url: The database, as in the service's settings.
    """

    def __init__(self, url: str) -> None:
        self._url = _plain(url)
        self._rings: queue.SimpleQueue[_Ring | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send, name="doorbell", daemon=True)
        self._thread.start()

    def ring_hosts(self, task: str) -> None:
        """Tell optimizer hosts that something happened to a task."""
        self._rings.put((_HOSTS, task, 1))

    def ring_askers(self, task: str, n: int = ALL) -> None:
        """Tell so many waiting asks that a task may have a point for them, or all that it has ended."""
        self._rings.put((_ASKERS, task, n))

    def listen_as_host(self) -> PostgresListener:
        """Open a listener for an optimizer host."""
        return PostgresListener(self._url, _HOSTS)

    def listen_as_asker(self) -> PostgresListener:
        """Open a listener for a web process."""
        return PostgresListener(self._url, _ASKERS)

    def close(self) -> None:
        """Put the bell away, when what was rung is sent."""
        self._rings.put(None)
        self._thread.join()

    def remove(self) -> None:
        """Nothing of it is on this machine."""

    def _send(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        is_open = True
        while is_open:
            batch = self._next()
            rings = _together(ring for ring in batch if ring is not None)
            is_open = None not in batch
            try:
                if connection is None:
                    connection = psycopg.connect(self._url, autocommit=True, options=_OPTIONS, **_LIVELINESS)
                connection.execute(
                    "SELECT pg_notify(channel, ring) FROM unnest(%s::text[], %s::text[]) AS rings (channel, ring)",
                    [[channel for channel, _ in rings], [ring_text(task, n) for (_, task), n in rings.items()]],
                )
            except psycopg.Error as error:
                _log.warning("rings are lost: %s", str(error).splitlines()[0], extra={"action": "rings_lost"})
                _give_up(connection)
                connection = None
        if connection is not None:
            connection.close()

    def _next(self) -> list[_Ring | None]:
        """All rings that are there, when there is at least one."""
        rings = [self._rings.get()]
        while not self._rings.empty():
            rings.append(self._rings.get())
        return rings


class PostgresListener:
    """The ear of one process: a connection of its own, made anew when it breaks.

    A database that is away when it is opened is no different from one that goes away later.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url, self._channel = url, channel
        self._connection: psycopg.Connection[Any] | None = None
        with self._giving_up():
            self._connection = self._connect()

    def wait(self, timeout: float) -> Counter[str]:
        """Wait for rings for at most *timeout* seconds; returns all that are there: for how many, by task."""
        rang: Counter[str] = Counter()
        with self._giving_up():
            if self._connection is None:
                self._connection = self._connect()
            _hear(rang, self._connection.notifies(timeout=timeout, stop_after=1))
            _hear(rang, self._connection.notifies(timeout=0))
        return rang

    def close(self) -> None:
        """Take the ear away."""
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> PostgresListener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Do without a connection that breaks, or that cannot be made, until the next time."""
        try:
            yield
        except psycopg.Error as error:
            _log.warning("nothing is heard: %s", str(error).splitlines()[0], extra={"action": "deaf"})
            _give_up(self._connection)
            self._connection = None

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._url, autocommit=True, **_LIVELINESS)
        connection.execute(f"LISTEN {self._channel}")
        return connection


def _together(rings: Iterable[_Ring]) -> Counter[tuple[str, str]]:
    """For how many there was a ring, by channel and task."""
    found: Counter[tuple[str, str]] = Counter()
    for channel, task, n in rings:
        found[channel, task] += n
    return found


def _hear(rang: Counter[str], notes: Iterable[psycopg.Notify]) -> None:
    for note in notes:
        task, n = read_ring(note.payload)
        rang[task] += n


def _give_up(connection: psycopg.Connection[Any] | None) -> None:
    """Give a connection up that the database has left, and the database some time."""
    if connection is not None:
        connection.close()
    time.sleep(_PAUSE)


def _plain(url: str) -> str:
    """An SQLAlchemy URL as libpq reads it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"
