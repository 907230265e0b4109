"""Bookkeeping as users see it: points, events, the best, and the export of everything."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from gridtune_common.protocol import (
    Best,
    Evaluation,
    EvaluationState,
    Event,
    EventPage,
    Export,
    Point,
    PointDetail,
    PointOrigin,
    PointPage,
    PointState,
    StoredKnownResult,
    StoredReport,
    StoredWish,
    Usage,
    WorkerResources,
)
from gridtune_common.usage import by_point
from gridtune_steering.bookkeeping import evaluations, events, known, objects, points, wishes
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.campaign.front import front
from gridtune_steering.services import cursors, storage, tasks
from gridtune_steering.services.access import Caller, visible_task
from gridtune_steering.services.errors import NotFound
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.times import iso

#: Grows when a reader of exports must know of a change.
EXPORT_FORMAT = 1
_LARGEST_NUMBER = 2**62
#: What the table of points tells of the usage of their evaluations.
_USED = ("wall_seconds", "cpu_seconds", "peak_memory_bytes", "gpu_seconds", "runtime", "image")


def point_page(
    steering: Steering,
    caller: Caller,
    reference: str,
    *,
    state: PointState | None,
    after: str | None,
    limit: int,
) -> PointPage:
    """One page of a task's points by number.

    Raises:
        NotFound: No such task.
        Unusable: The cursor is none of ours.
    """
    start = cursors.number(after) if after is not None else -1
    with steering.database.read() as connection:
        task = visible_task(connection, caller, reference)
        rows = points.page(connection, task.id, state=state.value if state else None, after=start, limit=limit + 1)
    items = [_point(row) for row in rows[:limit]]
    return PointPage(items=items, next=cursors.encode(str(items[-1].number)) if len(rows) > limit else None)


def point_detail(steering: Steering, caller: Caller, reference: str, number: int) -> PointDetail:
    """A point with its evaluations, reports and objects.

    Raises:
        NotFound: No such task or point.
    """
    with steering.database.read() as connection:
        task = visible_task(connection, caller, reference)
        return PointDetail(
            point=_one_point(connection, task.id, number),
            evaluations=[_evaluation(row) for row in evaluations.of_point(connection, task.id, number)],
            reports=[_report(row) for row in evaluations.reports_of_point(connection, task.id, number)],
            objects=[storage.stored_object(row) for row in objects.of_point(connection, task.id, number)],
        )


def event_page(
    steering: Steering, caller: Caller, reference: str, *, kind: str | None, after: str | None, limit: int
) -> EventPage:
    """One page of a task's audit log, oldest first.

    Raises:
        NotFound: No such task.
        Unusable: The cursor is none of ours.
    """
    start = cursors.number(after) if after is not None else 0
    with steering.database.read_settled(reference) as connection:
        task = visible_task(connection, caller, reference)
        rows = events.page(connection, task.id, kind=kind, after=start, limit=limit)
    last = rows[-1].id if rows else start
    return EventPage(items=[_event(row) for row in rows], next=cursors.encode(str(last)))


def best(steering: Steering, caller: Caller, reference: str) -> Best:
    """The best point so far, and the median to compare it with; with several objectives, the whole front.

    Raises:
        NotFound: No such task.
    """
    with steering.database.read() as connection:
        task = visible_task(connection, caller, reference)
        objectives = tasks.objectives_of(task)
        values = points.values(connection, task.id)
        leaders = points.chosen(connection, task.id, tasks.leaders(connection, task))
    found = [_point(row) for row in leaders]
    return Best(
        goal=objectives[0].goal,
        objective=objectives[0].metric,
        point=found[0] if found else None,
        median=statistics.median(values) if values else None,
        n_done=len(values),
        objectives=objectives,
        front=found if len(objectives) > 1 else None,
    )


def export(steering: Steering, caller: Caller, reference: str) -> Export:
    """Everything the bookkeeping holds of one task, as of one moment.

    Raises:
        NotFound: No such task.
    """
    with steering.database.read() as connection:
        return everything(connection, visible_task(connection, caller, reference), steering.clock())


def everything(connection: Connection, task: Record, now: datetime) -> Export:
    """A task's export."""
    return Export(
        format=EXPORT_FORMAT,
        exported_at=iso(now),
        task=tasks.whole(connection, task, now),
        points=[_point(row) for row in points.page(connection, task.id, state=None, after=-1, limit=None)],
        evaluations=[_evaluation(row) for row in evaluations.of_task(connection, task.id)],
        reports=[_report(row) for row in evaluations.reports_of_task(connection, task.id)],
        events=[_event(row) for row in events.page(connection, task.id, kind=None, after=0, limit=_LARGEST_NUMBER)],
        wishes=[_wish(row) for row in wishes.of_task(connection, task.id)],
        known=[_known(row) for row in known.of_task(connection, task.id)],
    )


def as_csv(exported: Export) -> str:
    """One line a point: parameters as ``param.NAME``, final metrics as ``metric.NAME``, and what all its tries used.

    With several objectives, ``on_front`` says whether a point is on the front.
    """
    parameters = list(exported.task.document["space"])
    metrics = sorted({name for point in exported.points for name in point.metrics})
    fixed = ["number", "state", "value", "attempts", "worker", "site", "created_at", "started_at", "ended_at"]
    on_front = _front(exported)
    used = by_point(exported.evaluations)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            *fixed,
            *(["on_front"] if on_front is not None else []),
            *(f"param.{name}" for name in parameters),
            *(f"metric.{name}" for name in metrics),
            "message",
            "origin",
            *_USED,
        ]
    )
    for point in exported.points:
        first = [getattr(point, name) for name in fixed]
        first[1] = point.state.value
        writer.writerow(
            [
                *first,
                *([point.number in on_front] if on_front is not None else []),
                *(point.parameters.get(name) for name in parameters),
                *(point.metrics.get(name) for name in metrics),
                point.message,
                point.origin.value,
                *(getattr(used.get(point.number, Usage()), name) for name in _USED),
            ]
        )
    return out.getvalue()


def _front(exported: Export) -> set[int] | None:
    objectives = exported.task.summary.objectives
    if len(objectives) < 2:
        return None
    done = {point.number: point.metrics for point in exported.points if point.state is PointState.DONE}
    return set(front(objectives, done))


def _one_point(connection: Connection, task: str, number: int) -> Point:
    rows: Sequence[Record] = ()
    if 0 <= number <= _LARGEST_NUMBER:
        rows = points.page(connection, task, state=None, after=number - 1, limit=1)
    if not rows or rows[0].number != number:
        raise NotFound("point", number)
    return _point(rows[0])


def _point(row: Record) -> Point:
    return Point(
        number=row.number,
        state=PointState(row.state),
        parameters=row.parameters,
        metrics=row.metrics,
        attempts=row.attempts,
        created_at=iso(row.created_at),
        value=row.value,
        started_at=iso(row.started_at),
        ended_at=iso(row.ended_at),
        informed_by=row.informed_by,
        observed=row.observed,
        message=row.message,
        worker=row.worker or "",
        site=row.site or "",
        origin=PointOrigin(row.origin),
    )


def _wish(row: Record) -> StoredWish:
    return StoredWish(row.parameters, iso(row.created_at), row.created_by, row.point)


def _known(row: Record) -> StoredKnownResult:
    return StoredKnownResult(
        number=row.number,
        parameters=row.parameters,
        metrics=row.metrics,
        source=row.source,
        created_at=iso(row.created_at),
        observed=row.observed,
    )


def _evaluation(row: Record) -> Evaluation:
    return Evaluation(
        id=row.id,
        point=row.point,
        epoch=row.epoch,
        attempt=row.attempt,
        state=EvaluationState(row.state),
        worker=row.worker,
        site=row.site,
        host=row.host,
        agent_version=row.agent_version,
        started_at=iso(row.started_at),
        lease_expires_at=iso(row.lease_expires_at),
        ended_at=iso(row.ended_at),
        cause=row.cause,
        message=row.message,
        exit_code=row.exit_code,
        output_tail=row.output_tail,
        metrics=row.metrics,
        resources=WorkerResources(**row.resources),
        resumed_from=row.resumed_from,
        usage=Usage(**row.usage) if row.usage is not None else None,
    )


def _report(row: Record) -> StoredReport:
    return StoredReport(evaluation=row.evaluation_id, step=row.step, metrics=row.metrics, at=iso(row.at))


def _event(row: Record) -> Event:
    return Event(
        id=row.id,
        at=iso(row.at),
        actor=row.actor,
        kind=row.kind,
        task=row.task_id,
        point=row.point,
        evaluation=row.evaluation_id,
        details=row.details,
    )
