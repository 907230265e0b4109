"""Points, and the workers that wait for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import Metrics, Parameters, PointState
from gridtune_steering.bookkeeping.schema import Record, evaluations, points, waiting
from gridtune_steering.bookkeeping.statements import Upsert

#: States in which a point's result is known for good, and its optimizer has to learn it.
OBSERVABLE = (PointState.DONE.value, PointState.FAILED.value)
#: States of points that were trained as far as they should be.
_SUCCEEDED = (PointState.DONE.value, PointState.STOPPED.value)
#: States in which a point still needs a worker.
OPEN = (PointState.READY.value, PointState.RUNNING.value, PointState.PAUSED.value)
#: How many points are named in one query; databases limit the number of its parameters.
_MOST_NAMED = 1000


_IS = sa.and_(points.c.task_id == sa.bindparam("task"), points.c.number == sa.bindparam("p_number"))
_IS_READY = sa.and_(points.c.task_id == sa.bindparam("task"), points.c.state == PointState.READY.value)
_INSERT = sa.insert(points)
_FIND = sa.select(points).where(_IS)
_LOCK = _FIND.with_for_update()
_UPDATE = sa.update(points).where(_IS)


def _claiming(*which: sa.ColumnElement[bool]) -> sa.Update:
    """An UPDATE that gives the first of some ready points to an evaluation."""
    number = sa.select(points.c.number).where(_IS_READY, *which).order_by(points.c.number).limit(1)
    return (
        sa.update(points)
        .where(
            points.c.task_id == sa.bindparam("task"),
            points.c.number == number.with_for_update(skip_locked=True).scalar_subquery(),
        )
        .values(
            state=PointState.RUNNING.value,
            epoch=points.c.epoch + 1,
            evaluation_id=sa.bindparam("evaluation"),
            started_at=sa.func.coalesce(points.c.started_at, sa.bindparam("now", type_=points.c.started_at.type)),
        )
        .returning(points)
    )


_CLAIM = _claiming(points.c.number == sa.bindparam("p_number"))
_CLAIM_READY = _claiming(points.c.attempts == 0)
_TROUBLED = (
    sa.select(points.c.number, points.c.troubles)
    .where(_IS_READY, points.c.attempts > 0)
    .order_by(points.c.number)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_UNOBSERVED = (
    sa.select(points.c.number, points.c.state, points.c.metrics)
    .where(points.c.task_id == sa.bindparam("task"), points.c.observed.is_(None), points.c.state.in_(OBSERVABLE))
    .order_by(points.c.ended_at, points.c.number)
)
_OBSERVE = sa.update(points).where(_IS, points.c.state == sa.bindparam("known_state"))
_WAIT = Upsert(waiting, keys=("task_id", "worker"), change=("until",))
_WAIT_NO_MORE = sa.delete(waiting).where(
    waiting.c.task_id == sa.bindparam("task"), waiting.c.worker == sa.bindparam("p_worker")
)
_N_READY = sa.select(sa.func.count()).select_from(points).where(_IS_READY)


def insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add points."""
    if rows:
        connection.execute(_INSERT, [dict(row) for row in rows])


def find(connection: Connection, task: str, number: int) -> Record | None:
    """A point by its number."""
    return connection.execute(_FIND, {"task": task, "p_number": number}).one_or_none()


def find_for_update(connection: Connection, task: str, number: int) -> Record | None:
    """A point by its number, locked until the transaction ends."""
    return connection.execute(_LOCK, {"task": task, "p_number": number}).one_or_none()


def claim_ready(connection: Connection, task: str, evaluation: str, *, now: datetime) -> Record | None:
    """Let an evaluation have the untroubled ready point with the lowest number; so released ones go ahead of new ones.

    Returns:
        The point as it is now, an epoch later; None if there is none that is not being taken by somebody else.
    """
    return connection.execute(_CLAIM_READY, {"task": task, "evaluation": evaluation, "now": now}).one_or_none()


def claim(connection: Connection, task: str, number: int, evaluation: str, *, now: datetime) -> Record | None:
    """Like `claim_ready`, for a point of this number."""
    names = {"task": task, "p_number": number, "evaluation": evaluation, "now": now}
    return connection.execute(_CLAIM, names).one_or_none()


def troubled(connection: Connection, task: str, *, limit: int) -> Sequence[Record]:
    """Number and troubles of the first ready points that came back from a failure or a loss."""
    return connection.execute(_TROUBLED, {"task": task, "most": limit}).all()


def any_done(connection: Connection, task: str) -> bool:
    """Whether a point has a result."""
    query = sa.select(points.c.number).where(points.c.task_id == task, points.c.state.in_(_SUCCEEDED))
    return connection.execute(query.limit(1)).first() is not None


def update(connection: Connection, task: str, number: int, **values: Any) -> None:
    """Change columns of a point."""
    connection.execute(_UPDATE, {"task": task, "p_number": number, **values})


def cancel_open(connection: Connection, task: str, *, now: datetime) -> list[int]:
    """Cancel every point that still needs a worker; returns their numbers."""
    cancelled = connection.execute(
        sa.update(points)
        .where(points.c.task_id == task, points.c.state.in_(OPEN))
        .values(state=PointState.CANCELLED.value, ended_at=now)
        .returning(points.c.number)
    )
    return sorted(cancelled.scalars())


def counts(connection: Connection, tasks: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many points are in each state, by task and state."""
    query = sa.select(points.c.task_id, points.c.state, sa.func.count()).where(points.c.task_id.in_(tasks))
    found: dict[str, dict[str, int]] = {task: {} for task in tasks}
    for task, state, n in connection.execute(query.group_by(points.c.task_id, points.c.state)):
        found[task][state] = n
    return found


def count(connection: Connection, task: str) -> int:
    """How many points there are."""
    return connection.execute(sa.select(sa.func.count()).where(points.c.task_id == task)).scalar_one()


def every_parameters(connection: Connection, task: str) -> list[Parameters]:
    """What was or will be tried, by number."""
    query = sa.select(points.c.parameters).where(points.c.task_id == task)
    return list(connection.execute(query.order_by(points.c.number)).scalars())


def results(connection: Connection, task: str) -> Sequence[Record]:
    """Number, parameters and metrics of all done points, by number."""
    query = sa.select(points.c.number, points.c.parameters, points.c.metrics).where(
        points.c.task_id == task, points.c.state == PointState.DONE.value
    )
    return connection.execute(query.order_by(points.c.number)).all()


def count_ready(connection: Connection, task: str) -> int:
    """How many points wait for a worker."""
    return connection.execute(_N_READY, {"task": task}).scalar_one()


def best(connection: Connection, task: str, goal: str) -> Record | None:
    """The number and value of the done point with the best value; the first of equals."""
    order = points.c.value.asc() if goal == "minimize" else points.c.value.desc()
    query = sa.select(points.c.number, points.c.value).where(
        points.c.task_id == task, points.c.state == PointState.DONE.value
    )
    return connection.execute(query.order_by(order, points.c.number).limit(1)).one_or_none()


def done_metrics(connection: Connection, task: str) -> dict[int, Metrics]:
    """The final metrics of all done points, by number."""
    query = sa.select(points.c.number, points.c.metrics).where(
        points.c.task_id == task, points.c.state == PointState.DONE.value
    )
    return {number: metrics for number, metrics in connection.execute(query)}


def values(connection: Connection, task: str) -> list[float]:
    """The values of all done points, smallest first."""
    query = sa.select(points.c.value).where(points.c.task_id == task, points.c.state == PointState.DONE.value)
    return list(connection.execute(query.order_by(points.c.value)).scalars())


def page(connection: Connection, task: str, *, state: str | None, after: int, limit: int | None) -> Sequence[Record]:
    """Points after a number, in order, each with the worker and site of its newest evaluation."""
    query = _with_worker(task).where(points.c.number > after)
    if state is not None:
        query = query.where(points.c.state == state)
    return connection.execute(query.order_by(points.c.number).limit(limit)).all()


def chosen(connection: Connection, task: str, numbers: Sequence[int]) -> list[Record]:
    """Points of these numbers, in the order of the numbers, as in a page."""
    found: dict[int, Record] = {}
    for start in range(0, len(numbers), _MOST_NAMED):
        named = points.c.number.in_(numbers[start : start + _MOST_NAMED])
        found |= {row.number: row for row in connection.execute(_with_worker(task).where(named))}
    return [found[number] for number in numbers]


def _with_worker(task: str) -> sa.Select[tuple[Any, ...]]:
    return (
        sa.select(points, evaluations.c.worker, evaluations.c.site)
        .outerjoin(evaluations, evaluations.c.id == points.c.evaluation_id)
        .where(points.c.task_id == task)
    )


# --- what an optimizer host reads and writes


def history(connection: Connection, task: str) -> Sequence[Record]:
    """All points in order of their numbers, as a campaign is rebuilt from them."""
    return connection.execute(sa.select(points).where(points.c.task_id == task).order_by(points.c.number)).all()


def unobserved(connection: Connection, task: str) -> Sequence[Record]:
    """Points whose result the optimizer has not learnt, in order of their end."""
    return connection.execute(_UNOBSERVED, {"task": task}).all()


def observe(connection: Connection, task: str, learnt: Sequence[tuple[int, PointState, int]]) -> int:
    """Note, by number and state, the places of points in the order of learning.

    Returns:
        How many there were; a point whose state is another one by now is left alone.
    """
    if not learnt:
        return 0
    rows = [
        {"task": task, "p_number": number, "known_state": state.value, "observed": place}
        for number, state, place in learnt
    ]
    return connection.execute(_OBSERVE, rows).rowcount


def wait(connection: Connection, task: str, worker: str, *, until: datetime) -> None:
    """Note that a worker is free and expected to take a point until then."""
    _WAIT(connection, {"task_id": task, "worker": worker, "until": until})


def wait_no_more(connection: Connection, task: str, worker: str) -> None:
    """Note that a worker has got its point, or is gone."""
    connection.execute(_WAIT_NO_MORE, {"task": task, "p_worker": worker})


def forget_waiting_before(connection: Connection, at: datetime) -> None:
    """Drop workers that did not come back."""
    connection.execute(sa.delete(waiting).where(waiting.c.until < at))
