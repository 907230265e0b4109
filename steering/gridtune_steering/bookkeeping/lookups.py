"""What an ask, and the end of an evaluation, need to know: each in one round trip to the database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import EvaluationState, PointState
from gridtune_steering.bookkeeping import requests as requests_
from gridtune_steering.bookkeeping.schema import Record, askers, evaluations, points, requests, tasks, waiting, workers
from gridtune_steering.bookkeeping.statements import SideBySide
from gridtune_steering.bookkeeping.tasks import SLIM

_EARLIER = [requests.c.fingerprint, requests.c.answer]
_IS_EARLIER = sa.and_(requests.c.token_id == sa.bindparam("token"), requests.c.request_id == sa.bindparam("request"))

_ASK = SideBySide(task=SLIM, earlier=_EARLIER, host=list(workers.c), asker=list(askers.c))


def _first_ready(*which: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    """The first of a task's ready points; the order has the database go through their index, and no further."""
    is_ready = sa.and_(points.c.task_id == tasks.c.id, points.c.state == PointState.READY.value)
    return sa.select(points.c.number).where(is_ready, *which).order_by(points.c.number).limit(1).scalar_subquery()


# points are numbered from 0 without gaps: with its last one a task has used its budget up
_IS_USED_UP = sa.exists().where(points.c.task_id == tasks.c.id, points.c.number == tasks.c.max_points - 1)
_FOR_ASK = (
    sa.select(
        *_ASK.columns,
        _first_ready().is_not(None).label("has_ready"),
        _first_ready(points.c.attempts > 0).is_not(None).label("has_troubled"),
        _IS_USED_UP.label("is_used_up"),
        waiting.c.until.label("waits_until"),
    )
    .select_from(
        tasks.outerjoin(requests, _IS_EARLIER)
        .outerjoin(workers, sa.and_(workers.c.site == sa.bindparam("p_site"), workers.c.host == sa.bindparam("p_host")))
        .outerjoin(askers, sa.and_(askers.c.task_id == tasks.c.id, askers.c.worker == sa.bindparam("p_worker")))
        .outerjoin(waiting, sa.and_(waiting.c.task_id == tasks.c.id, waiting.c.worker == sa.bindparam("p_worker")))
    )
    .where(tasks.c.id == sa.bindparam("task"))
)

_END = SideBySide(
    evaluation=list(evaluations.c),
    point=list(points.c),
    task=SLIM,
    earlier=_EARLIER,
    host=list(workers.c),
    asker=list(askers.c),
)
# as services.retries.Place has it
_ITS_HOST = sa.case((evaluations.c.host == "", evaluations.c.worker), else_=evaluations.c.host)
# the point goes first, as in all transactions, so that none waits for another in a circle
_FOR_END = (
    sa.select(*_END.columns)
    .select_from(
        points.join(
            evaluations, sa.and_(points.c.task_id == evaluations.c.task_id, points.c.number == evaluations.c.point)
        )
        .join(tasks, tasks.c.id == evaluations.c.task_id)
        .outerjoin(requests, _IS_EARLIER)
        .outerjoin(workers, sa.and_(workers.c.site == evaluations.c.site, workers.c.host == _ITS_HOST))
        .outerjoin(askers, sa.and_(askers.c.task_id == tasks.c.id, askers.c.worker == evaluations.c.worker))
    )
    .where(evaluations.c.id == sa.bindparam("evaluation"))
    .with_for_update(of=[points, evaluations])
)


@dataclass(frozen=True, slots=True)
class ForAsk:
    """What there is for an ask.

    Attributes:
        task: The task, without what was submitted; None if there is no such task.
        earlier: The answer to the same request.
        host: The host of the worker that asks.
        asker: The worker's own note.
        has_ready: Whether there is a point for somebody.
        has_troubled: Whether a ready point has come back from a failure or a loss.
        is_used_up: Whether the task has all points that its budget allows.
        waits_until: Until when the worker is noted as waiting for a point.
    """

    task: Record | None
    earlier: Record | None
    host: Record | None
    asker: Record | None
    has_ready: bool
    has_troubled: bool
    is_used_up: bool
    waits_until: datetime | None


@dataclass(frozen=True, slots=True)
class ForEnd:
    """What there is for the end of an evaluation, which is locked with its point until the transaction ends.

    All but these two, and the answer if there is one, are as they were when the lock was asked for.
    """

    evaluation: Record
    point: Record
    task: Record
    earlier: Record | None
    host: Record | None
    asker: Record | None


_NOTHING = ForAsk(None, None, None, None, has_ready=False, has_troubled=False, is_used_up=False, waits_until=None)


def for_ask(
    connection: Connection, task: str, *, token: str, request_id: str, worker: str, site: str, host: str
) -> ForAsk:
    """What an ask needs to know."""
    names = {"task": task, "token": token, "request": request_id, "p_worker": worker, "p_site": site, "p_host": host}
    row = connection.execute(_FOR_ASK, names).one_or_none()
    if row is None:
        return _NOTHING
    ready = bool(row.has_ready), bool(row.has_troubled), bool(row.is_used_up)
    task_, earlier, its_host, asker = _ASK.split(row)
    return ForAsk(task_, earlier, its_host, asker, *ready, row.waits_until)


def for_end(connection: Connection, evaluation: str, *, token: str, request_id: str) -> ForEnd | None:
    """What the end of an evaluation needs to know; None if there is no such evaluation."""
    names = {"evaluation": evaluation, "token": token, "request": request_id}
    row = connection.execute(_FOR_END, names).one_or_none()
    if row is None:
        return None
    found = ForEnd(*cast("list[Record]", _END.split(row)))
    if found.earlier is None and found.evaluation.state != EvaluationState.RUNNING.value:
        # it may have ended, by the same request, while this one waited for the lock
        return replace(found, earlier=requests_.find(connection, token, request_id))
    return found
