"""What leases and results have in common: finding an evaluation, counting its attempts, noting what became of it.

The rules, for whoever changes them:

* a point has at most one running evaluation, and its epoch is the point's;
* who takes a point's lock may change its evaluations, in this order;
* a lost evaluation that shows up before anybody else took its point goes on as if nothing had been;
* after that its reports are not stored, but its final result still counts if nobody was faster (first result wins);
* failures and lost workers count as attempts, each kind up to its own limit (`retries`); releases count only if one
  after the other brings a point no further;
* a freed worker that will ask again is worth one new point (`bookkeeping.points.wait`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from gridtune_common.protocol import PointState
from gridtune_common.taskfile import Retry
from gridtune_steering.bookkeeping import circumstances, evaluations, events, lookups, objects, points, tasks
from gridtune_steering.bookkeeping.lookups import ForEnd
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import NotFound
from gridtune_steering.services.retries import Blame, Place, Tally, Trouble, Verdict, after_stretch, after_trouble
from gridtune_steering.services.steering import Steering

#: Characters kept of a message.
MESSAGE_LIMIT = 4_000


def visible(connection: Connection, caller: Caller, evaluation: str) -> tuple[Record, Record]:
    """An evaluation that the caller may change, with its task; the point's lock is held from here on.

    Raises:
        NotFound: There is none, or its task is somebody else's.
    """
    row = evaluations.find_for_update(connection, evaluation)
    task = tasks.find(connection, row.task_id) if row is not None else None
    if row is None or task is None or not caller.may_see(task):
        raise NotFound("evaluation", evaluation)
    return row, task


def at_its_end(connection: Connection, caller: Caller, evaluation: str, request_id: str) -> ForEnd:
    """Like `visible`, with all else that the end of an evaluation needs to know.

    Raises:
        NotFound: There is none, or its task is somebody else's.
    """
    found = lookups.for_end(connection, evaluation, token=caller.token, request_id=request_id)
    if found is None or not caller.may_see(found.task):
        raise NotFound("evaluation", evaluation)
    return found


def refuse_strangers(connection: Connection, caller: Caller, evaluation: str) -> None:
    """Like `visible`, without a lock.

    Raises:
        NotFound: There is none, or its task is somebody else's.
    """
    owner = evaluations.owner(connection, evaluation)
    if owner is None or not caller.may_see(owner):
        raise NotFound("evaluation", evaluation)


def point_of(connection: Connection, row: Record) -> Record:
    """The point of an evaluation."""
    point = points.find(connection, row.task_id, row.point)
    if point is None:
        raise NotFound("point", row.point)
    return point


def rules_of(task: Record | None) -> Retry:
    """How often a task's points are tried."""
    return Retry(**task.document.get("retry", {})) if task is not None else Retry()


def count_attempt(
    connection: Connection,
    row: Record,
    task: Record | None,
    now: datetime,
    reason: str,
    actor: str,
    *,
    blame: Blame,
    permanent: bool = False,
) -> None:
    """The point has one attempt less: it waits for the next worker, or has failed for good."""
    tally = Tally.of(point_of(connection, row))
    trouble = Trouble(Place.of(row), blame, now)
    saved_at = objects.last_commit(connection, row.task_id, row.point)
    verdict = after_trouble(
        tally, trouble, rules_of(task), reason[:MESSAGE_LIMIT], permanent=permanent, saved_at=saved_at
    )
    _settle(connection, row, verdict, now, actor)


def count_stretch(connection: Connection, row: Record, task: Record | None, now: datetime, actor: str) -> None:
    """The point was given back for want of time: it waits for the next worker, unless it stands still for too long."""
    tally = Tally.of(point_of(connection, row))
    _settle(
        connection,
        row,
        after_stretch(tally, rules_of(task), has_advanced=_has_advanced(connection, row)),
        now,
        actor,
    )


def _has_advanced(connection: Connection, row: Record) -> bool:
    """Whether an evaluation brought its point further than any before it."""
    if circumstances.left_new_checkpoint(connection, row):
        return True
    reached = circumstances.last_step(connection, row.id)
    before = circumstances.last_step_before(connection, row.task_id, row.point, row.epoch)
    return reached is not None and (before is None or reached > before)


def _settle(connection: Connection, row: Record, verdict: Verdict, now: datetime, actor: str) -> None:
    """Do with a point what was decided after a try."""
    said = {"message": verdict.message} if verdict.message else {}
    points.update(
        connection,
        row.task_id,
        row.point,
        state=PointState.FAILED.value if verdict.has_failed else PointState.READY.value,
        ended_at=now if verdict.has_failed else None,
        **said,
        **verdict.tally.columns(),
    )
    if verdict.has_failed:
        events.add(
            connection,
            at=now,
            actor=actor,
            kind="point.failed",
            task=row.task_id,
            point=row.point,
            evaluation=row.id,
            details={"attempts": verdict.tally.attempts, "message": verdict.message},
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
