"""Evaluations and their reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import EvaluationState, Report
from gridtune_steering.bookkeeping.schema import Record, evaluations, points, reports, tasks
from gridtune_steering.bookkeeping.statements import Upsert

_IS = evaluations.c.id == sa.bindparam("evaluation")
_INSERT = sa.insert(evaluations)
_FIND = sa.select(evaluations).where(_IS)
# the point goes first, as in all transactions, so that none waits for another in a circle
_LOCK = (
    sa.select(evaluations)
    .select_from(
        points.join(
            evaluations, sa.and_(points.c.task_id == evaluations.c.task_id, points.c.number == evaluations.c.point)
        )
    )
    .where(_IS)
    .with_for_update(of=[points, evaluations])
)
_UPDATE = sa.update(evaluations).where(_IS)
_RENEW = _UPDATE.where(evaluations.c.state == EvaluationState.RUNNING.value).values(
    lease_expires_at=sa.bindparam("until")
)
_HOLD = _RENEW.where(evaluations.c.epoch == sa.bindparam("p_epoch")).returning(evaluations.c.watched_until)
_HOLD_OF_TASK = _HOLD.where(evaluations.c.task_id == sa.bindparam("task"))
_OWNER = sa.select(tasks.c.id, tasks.c.owner).join(evaluations, evaluations.c.task_id == tasks.c.id).where(_IS)
_REPORT = Upsert(reports, keys=("evaluation_id", "step"))


def insert(connection: Connection, **values: Any) -> None:
    """Add an evaluation."""
    connection.execute(_INSERT, values)


def find(connection: Connection, evaluation: str) -> Record | None:
    """An evaluation by its id."""
    return connection.execute(_FIND, {"evaluation": evaluation}).one_or_none()


def find_for_update(connection: Connection, evaluation: str) -> Record | None:
    """An evaluation by its id, as it is once it and its point are locked until the transaction ends."""
    return connection.execute(_LOCK, {"evaluation": evaluation}).one_or_none()


def hold(
    connection: Connection, evaluation: str, epoch: int, *, until: datetime, task: str | None = None
) -> Record | None:
    """Renew the lease of a running evaluation of this epoch; `watched_until`, or None if there is no such.

    If a task is given, it has to be one of this task.
    """
    names = {"evaluation": evaluation, "p_epoch": epoch, "until": until}
    if task is None:
        return connection.execute(_HOLD, names).one_or_none()
    return connection.execute(_HOLD_OF_TASK, {**names, "task": task}).one_or_none()


def owner(connection: Connection, evaluation: str) -> Record | None:
    """Id and owner of an evaluation's task."""
    return connection.execute(_OWNER, {"evaluation": evaluation}).one_or_none()


def renew(connection: Connection, evaluation: str, *, until: datetime) -> bool:
    """Renew the lease of a running evaluation; False if it runs no more."""
    return connection.execute(_RENEW, {"evaluation": evaluation, "until": until}).rowcount == 1


def recover(connection: Connection, evaluation: str, *, until: datetime) -> None:
    """Give a lost evaluation its lease back."""
    connection.execute(
        sa.update(evaluations)
        .where(evaluations.c.id == evaluation)
        .values(state=EvaluationState.RUNNING.value, ended_at=None, message="", lease_expires_at=until)
    )


def end(connection: Connection, evaluation: str, *, state: EvaluationState, now: datetime, **values: Any) -> None:
    """Close an evaluation."""
    connection.execute(_UPDATE, {"evaluation": evaluation, "state": state.value, "ended_at": now, **values})


def stop_running(connection: Connection, task: str, *, now: datetime, message: str) -> Sequence[Record]:
    """Close every running evaluation of a task as stopped; returns their ids and points."""
    return connection.execute(
        sa.update(evaluations)
        .where(evaluations.c.task_id == task, evaluations.c.state == EvaluationState.RUNNING.value)
        .values(state=EvaluationState.STOPPED.value, ended_at=now, message=message)
        .returning(evaluations.c.id, evaluations.c.point)
    ).all()


def expired(connection: Connection, *, now: datetime, limit: int) -> Sequence[Record]:
    """Running evaluations whose lease is over; look again once their point is locked."""
    query = sa.select(evaluations).where(
        evaluations.c.state == EvaluationState.RUNNING.value, evaluations.c.lease_expires_at < now
    )
    return connection.execute(query.order_by(evaluations.c.lease_expires_at).limit(limit)).all()


def of_task(connection: Connection, task: str) -> Sequence[Record]:
    """All evaluations of a task by point and epoch."""
    query = sa.select(evaluations).where(evaluations.c.task_id == task)
    return connection.execute(query.order_by(evaluations.c.point, evaluations.c.epoch)).all()


def of_point(connection: Connection, task: str, number: int) -> Sequence[Record]:
    """All evaluations of a point, oldest first."""
    query = sa.select(evaluations).where(evaluations.c.task_id == task, evaluations.c.point == number)
    return connection.execute(query.order_by(evaluations.c.epoch)).all()


def seconds_to_first_report(connection: Connection, task: str, *, limit: int) -> list[float]:
    """How long the evaluations of the newest points took from their start to their first report."""
    newest = (
        sa.select(evaluations.c.id, evaluations.c.started_at)
        .where(evaluations.c.task_id == task)
        .order_by(evaluations.c.point.desc(), evaluations.c.epoch.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        sa.select(newest.c.started_at, sa.func.min(reports.c.at, type_=reports.c.at.type))
        .join(reports, reports.c.evaluation_id == newest.c.id)
        .group_by(newest.c.id, newest.c.started_at)
    )
    return [(first - started).total_seconds() for started, first in connection.execute(query)]


def seconds_of_done(connection: Connection, task: str, *, limit: int) -> list[float]:
    """How long the evaluations took that finished the newest points."""
    query = (
        sa.select(evaluations.c.started_at, evaluations.c.ended_at)
        .where(evaluations.c.task_id == task, evaluations.c.state == EvaluationState.DONE.value)
        .order_by(evaluations.c.point.desc(), evaluations.c.epoch.desc())
        .limit(limit)
    )
    return [(ended - started).total_seconds() for started, ended in connection.execute(query)]


def add_reports(connection: Connection, evaluation: str, items: Sequence[Report], *, now: datetime) -> None:
    """Store reports; a step that is known already keeps its first report."""
    if not items:
        return
    rows = [
        {"evaluation_id": evaluation, "step": item.step, "metrics": dict(item.metrics), "at": now}
        for item in {item.step: item for item in reversed(items)}.values()
    ]
    _REPORT(connection, *rows)


def reports_of_task(connection: Connection, task: str) -> Sequence[Record]:
    """All reports of a task by point, epoch and step."""
    query = sa.select(reports).join(evaluations).where(evaluations.c.task_id == task)
    return connection.execute(query.order_by(evaluations.c.point, evaluations.c.epoch, reports.c.step)).all()


def reports_of_point(connection: Connection, task: str, number: int) -> Sequence[Record]:
    """All reports of a point by epoch and step."""
    query = (
        sa.select(reports)
        .join(evaluations)
        .where(evaluations.c.task_id == task, evaluations.c.point == number)
        .order_by(evaluations.c.epoch, reports.c.step)
    )
    return connection.execute(query).all()
