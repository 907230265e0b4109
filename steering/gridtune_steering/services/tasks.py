"""Tasks: see, change, delete, and what their agents need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from gridtune_common import wire
from gridtune_common.errors import Flaw
from gridtune_common.protocol import (
    ChangeTask,
    FileEntry,
    Objective,
    Payload,
    PointCounts,
    Task,
    TaskAction,
    TaskPage,
    TaskState,
    TaskSummary,
)
from gridtune_common.taskfile import parse_task
from gridtune_steering.bookkeeping import archives, evaluations, events, hosts, known, points, tasks, wishes
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.campaign.front import front
from gridtune_steering.services import cursors
from gridtune_steering.services.access import Caller, owned_task, visible_task
from gridtune_steering.services.errors import Conflict, NotFound, Unusable
from gridtune_steering.services.idempotency import Deletion, once
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.times import iso
from gridtune_steering.services.turning_away import fits_nobody

#: The largest budget that an extension may lead to.
_MOST_POINTS = 10**9


@dataclass(frozen=True)
class Reference:
    """What is kept of an answer that holds a task: documents can be large, and tasks go on anyway."""

    task: str


def get(steering: Steering, caller: Caller, task: str) -> Task:
    """A task, whole.

    Raises:
        NotFound: There is none that the caller may see.
    """
    with steering.database.read() as connection:
        return whole(connection, visible_task(connection, caller, task), steering.clock())


def listing(
    steering: Steering,
    caller: Caller,
    *,
    state: TaskState | None,
    name: str | None,
    owner: str | None,
    after: str | None,
    limit: int,
) -> TaskPage:
    """One page of the tasks that the caller may see, newest first; of a state, name or owner, if given.

    Raises:
        Unusable: The cursor is none of ours.
    """
    wanted: dict[str, Any] = {
        "owner": owner if caller.sees_all else caller.user,
        "name": name,
        "state": state.value if state else None,
        "before": cursors.time_and_id(after) if after is not None else None,
        "limit": limit + 1,
    }
    with steering.database.read() as connection:
        found = [row for archived in (False, True) for row in tasks.page(connection, archived=archived, **wanted)]
        found.sort(key=lambda row: (row.created_at, row.id), reverse=True)
        summaries = summarise(connection, found[:limit])
    if len(found) <= limit:
        return TaskPage(items=summaries)
    last = found[limit - 1]
    return TaskPage(items=summaries, next=cursors.encode(f"{last.created_at.isoformat()} {last.id}"))


def change(steering: Steering, caller: Caller, task: str, message: ChangeTask) -> Task:
    """Pause, resume, cancel or extend a task. What is so already stays so.

    Raises:
        NotFound: There is none that the caller may see.
        Conflict: The task's state does not allow it.
        Unusable: The number of points makes no sense.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row = owned_task(connection, caller, task)

        def effect() -> Reference:
            _CHANGES[message.action](connection, caller, row, message, now)
            return Reference(row.id)

        once(connection, caller, f"change task {task}", message, Reference, effect, now=now)
        changed = whole(connection, present(connection, task), now)
    steering.bell.ring_hosts(task)
    steering.bell.ring_askers(task)
    return changed


def pause(
    connection: Connection,
    row: Record,
    reason: str,
    *,
    actor: str,
    now: datetime,
    stopped_by: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Hand out no more points of a running task, for *reason*; *stopped_by* is the rule, if the service does it."""
    _set_state(
        connection,
        actor,
        row,
        TaskState.PAUSED,
        now,
        kind="task.paused",
        reason=reason,
        stopped_by=stopped_by,
        details=details,
    )


def _pause(connection: Connection, caller: Caller, row: Record, _message: ChangeTask, now: datetime) -> None:
    refuse_ended(row)
    if row.state == TaskState.RUNNING.value:
        pause(connection, row, f"paused by {caller.user}", actor=caller.user, now=now)


def _resume(connection: Connection, caller: Caller, row: Record, _message: ChangeTask, now: datetime) -> None:
    refuse_ended(row)
    if row.state == TaskState.PAUSED.value:
        _set_state(connection, caller.user, row, TaskState.RUNNING, now, kind="task.resumed")


def _cancel(connection: Connection, caller: Caller, row: Record, _message: ChangeTask, now: datetime) -> None:
    if row.state == TaskState.CANCELLED.value:
        return
    refuse_ended(row)
    end(connection, row, TaskState.CANCELLED, f"cancelled by {caller.user}", actor=caller.user, now=now)


def _extend(connection: Connection, caller: Caller, row: Record, message: ChangeTask, now: datetime) -> None:
    if row.max_points is None:
        raise Conflict("the task has no budget of points to extend; it runs until another rule stops it")
    has_ended = row.state in {TaskState.FINISHED.value, TaskState.CANCELLED.value}
    if has_ended and row.stopped_by != "points":
        raise Conflict(f"the task has ended ({row.reason}), where more points cannot help; submit it again")
    if not 0 < message.points <= _MOST_POINTS - row.max_points:
        flaw = Flaw("points", f"{message.points} is out of range: how many more points, at least 1")
        raise Unusable("the task cannot be extended so", [flaw])
    budget = row.max_points + message.points
    tasks.update(connection, row.id, max_points=budget)
    details = {"points": budget}
    events.add(connection, at=now, actor=caller.user, kind="task.extended", task=row.id, details=details)
    if has_ended:
        _set_state(connection, caller.user, row, TaskState.RUNNING, now, kind="task.resumed")
    else:
        hosts.disown(connection, row.id)


_CHANGES = {
    TaskAction.PAUSE: _pause,
    TaskAction.RESUME: _resume,
    TaskAction.CANCEL: _cancel,
    TaskAction.EXTEND: _extend,
}


def refuse_ended(row: Record) -> None:
    """Refuse a change to a task that has come to its end.

    Raises:
        Conflict: It has.
    """
    if row.state in {TaskState.FINISHED.value, TaskState.CANCELLED.value}:
        cure = "extend it, or submit it again" if row.stopped_by == "points" else "submit it again"
        raise Conflict(f"the task has ended ({row.reason}); {cure}")


def end(
    connection: Connection,
    row: Record,
    state: TaskState,
    reason: str,
    *,
    actor: str,
    now: datetime,
    stopped_by: str | None = None,
) -> None:
    """End a task: its running evaluations are stopped and its open points cancelled, each with its line in the log."""
    # points first: an ask that has just taken one is waited for, and then its evaluation is there to be stopped
    cancelled = points.cancel_open(connection, row.id, now=now)
    stopped = evaluations.stop_running(connection, row.id, now=now, message=reason)
    lines: list[dict[str, Any]] = [
        {"kind": "evaluation.stopped", "point": number, "evaluation_id": evaluation, "details": {"message": reason}}
        for evaluation, number in map(tuple, stopped)
    ]
    lines += [{"kind": "point.cancelled", "point": number} for number in cancelled]
    events.add_many(connection, lines, at=now, actor=actor, task=row.id)
    kind = f"task.{state.value}"
    _set_state(connection, actor, row, state, now, kind=kind, reason=reason, stopped_by=stopped_by)


def _set_state(
    connection: Connection,
    actor: str,
    row: Record,
    state: TaskState,
    now: datetime,
    *,
    kind: str,
    reason: str = "",
    stopped_by: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    runs = state is TaskState.RUNNING
    ran = row.ran_seconds + ((now - row.running_since).total_seconds() if row.running_since else 0.0)
    tasks.update(
        connection,
        row.id,
        state=state.value,
        reason=reason,
        stopped_by=stopped_by,
        ran_seconds=ran,
        running_since=now if runs else None,
        ended_at=None if state in {TaskState.RUNNING, TaskState.PAUSED} else now,
    )
    hosts.disown(connection, row.id)
    known = {"from": row.state, "reason": reason, **(details or {})}
    events.add(connection, at=now, actor=actor, kind=kind, task=row.id, details=known)


def delete(steering: Steering, caller: Caller, task: str, request_id: str) -> None:
    """Delete an ended task with all its points, archived or not; its audit events stay.

    Raises:
        NotFound: There is none that the caller may see.
        Conflict: It has not ended.
    """
    now = steering.clock()
    with steering.database.write() as connection:

        def effect() -> Reference:
            row = archives.find_for_update(connection, task)
            if row is None or not caller.may_see(row):
                row = owned_task(connection, caller, task)
            if row.state not in {TaskState.FINISHED.value, TaskState.CANCELLED.value}:
                raise Conflict(f"the task is {row.state}; cancel it first")
            tasks.delete(connection, task)
            archives.delete(connection, task)
            details = {"name": row.name, "owner": row.owner}
            events.add(connection, at=now, actor=caller.user, kind="task.deleted", task=task, details=details)
            return Reference(task)

        request = Deletion(request_id)
        once(connection, caller, f"delete task {task}", request, Reference, effect, now=now)


def payload(steering: Steering, caller: Caller, task: str) -> Payload:
    """What an agent needs to evaluate the task's points.

    Raises:
        NotFound: There is none that the caller may see.
        Conflict: The task has no payload: a program of its own evaluates it.
    """
    with steering.database.read() as connection:
        row = visible_task(connection, caller, task)
        files = tasks.files(connection, row.id)
    spec = parse_task(row.document)
    if spec.payload is None:
        raise Conflict("the task has no payload section; only a program that asks for itself can evaluate it")
    return Payload(
        task=row.id,
        name=row.name,
        document=row.document["payload"],
        objectives=[objective.metric for objective in spec.objectives],
        constants=dict(spec.constants),
        parameters=list(spec.space.names),
        files=[FileEntry(file.path, file.size, file.sha256, file.executable) for file in files],
        resources=spec.resources.to_json(),
    )


def file_content(steering: Steering, caller: Caller, task: str, path: str) -> bytes:
    """The bytes of one of the task's files.

    Raises:
        NotFound: No such task or file.
    """
    with steering.database.read() as connection:
        row = visible_task(connection, caller, task)
        content = tasks.file_content(connection, row.id, path)
    if content is None:
        raise NotFound("file", path)
    return content


def summarise(connection: Connection, rows: Sequence[Record]) -> list[TaskSummary]:
    """Tasks as they appear in a listing, archived ones as they were when they ended."""
    counts = points.counts(connection, [row.id for row in rows if not is_archived(row)])
    return [
        wire.decode(TaskSummary, row.summary) if is_archived(row) else _summary(connection, row, counts[row.id])
        for row in rows
    ]


def is_archived(row: Record) -> bool:
    """Whether this is the row of an archived task."""
    return hasattr(row, "archived_at")


def objectives_of(row: Record) -> list[Objective]:
    """What a task optimises, in the task file's order."""
    section = row.document["objective"]
    return [Objective(item["metric"], item["goal"]) for item in (section if isinstance(section, list) else [section])]


def leaders(connection: Connection, row: Record) -> list[int]:
    """The numbers of the points to show first: the best one or, with several objectives, the whole front."""
    objectives = objectives_of(row)
    if len(objectives) > 1:
        return front(objectives, points.done_metrics(connection, row.id))
    best = points.best(connection, row.id, objectives[0].goal)
    return [] if best is None else [best.number]


def _summary(connection: Connection, row: Record, counts: dict[str, int]) -> TaskSummary:
    objectives = objectives_of(row)
    leading = leaders(connection, row)
    best = points.find(connection, row.id, leading[0]) if leading else None
    return TaskSummary(
        id=row.id,
        name=row.name,
        owner=row.owner,
        state=TaskState(row.state),
        algorithm=row.document["algorithm"]["name"],
        created_at=iso(row.created_at),
        counts=PointCounts(**counts),
        objective=objectives[0].metric,
        goal=objectives[0].goal,
        reason=row.reason,
        points=row.max_points,
        best=best.value if best else None,
        best_point=best.number if best else None,
        ended_at=iso(row.ended_at),
        objectives=objectives,
        n_front=len(leading) if len(objectives) > 1 else None,
        stopped_by=row.stopped_by or "",
    )


def whole(connection: Connection, row: Record, now: datetime) -> Task:
    """A task as its owner sees it."""
    [summary] = summarise(connection, [row])
    has_ended = summary.state in {TaskState.FINISHED, TaskState.CANCELLED}
    return Task(
        summary=summary,
        document=row.document,
        source=row.source,
        seed=row.seed,
        versions=row.versions,
        wished=wishes.count_waiting(connection, row.id),
        known=known.count(connection, row.id),
        unfit="" if has_ended else fits_nobody(connection, row.id, now),
    )


def present(connection: Connection, task: str) -> Record:
    """A task that was there a moment ago."""
    row = tasks.find(connection, task)
    if row is None:
        raise NotFound("task", task)
    return row
