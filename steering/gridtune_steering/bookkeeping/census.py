"""Counts of what there is in the whole service. Each query costs what is at work, never what has been."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import EvaluationState, PointState, TaskState
from gridtune_steering.bookkeeping.points import OBSERVABLE
from gridtune_steering.bookkeeping.schema import evaluations, known_results, objects, points, tasks, waiting

_RUNNING = sa.select(tasks.c.id).where(tasks.c.state == TaskState.RUNNING.value)


def tasks_by_state(connection: Connection) -> dict[str, int]:
    """How many tasks are in each state that there is; one entry of an index a task."""
    query = sa.select(tasks.c.state, sa.func.count()).group_by(tasks.c.state)
    return {state: n for state, n in connection.execute(query)}


def running_by_site(connection: Connection) -> dict[str, int]:
    """How many evaluations run at each site."""
    query = sa.select(evaluations.c.site, sa.func.count()).where(evaluations.c.state == EvaluationState.RUNNING.value)
    return {site: n for site, n in connection.execute(query.group_by(evaluations.c.site))}


def n_waiting(connection: Connection, *, now: datetime) -> int:
    """How many free workers are expected to take a point, of any task."""
    return connection.execute(sa.select(sa.func.count()).where(waiting.c.until > now)).scalar_one()


def ready(connection: Connection) -> tuple[int, datetime | None]:
    """How many points of running tasks wait for a worker, and since when the first does."""
    since = sa.func.coalesce(evaluations.c.ended_at, points.c.created_at, type_=points.c.created_at.type)
    query = (
        sa.select(sa.func.count(), sa.func.min(since, type_=points.c.created_at.type))
        .select_from(points)
        .outerjoin(evaluations, evaluations.c.id == points.c.evaluation_id)
        .where(points.c.task_id.in_(_RUNNING), points.c.state == PointState.READY.value)
    )
    n, oldest = connection.execute(query).one()
    return n, oldest


def oldest_unlearnt(connection: Connection) -> datetime | None:
    """Since when the first of the results that running tasks' optimizers have not learnt is there."""
    own = sa.select(sa.func.min(points.c.ended_at, type_=points.c.ended_at.type)).where(
        points.c.task_id.in_(_RUNNING), points.c.observed.is_(None), points.c.state.in_(OBSERVABLE)
    )
    foreign = sa.select(sa.func.min(known_results.c.created_at, type_=known_results.c.created_at.type)).where(
        known_results.c.task_id.in_(_RUNNING), known_results.c.observed.is_(None)
    )
    found = [connection.execute(query).scalar_one_or_none() for query in (own, foreign)]
    return min((at for at in found if at is not None), default=None)


def stored_bytes(connection: Connection) -> int:
    """The size of all objects; reads one row an object, so it is not for every moment."""
    total: int = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(objects.c.size), 0))).scalar_one()
    return int(total)
