"""What leases and results have in common: finding an evaluation, counting its attempts, noting what became of it.

The rules, for whoever changes them:

* a point has at most one running evaluation, and its epoch is the point's;
* who takes a point's lock may change its evaluations, in this order;
* a lost evaluation that shows up before anybody else took its point goes on as if nothing had been;
* after that its reports are not stored, but its final result still counts if nobody was faster (first result wins);
* failures and lost workers count as attempts, releases do not;
* a freed worker that will ask again is worth one new point (`bookkeeping.points.wait`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from gridtune_common.protocol import (
    PointState,
)
from gridtune_steering.bookkeeping import evaluations, events, points, tasks
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import NotFound
from gridtune_steering.services.steering import Steering

#: Characters kept of a message.
MESSAGE_LIMIT = 4_000


def visible(connection: Connection, caller: Caller, evaluation: str) -> tuple[Record, Record]:
    """An evaluation that the caller may change, with its task; the point's lock is held from here on.

    Raises:
        NotFound: There is none, or its task is somebody else's.
    """
    row = evaluations.find(connection, evaluation)
    task = tasks.find(connection, row.task_id) if row is not None else None
    if row is None or task is None or not caller.may_see(task):
        raise NotFound("evaluation", evaluation)
    # whoever changes an evaluation holds its point's lock, and then sees the evaluation as it is
    points.find_for_update(connection, row.task_id, row.point)
    locked = evaluations.find(connection, evaluation)
    if locked is None:
        raise NotFound("evaluation", evaluation)
    return locked, task


def point_of(connection: Connection, row: Record) -> Record:
    """The point of an evaluation."""
    point = points.find(connection, row.task_id, row.point)
    if point is None:
        raise NotFound("point", row.point)
    return point


def count_attempt(
    connection: Connection,
    row: Record,
    task: Record | None,
    now: datetime,
    reason: str,
    actor: str,
    *,
    permanent: bool = False,
) -> None:
    """The point has one attempt less: it waits for the next worker, or has failed for good."""
    point = point_of(connection, row)
    attempts = point.attempts + 1
    allowed = task.document["retry"]["attempts"] if task is not None else 1
    has_failed = permanent or attempts >= allowed
    points.update(
        connection,
        row.task_id,
        row.point,
        state=PointState.FAILED.value if has_failed else PointState.READY.value,
        attempts=attempts,
        message=reason[:MESSAGE_LIMIT],
        ended_at=now if has_failed else None,
    )
    if has_failed:
        events.add(
            connection,
            at=now,
            actor=actor,
            kind="point.failed",
            task=row.task_id,
            point=row.point,
            evaluation=row.id,
            details={"attempts": attempts, "message": reason[:MESSAGE_LIMIT]},
        )


def note(connection: Connection, actor: str, row: Record, kind: str, now: datetime, **details: Any) -> None:
    """Write what became of an evaluation into the audit log."""
    events.add(
        connection,
        at=now,
        actor=actor,
        kind=kind,
        task=row.task_id,
        point=row.point,
        evaluation=row.id,
        details={"worker": row.worker, "epoch": row.epoch, **details},
    )


def lease_time(steering: Steering) -> timedelta:
    """How long a lease holds without a sign of life."""
    return timedelta(seconds=steering.settings.lease_seconds)
