"""Evaluations and their reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from gridtune_common.protocol import EvaluationState, Report
from gridtune_steering.bookkeeping.schema import Record, evaluations, reports


def insert(connection: Connection, **values: Any) -> None:
    """Add an evaluation."""
    connection.execute(sa.insert(evaluations).values(**values))


def find(connection: Connection, evaluation: str) -> Record | None:
    """An evaluation by its id."""
    return connection.execute(sa.select(evaluations).where(evaluations.c.id == evaluation)).one_or_none()


def renew(connection: Connection, evaluation: str, *, until: datetime) -> bool:
    """Renew the lease of a running evaluation; False if it runs no more."""
    return (
        connection.execute(
            sa.update(evaluations)
            .where(evaluations.c.id == evaluation, evaluations.c.state == EvaluationState.RUNNING.value)
            .values(lease_expires_at=until)
        ).rowcount
        == 1
    )


def recover(connection: Connection, evaluation: str, *, until: datetime) -> None:
    """Give a lost evaluation its lease back."""
    connection.execute(
        sa.update(evaluations)
        .where(evaluations.c.id == evaluation)
        .values(state=EvaluationState.RUNNING.value, ended_at=None, message="", lease_expires_at=until)
    )


def end(connection: Connection, evaluation: str, *, state: EvaluationState, now: datetime, **values: Any) -> None:
    """Close an evaluation."""
    connection.execute(
        sa.update(evaluations).where(evaluations.c.id == evaluation).values(state=state.value, ended_at=now, **values)
    )


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
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    rows = [
        {"evaluation_id": evaluation, "step": item.step, "metrics": dict(item.metrics), "at": now}
        for item in {item.step: item for item in reversed(items)}.values()
    ]
    connection.execute(dialect.insert(reports).on_conflict_do_nothing(), rows)


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
