"""Who asked for points of a task, and when last: so that a point can wait for a better place that is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, askers, waiting

#: More places than these need not be known to find a better one.
_MOST_PLACES = 200


def note(connection: Connection, task: str, worker: str, site: str, host: str, *, now: datetime) -> None:
    """A worker wants a point, or will soon."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    place = {"site": site, "host": host, "asked_at": now}
    statement = dialect.insert(askers).values(task_id=task, worker=worker, **place)
    connection.execute(statement.on_conflict_do_update(index_elements=["task_id", "worker"], set_=place))


def forget(connection: Connection, task: str, worker: str) -> None:
    """A worker is gone."""
    connection.execute(sa.delete(askers).where(askers.c.task_id == task, askers.c.worker == worker))


def forget_host(connection: Connection, site: str, host: str) -> None:
    """Nobody on this host gets a point for now."""
    connection.execute(sa.delete(askers).where(askers.c.site == site, askers.c.host == host))


def forget_before(connection: Connection, at: datetime) -> None:
    """Drop workers that have not asked for long."""
    connection.execute(sa.delete(askers).where(askers.c.asked_at < at))


def places(connection: Connection, task: str, *, since: datetime) -> Sequence[Record]:
    """The sites and hosts from which somebody asked for points of a task."""
    query = sa.select(askers.c.site, askers.c.host).where(askers.c.task_id == task, askers.c.asked_at > since)
    return connection.execute(query.distinct().limit(_MOST_PLACES)).all()


def waiting_places(connection: Connection, task: str, *, now: datetime) -> Sequence[Record]:
    """Where the workers are that wait for a point of a task, each with its worker; the place is null if unknown."""
    same = sa.and_(askers.c.task_id == waiting.c.task_id, askers.c.worker == waiting.c.worker)
    query = sa.select(waiting.c.worker, askers.c.site, askers.c.host).outerjoin(askers, same)
    return connection.execute(
        query.where(waiting.c.task_id == task, waiting.c.until > now).order_by(waiting.c.worker)
    ).all()


def since(connection: Connection, at: datetime) -> Sequence[Record]:
    """All workers that asked since then, with their tasks."""
    return connection.execute(sa.select(askers).where(askers.c.asked_at > at)).all()
