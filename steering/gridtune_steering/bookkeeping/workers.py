"""The machines that workers run on: counters, and whether they are set aside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.circumstances import at_work
from gridtune_steering.bookkeeping.schema import Record, workers
from gridtune_steering.bookkeeping.statements import Upsert

_NEW = {
    "done": 0,
    "failed": 0,
    "lost": 0,
    "failures_in_a_row": 0,
    "streak": [],
    "times_set_aside": 0,
    "reason": "",
}


_IS = sa.and_(workers.c.site == sa.bindparam("p_site"), workers.c.host == sa.bindparam("p_host"))
_FIND = sa.select(workers).where(_IS)
_LOCK = _FIND.with_for_update()
_UPDATE = sa.update(workers).where(_IS)
_SEE = Upsert(workers, keys=("site", "host"), change=("last_seen_at",))
_COUNT_DONE = (
    sa.update(workers)
    .where(_IS, workers.c.failures_in_a_row == 0, workers.c.times_set_aside == 0)
    .values(done=workers.c.done + 1, last_seen_at=sa.bindparam("now"))
)


def find(connection: Connection, site: str, host: str) -> Record | None:
    """A host."""
    return connection.execute(_FIND, _named(site, host)).one_or_none()


def see(connection: Connection, site: str, host: str, *, now: datetime) -> None:
    """Note that a host is there."""
    _SEE(connection, {"site": site, "host": host, "last_seen_at": now, **_NEW})


def count_done(connection: Connection, site: str, host: str, *, now: datetime) -> bool:
    """Count a result of a host without failures; False if it is new or has some, and then nothing was counted."""
    return connection.execute(_COUNT_DONE, {**_named(site, host), "now": now}).rowcount == 1


def take(connection: Connection, site: str, host: str, *, now: datetime) -> Record:
    """A host, made if it is new, locked until the transaction ends."""
    see(connection, site, host, now=now)
    return connection.execute(_LOCK, _named(site, host)).one()


def update(connection: Connection, site: str, host: str, **values: Any) -> None:
    """Change columns of a host."""
    connection.execute(_UPDATE, {**_named(site, host), **values})


def add_lost(connection: Connection, site: str, host: str, n: int) -> None:
    """Count evaluations that were lost; a negative number takes losses back."""
    connection.execute(_UPDATE.values(lost=workers.c.lost + n), _named(site, host))


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


def _named(site: str, host: str) -> dict[str, str]:
    return {"p_site": site, "p_host": host}
