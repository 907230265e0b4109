"""The optimizer hosts that run, how busy they are, and which tasks each owns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import PointState, TaskState
from gridtune_steering.bookkeeping.points import OBSERVABLE
from gridtune_steering.bookkeeping.schema import Record, known_results, optimizer_hosts, points, tasks, waiting, wishes
from gridtune_steering.bookkeeping.statements import Upsert

_SEE = Upsert(optimizer_hosts, keys=("name",), change=("seen_at", "load"))

_NEEDS = sa.select(
    *(tasks.c[name] for name in ("id", "state", "host", "host_epoch", "ran_seconds", "running_since")),
    sa.exists().where(known_results.c.task_id == tasks.c.id, known_results.c.observed.is_(None)).label("has_foreign"),
    sa.exists().where(wishes.c.task_id == tasks.c.id, wishes.c.point.is_(None)).label("has_wishes"),
    sa.select(sa.func.count())
    .where(waiting.c.task_id == tasks.c.id, waiting.c.until > sa.bindparam("now", type_=waiting.c.until.type))
    .scalar_subquery()
    .label("n_waiting"),
    sa.select(sa.func.count())
    .where(points.c.task_id == tasks.c.id, points.c.state == PointState.READY.value)
    .scalar_subquery()
    .label("n_ready"),
).where(tasks.c.id == sa.bindparam("task"))

# --- hosts


def see(connection: Connection, name: str, *, version: str, load: float, now: datetime) -> None:
    """Note that a host is there, and how busy it is."""
    _SEE(connection, {"name": name, "version": version, "started_at": now, "seen_at": now, "load": load})


def forget(connection: Connection, name: str) -> None:
    """A host has left."""
    connection.execute(sa.delete(optimizer_hosts).where(optimizer_hosts.c.name == name))


def forget_before(connection: Connection, at: datetime) -> None:
    """Drop hosts that were not seen for long."""
    connection.execute(sa.delete(optimizer_hosts).where(optimizer_hosts.c.seen_at < at))


def seen_since(connection: Connection, at: datetime) -> Sequence[Record]:
    """Hosts that are there, by name."""
    query = sa.select(optimizer_hosts).where(optimizer_hosts.c.seen_at > at)
    return connection.execute(query.order_by(optimizer_hosts.c.name)).all()


# --- which of them owns a task


def _orphans(now: datetime) -> sa.ColumnElement[bool]:
    free = sa.or_(tasks.c.host_lease_until.is_(None), tasks.c.host_lease_until < now)
    return sa.and_(tasks.c.state == TaskState.RUNNING.value, free)


def has_orphans(connection: Connection, *, now: datetime) -> bool:
    """Whether there are running tasks that no live host owns."""
    return connection.execute(sa.select(tasks.c.id).where(_orphans(now)).limit(1)).first() is not None


def orphans(connection: Connection, *, now: datetime, limit: int) -> Sequence[Record]:
    """Running tasks that no live host owns, locked; those that gave no host trouble first, then the oldest."""
    query = sa.select(tasks).where(_orphans(now)).order_by(tasks.c.strikes, tasks.c.created_at).limit(limit)
    return connection.execute(query.with_for_update(skip_locked=True, key_share=True)).all()


def own(connection: Connection, host: str, names: Sequence[str], *, until: datetime) -> Sequence[Record]:
    """Give tasks to a host, which has a strike against each until it has got one round done; returns ids and epochs."""
    values = {
        "host": host,
        "host_epoch": tasks.c.host_epoch + 1,
        "host_lease_until": until,
        "strikes": tasks.c.strikes + 1,
    }
    statement = sa.update(tasks).where(tasks.c.id.in_(names)).values(values)
    return connection.execute(statement.returning(tasks.c.id, tasks.c.host_epoch)).all()


def renew(connection: Connection, host: str, names: Sequence[str], *, until: datetime, due: datetime) -> None:
    """Keep these tasks, as far as *host* owns them, if their leases end before *due*.

    One that somebody is changing just now waits for the next time.
    """
    is_kept = sa.and_(tasks.c.host == host, tasks.c.id.in_(names), tasks.c.host_lease_until < due)
    free = sa.select(tasks.c.id).where(is_kept).with_for_update(skip_locked=True, key_share=True)
    owned = connection.execute(free).scalars().all()
    if owned:
        connection.execute(sa.update(tasks).where(tasks.c.id.in_(owned)).values(host_lease_until=until))


def disown(connection: Connection, task: str) -> None:
    """Take a task from its host: its campaign is rebuilt from what is true now, by whoever claims it next."""
    _free(connection, tasks.c.id == task, host_epoch=tasks.c.host_epoch + 1, strikes=0, trouble="")


def give_up(connection: Connection, host: str, names: Sequence[str]) -> None:
    """Leave some tasks of *host* to others, at once; the strikes stay as they are."""
    _free(connection, sa.and_(tasks.c.host == host, tasks.c.id.in_(names)))


def give_up_all(connection: Connection, host: str) -> None:
    """Leave all tasks of *host* to others, at once; it meant well, so what it has not begun is no strike."""
    has_strike = sa.and_(tasks.c.host == host, tasks.c.strikes > 0)
    connection.execute(sa.update(tasks).where(has_strike).values(strikes=tasks.c.strikes - 1))
    _free(connection, tasks.c.host == host)


def _free(connection: Connection, which: sa.ColumnElement[bool], **more: Any) -> None:
    connection.execute(sa.update(tasks).where(which).values(host=None, host_lease_until=None, **more))


def needs(connection: Connection, task: str, *, now: datetime) -> Record | None:
    """Who owns a task, for how long it has run, and what there is for its host to do."""
    return connection.execute(_NEEDS, {"task": task, "now": now}).one_or_none()


def wanting(connection: Connection, host: str, *, now: datetime) -> Sequence[str]:
    """Of a host's tasks, those with results to learn, or with workers that wait for a point that may still be made."""
    unlearnt = sa.exists().where(
        points.c.task_id == tasks.c.id, points.c.observed.is_(None), points.c.state.in_(OBSERVABLE)
    )
    foreign = sa.exists().where(known_results.c.task_id == tasks.c.id, known_results.c.observed.is_(None))
    waited_for = sa.exists().where(waiting.c.task_id == tasks.c.id, waiting.c.until > now)
    # points are numbered from 0 without gaps: with its last one a task has used its budget up
    is_used_up = sa.exists().where(points.c.task_id == tasks.c.id, points.c.number == tasks.c.max_points - 1)
    is_wanted = sa.or_(unlearnt, foreign, sa.and_(waited_for, ~is_used_up))
    query = sa.select(tasks.c.id).where(tasks.c.host == host, is_wanted)
    return connection.execute(query).scalars().all()
