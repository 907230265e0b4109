"""The machines that workers run on: counters, and whether they are set aside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.circumstances import at_work
from gridtune_steering.bookkeeping.schema import Record, workers

_NEW = {
    "done": 0,
    "failed": 0,
    "lost": 0,
    "failures_in_a_row": 0,
    "streak": [],
    "times_set_aside": 0,
    "reason": "",
}


def find(connection: Connection, site: str, host: str) -> Record | None:
    """A host."""
    return connection.execute(sa.select(workers).where(*_is(site, host))).one_or_none()


def see(connection: Connection, site: str, host: str, *, now: datetime) -> None:
    """Note that a host is there."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(workers).values(site=site, host=host, last_seen_at=now, **_NEW)
    connection.execute(statement.on_conflict_do_update(index_elements=["site", "host"], set_={"last_seen_at": now}))


def take(connection: Connection, site: str, host: str, *, now: datetime) -> Record:
    """A host, made if it is new, locked until the transaction ends."""
    see(connection, site, host, now=now)
    return connection.execute(sa.select(workers).where(*_is(site, host)).with_for_update()).one()


def update(connection: Connection, site: str, host: str, **values: Any) -> None:
    """Change columns of a host."""
    connection.execute(sa.update(workers).where(*_is(site, host)).values(**values))


def add_lost(connection: Connection, site: str, host: str, n: int) -> None:
    """Count evaluations that were lost; a negative number takes losses back."""
    connection.execute(sa.update(workers).where(*_is(site, host)).values(lost=workers.c.lost + n))


def blamed_for(connection: Connection, task: str) -> Sequence[Record]:
    """Hosts that were set aside for a failure of this task, locked until the transaction ends."""
    query = sa.select(workers).where(workers.c.blamed_task == task).order_by(workers.c.site, workers.c.host)
    return connection.execute(query.with_for_update()).all()


def named(connection: Connection, host: str, site: str | None) -> Sequence[Record]:
    """Hosts of this name, at one site or at any, locked until the transaction ends."""
    query = sa.select(workers).where(workers.c.host == host)
    if site is not None:
        query = query.where(workers.c.site == site)
    return connection.execute(query.order_by(workers.c.site).with_for_update()).all()


def page(
    connection: Connection, *, seen_since: datetime | None, after: tuple[str, str] | None, limit: int
) -> Sequence[Record]:
    """Hosts by site and name; if a time is given, those that were seen since, are at work, or set aside."""
    query = sa.select(workers)
    if seen_since is not None:
        recent = [workers.c.last_seen_at > seen_since, workers.c.set_aside_until > seen_since]
        query = query.where(sa.or_(*recent, at_work(workers.c.site, workers.c.host)))
    if after is not None:
        query = query.where(sa.tuple_(workers.c.site, workers.c.host) > sa.tuple_(*map(sa.literal, after)))
    return connection.execute(query.order_by(workers.c.site, workers.c.host).limit(limit)).all()


def forget_before(connection: Connection, at: datetime) -> None:
    """Drop hosts that were not seen for long."""
    connection.execute(sa.delete(workers).where(workers.c.last_seen_at < at))


def _is(site: str, host: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return workers.c.site == site, workers.c.host == host
