"""Who asked for points of a task, and when last: so that a point can wait for a better place that is there.

Workers that do not fit the task are remembered, too, but count for nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, askers, waiting
from gridtune_steering.bookkeeping.statements import Upsert

#: More places than these need not be known to find a better one.
_MOST_PLACES = 200


_NOTE = Upsert(askers, keys=("task_id", "worker"), change=("site", "host", "asked_at", "resources", "unfit"))
_FORGET = sa.delete(askers).where(askers.c.task_id == sa.bindparam("task"), askers.c.worker == sa.bindparam("p_worker"))


def note(
    connection: Connection,
    task: str,
    worker: str,
    site: str,
    host: str,
    *,
    resources: Mapping[str, Any],
    unfit: str = "",
    now: datetime,
) -> None:
    """A worker wants a point, or will soon; or it wants one but does not fit the task, and why."""
    known = {"site": site, "host": host, "asked_at": now, "resources": resources, "unfit": unfit}
    _NOTE(connection, {"task_id": task, "worker": worker, **known})


def forget(connection: Connection, task: str, worker: str) -> None:
    """A worker is gone."""
    connection.execute(_FORGET, {"task": task, "p_worker": worker})


def forget_host(connection: Connection, site: str, host: str) -> None:
    """Nobody on this host gets a point for now."""
    connection.execute(sa.delete(askers).where(askers.c.site == site, askers.c.host == host))


def forget_before(connection: Connection, at: datetime) -> None:
    """Drop workers that have not asked for long."""
    connection.execute(sa.delete(askers).where(askers.c.asked_at < at))


def places(connection: Connection, task: str, *, since: datetime) -> Sequence[Record]:
    """The sites and hosts from which somebody asked for points of a task that it fits."""
    query = sa.select(askers.c.site, askers.c.host).where(_asked(task, since), askers.c.unfit == "")
    return connection.execute(query.distinct().limit(_MOST_PLACES)).all()


def any_fit(connection: Connection, task: str, *, since: datetime) -> bool:
    """Whether a worker asked for points of a task that it fits."""
    query = sa.select(askers.c.worker).where(_asked(task, since), askers.c.unfit == "")
    return connection.execute(query.limit(1)).first() is not None


def unfit(connection: Connection, task: str, *, since: datetime) -> Sequence[Record]:
    """Why workers did not fit a task, each reason with the number ``n`` of such workers, the most frequent first."""
    n = sa.func.count().label("n")
    query = sa.select(askers.c.unfit, n).where(_asked(task, since), askers.c.unfit != "").group_by(askers.c.unfit)
    return connection.execute(query.order_by(n.desc(), askers.c.unfit)).all()


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


def _asked(task: str, since: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(askers.c.task_id == task, askers.c.asked_at > since)
