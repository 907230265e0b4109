"""Questions across evaluations: what tells a bad node from a bad training, and going on from standing still."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import EvaluationState, ObjectKind
from gridtune_steering.bookkeeping.schema import Record, evaluations, objects, reports

#: A worker that does not name its host is a host of its own.
_HOST = sa.case((evaluations.c.host == "", evaluations.c.worker), else_=evaluations.c.host)


def at_work(site: sa.ColumnElement[str], host: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether anything is evaluated on the host of another query's row right now."""
    return sa.exists().where(
        evaluations.c.state == EvaluationState.RUNNING.value, evaluations.c.site == site, _HOST == host
    )


def _at(site: str, host: str) -> sa.ColumnElement[bool]:
    return sa.and_(evaluations.c.site == site, _HOST == host)


def runs_elsewhere(connection: Connection, task: str, site: str, host: str) -> bool:
    """Whether a point of this task is evaluated on another host right now."""
    query = sa.select(evaluations.c.id).where(
        evaluations.c.state == EvaluationState.RUNNING.value,
        evaluations.c.task_id == task,
        sa.not_(_at(site, host)),
    )
    return connection.execute(query.limit(1)).first() is not None


def ran_since(connection: Connection, task: str, at: datetime) -> bool:
    """Whether a point of this task is evaluated right now, or an evaluation has ended since then."""
    is_running = evaluations.c.state == EvaluationState.RUNNING.value
    query = sa.select(evaluations.c.id).where(
        evaluations.c.task_id == task, sa.or_(is_running, evaluations.c.ended_at > at)
    )
    return connection.execute(query.limit(1)).first() is not None


def runs_at(connection: Connection, site: str, host: str) -> bool:
    """Whether anything is evaluated on a host right now."""
    query = sa.select(evaluations.c.id).where(evaluations.c.state == EvaluationState.RUNNING.value, _at(site, host))
    return connection.execute(query.limit(1)).first() is not None


def succeeded_elsewhere(connection: Connection, task: str, site: str, host: str) -> bool:
    """Whether a point of this task was done on another host."""
    query = sa.select(evaluations.c.id).where(
        evaluations.c.task_id == task, evaluations.c.state == EvaluationState.DONE.value, sa.not_(_at(site, host))
    )
    return connection.execute(query.limit(1)).first() is not None


def alike(connection: Connection, task: str, likeness: str, *, since: datetime) -> tuple[int, int]:
    """Of how many points, and on how many hosts, evaluations failed in this way since then."""
    query = (
        sa.select(evaluations.c.point, evaluations.c.site, _HOST)
        .where(evaluations.c.task_id == task, evaluations.c.likeness == likeness, evaluations.c.ended_at >= since)
        .distinct()
    )
    rows = connection.execute(query).all()
    return len({row[0] for row in rows}), len({(row[1], row[2]) for row in rows})


def running(connection: Connection) -> Sequence[Record]:
    """Task, worker, its place and resources of all that is evaluated right now, and until when its lease holds."""
    names = ("task_id", "worker", "site", "host", "resources", "lease_expires_at")
    columns = [evaluations.c[name] for name in names]
    query = sa.select(*columns).where(evaluations.c.state == EvaluationState.RUNNING.value)
    return connection.execute(query).all()


def last_step_before(connection: Connection, task: str, number: int, epoch: int) -> int | None:
    """The highest step that was reported of a point before this epoch."""
    query = (
        sa.select(sa.func.max(reports.c.step))
        .join(evaluations, evaluations.c.id == reports.c.evaluation_id)
        .where(evaluations.c.task_id == task, evaluations.c.point == number, evaluations.c.epoch < epoch)
    )
    step: int | None = connection.execute(query).scalar_one()
    return step


def last_step(connection: Connection, evaluation: str) -> int | None:
    """The highest step that an evaluation reported."""
    query = sa.select(sa.func.max(reports.c.step)).where(reports.c.evaluation_id == evaluation)
    step: int | None = connection.execute(query).scalar_one()
    return step


def left_new_checkpoint(connection: Connection, evaluation: Record) -> bool:
    """Whether an evaluation left a checkpoint that goes further than those of earlier ones."""
    of_point = [
        objects.c.task_id == evaluation.task_id,
        objects.c.point == evaluation.point,
        objects.c.kind == ObjectKind.CHECKPOINT.value,
        objects.c.committed_at.is_not(None),
    ]
    others = sa.select(sa.func.max(objects.c.step)).where(*of_point, objects.c.evaluation_id != evaluation.id)
    known = connection.execute(others).scalar_one()
    query = sa.select(objects.c.number).where(*of_point, objects.c.evaluation_id == evaluation.id)
    if known is not None:
        query = query.where(sa.or_(objects.c.step.is_(None), objects.c.step > known))
    return connection.execute(query.limit(1)).first() is not None
