"""The life of an evaluation: ask, heartbeat, report, tell, fail, release, and the loss of a silent worker.

The rules, for whoever changes them:

* a point has at most one running evaluation, and its epoch is the point's;
* who takes a point's lock may change its evaluations, in this order;
* a lost evaluation that shows up before anybody else took its point goes on as if nothing had been;
* after that its reports are not stored, but its final result still counts if nobody was faster (first result wins);
* failures and lost workers count as attempts, releases do not;
* a freed worker that will ask again is worth one new point (`bookkeeping.points.wait`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from gridtune_common.errors import Flaw
from gridtune_common.protocol import (
    Advice,
    Ask,
    EvaluationState,
    Fail,
    Heartbeat,
    Lease,
    Metrics,
    Outcome,
    PointState,
    Release,
    Reports,
    TaskState,
    Tell,
    Verdict,
)
from gridtune_steering.bookkeeping import evaluations, events, points, requests, tasks
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.identity.secrets import new_id
from gridtune_steering.services.access import Caller, visible_task
from gridtune_steering.services.errors import NotFound, TaskHasEnded, Unusable
from gridtune_steering.services.idempotency import once, once_answered
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.times import iso

#: How long after its last evaluation a worker is expected to ask again.
_FREED_FOR = timedelta(seconds=10)
#: What a waiting worker's place is held for beyond its ask, so that two asks in a row leave no gap.
_WAITING_SLACK = timedelta(seconds=5)
#: Characters kept of a message, and of what a payload printed last.
_MESSAGE_LIMIT, _OUTPUT_LIMIT = 4_000, 16_000
#: The service's own hand in the audit log.
_REAPER = "gridtune/reaper"

Ending = Tell | Fail | Release


def ask(steering: Steering, caller: Caller, task: str, message: Ask) -> Lease | None:
    """Claim a ready point for a worker, in one short transaction.

    Returns:
        The lease, or None if no point is ready: then the worker is noted as waiting, and a point will be made for it.

    Raises:
        NotFound: No such task.
        TaskHasEnded: There will be no more points.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row = visible_task(connection, caller, task)

        def effect() -> Lease | None:
            if row.state in {TaskState.FINISHED.value, TaskState.CANCELLED.value}:
                raise TaskHasEnded(f"task {task} has ended: {row.reason}")
            is_running = row.state == TaskState.RUNNING.value
            point = points.claim_ready(connection, task) if is_running else None
            if point is None:
                wait = timedelta(seconds=min(max(message.wait, 0.0), steering.settings.ask_wait_seconds))
                points.wait(connection, task, message.worker, until=now + wait + _WAITING_SLACK)
                return None
            return _lease(steering, connection, caller, point, message, now)

        # the same ask, sent again, may wait for another while
        request = dataclasses.replace(message, wait=0.0, remaining_seconds=None)
        _forget_dead_lease(steering, connection, caller, message.request_id, now)
        lease = once_answered(connection, caller, f"ask {task}", request, Lease, effect, now=now)
    if lease is None:
        steering.bell.ring_hosts(task)
    return lease


def wait_no_more(steering: Steering, task: str, worker: str) -> None:
    """Make no point for a worker that has hung up."""
    with steering.database.write() as connection:
        points.wait_no_more(connection, task, worker)


def _forget_dead_lease(
    steering: Steering, connection: Connection, caller: Caller, request_id: str, now: datetime
) -> None:
    """The lease that an ask got before, if any, is renewed if it still holds; if not, the ask is as good as new."""
    earlier = requests.find(connection, caller.token, request_id)
    if earlier is not None and "evaluation" in earlier.answer:
        until = now + _lease_time(steering)
        if not evaluations.renew(connection, earlier.answer["evaluation"], until=until):
            requests.forget(connection, caller.token, request_id)


def _lease(
    steering: Steering, connection: Connection, caller: Caller, point: Record, message: Ask, now: datetime
) -> Lease:
    task, evaluation, epoch, attempt = point.task_id, new_id(16), point.epoch + 1, point.attempts + 1
    points.update(
        connection,
        task,
        point.number,
        state=PointState.RUNNING.value,
        epoch=epoch,
        evaluation_id=evaluation,
        started_at=point.started_at or now,
    )
    evaluations.insert(
        connection,
        id=evaluation,
        task_id=task,
        point=point.number,
        epoch=epoch,
        attempt=attempt,
        state=EvaluationState.RUNNING.value,
        worker=message.worker,
        site=message.site,
        host=message.host,
        agent_version=message.agent_version,
        resources=message.resources,
        started_at=now,
        lease_expires_at=now + _lease_time(steering),
        metrics={},
    )
    points.wait_no_more(connection, task, message.worker)
    events.add(
        connection,
        at=now,
        actor=caller.user,
        kind="evaluation.started",
        task=task,
        point=point.number,
        evaluation=evaluation,
        details={"worker": message.worker, "site": message.site, "epoch": epoch, "attempt": attempt},
    )
    return Lease(
        task=task,
        evaluation=evaluation,
        epoch=epoch,
        attempt=attempt,
        point=point.number,
        parameters=point.parameters,
        lease_seconds=steering.settings.lease_seconds,
        heartbeat_seconds=steering.settings.heartbeat_seconds,
    )


def heartbeat(steering: Steering, caller: Caller, evaluation: str, message: Heartbeat) -> Verdict:
    """Renew a lease. Doing it again renews it again.

    Raises:
        NotFound: No such evaluation.
    """
    return report(steering, caller, evaluation, Reports(epoch=message.epoch, reports=[]))


def report(steering: Steering, caller: Caller, evaluation: str, message: Reports) -> Verdict:
    """Store intermediate metrics and renew the lease; a step that was stored before is left as it is.

    Raises:
        NotFound: No such evaluation.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row, task = _visible_evaluation(connection, caller, evaluation)
        if row.epoch != message.epoch:
            return Verdict(Advice.LOST, f"epoch {message.epoch} is not this evaluation's")
        until = now + _lease_time(steering)
        holds = evaluations.renew(connection, evaluation, until=until) or _recover(
            connection, caller, row, task, now, until
        )
        if not holds:
            return _verdict_of_ended(row)
        evaluations.add_reports(connection, evaluation, message.reports, now=now)
    return Verdict(Advice.CONTINUE, lease_seconds=steering.settings.lease_seconds)


def _recover(connection: Connection, caller: Caller, row: Record, task: Record, now: datetime, until: datetime) -> bool:
    """Undo the loss of an evaluation that was only silent, if nobody has taken its point; tells whether that was so."""
    point = _point_of(connection, row)
    is_untouched = point.state == PointState.READY.value and point.epoch == row.epoch
    if row.state != EvaluationState.LOST.value or not is_untouched:
        return False
    evaluations.recover(connection, row.id, until=until)
    points.update(
        connection,
        row.task_id,
        row.point,
        state=PointState.RUNNING.value,
        attempts=point.attempts - 1,
        message="",
    )
    _note(connection, caller.user, row, "evaluation.recovered", now)
    return True


def _verdict_of_ended(row: Record) -> Verdict:
    if row.state == EvaluationState.LOST.value:
        return Verdict(Advice.LOST, row.message)
    return Verdict(Advice.STOP, row.message or f"the evaluation is {row.state}")


def tell(steering: Steering, caller: Caller, evaluation: str, message: Tell) -> Outcome:
    """Take a point's final metrics. The first result wins, also that of a worker whose lease was lost.

    Raises:
        NotFound: No such evaluation.
        Unusable: An objective is missing or not a finite number.
    """

    def effect(connection: Connection, row: Record, task: Record, now: datetime) -> Outcome:
        value = _checked_value(task, message.metrics)
        point = _point_of(connection, row)
        if row.state not in {EvaluationState.RUNNING.value, EvaluationState.LOST.value}:
            return Outcome(False, f"the evaluation is {row.state}: {row.message}")
        if not _is_unfinished(point):
            return Outcome(False, f"the point is {point.state}")
        _dismiss_rival(connection, caller, row, point, now)
        _close(connection, row, EvaluationState.DONE, message, now, metrics=message.metrics)
        points.update(
            connection,
            row.task_id,
            row.point,
            state=PointState.DONE.value,
            metrics=message.metrics,
            value=value,
            message="",
            ended_at=now,
            evaluation_id=row.id,
        )
        _note(connection, caller.user, row, "point.done", now, value=value)
        return Outcome(True)

    return _end(steering, caller, evaluation, message, "tell", effect)


def fail(steering: Steering, caller: Caller, evaluation: str, message: Fail) -> Outcome:
    """Take note that an evaluation failed; its point is tried again while it has attempts left.

    Raises:
        NotFound: No such evaluation.
    """

    def effect(connection: Connection, row: Record, task: Record, now: datetime) -> Outcome:
        if row.state != EvaluationState.RUNNING.value:
            return Outcome(False, f"the evaluation is {row.state}: {row.message}")
        _close(connection, row, EvaluationState.FAILED, message, now, cause=message.cause.value)
        _note(connection, caller.user, row, "evaluation.failed", now, cause=message.cause.value)
        reason = message.message or message.cause.value
        _count_attempt(connection, row, task, now, reason, caller.user, permanent=message.permanent)
        return Outcome(True)

    return _end(steering, caller, evaluation, message, "fail", effect)


def release(steering: Steering, caller: Caller, evaluation: str, message: Release) -> Outcome:
    """Give a point back unfinished; this counts no attempt.

    Raises:
        NotFound: No such evaluation.
    """

    def effect(connection: Connection, row: Record, _task: Record, now: datetime) -> Outcome:
        if row.state != EvaluationState.RUNNING.value:
            return Outcome(False, f"the evaluation is {row.state}: {row.message}")
        _close(connection, row, EvaluationState.RELEASED, message, now, cause=message.cause.value)
        points.update(connection, row.task_id, row.point, state=PointState.READY.value)
        _note(connection, caller.user, row, "evaluation.released", now, cause=message.cause.value)
        return Outcome(True)

    return _end(steering, caller, evaluation, message, "release", effect)


def reap(steering: Steering, *, limit: int = 200) -> list[str]:
    """Take the points of silent workers back; the same point goes to the next worker, one attempt older.

    Returns:
        The tasks in which something was lost.
    """
    now = steering.clock()
    touched = set()
    with steering.database.write() as connection:
        for found in evaluations.expired(connection, now=now, limit=limit):
            points.find_for_update(connection, found.task_id, found.point)
            row = evaluations.find(connection, found.id)
            if row is None or row.state != EvaluationState.RUNNING.value or row.lease_expires_at >= now:
                continue
            reason = f"no sign of life from {row.worker} since {iso(row.lease_expires_at - _lease_time(steering))}"
            evaluations.end(connection, row.id, state=EvaluationState.LOST, now=now, message=reason)
            _note(connection, _REAPER, row, "evaluation.lost", now, message=reason)
            _count_attempt(connection, row, tasks.find(connection, row.task_id), now, reason, _REAPER)
            touched.add(row.task_id)
    for task in sorted(touched):
        steering.bell.ring_hosts(task)
        steering.bell.ring_askers(task)
    return sorted(touched)


def _end(
    steering: Steering,
    caller: Caller,
    evaluation: str,
    message: Ending,
    operation: str,
    effect: Callable[[Connection, Record, Record, datetime], Outcome],
) -> Outcome:
    """The common course of the three ways in which an evaluation ends on its own."""
    now = steering.clock()
    with steering.database.write() as connection:
        row, task = _visible_evaluation(connection, caller, evaluation)

        def once_only() -> Outcome:
            if row.epoch != message.epoch:
                return Outcome(False, f"epoch {message.epoch} is not this evaluation's")
            outcome = effect(connection, row, task, now)
            if not message.leaving and task.state == TaskState.RUNNING.value:
                points.wait(connection, task.id, row.worker, until=now + _FREED_FOR)
            return outcome

        outcome = once(connection, caller, f"{operation} {evaluation}", message, Outcome, once_only, now=now)
    steering.bell.ring_hosts(task.id)
    if not isinstance(message, Tell):
        steering.bell.ring_askers(task.id)  # the point is ready again
    return outcome


def _visible_evaluation(connection: Connection, caller: Caller, evaluation: str) -> tuple[Record, Record]:
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


def _point_of(connection: Connection, row: Record) -> Record:
    point = points.find(connection, row.task_id, row.point)
    if point is None:
        raise NotFound("point", row.point)
    return point


def _checked_value(task: Record, metrics: Metrics) -> float:
    """The value of the first objective; all must be there."""
    objective = task.document["objective"]
    names = [item["metric"] for item in (objective if isinstance(objective, list) else [objective])]
    flaws = [
        Flaw(
            f"metrics.{name}",
            f"the objective needs a finite number here; there is: {', '.join(metrics) or 'nothing'}",
        )
        for name in names
        if metrics.get(name) is None
    ]
    if flaws:
        raise Unusable("the result cannot be used", flaws)
    return float(metrics[names[0]])  # type: ignore[arg-type]  # checked just above


def _is_unfinished(point: Record) -> bool:
    """Whether a result is still welcome: nobody has finished the point, and no optimizer was told that it failed."""
    if point.state == PointState.FAILED.value:
        return point.observed is None
    return point.state in {PointState.READY.value, PointState.RUNNING.value}


def _dismiss_rival(connection: Connection, caller: Caller, row: Record, point: Record, now: datetime) -> None:
    """End the evaluation that took the point over when this one was thought lost."""
    rival = evaluations.find(connection, point.evaluation_id) if point.evaluation_id != row.id else None
    if rival is not None and rival.state == EvaluationState.RUNNING.value:
        reason = f"evaluation {row.id} of the same point was faster"
        evaluations.end(connection, rival.id, state=EvaluationState.STOPPED, now=now, message=reason)
        _note(connection, caller.user, rival, "evaluation.stopped", now, message=reason)


def _close(
    connection: Connection,
    row: Record,
    state: EvaluationState,
    message: Ending,
    now: datetime,
    **values: Any,
) -> None:
    evaluations.add_reports(connection, row.id, message.reports, now=now)
    evaluations.end(
        connection,
        row.id,
        state=state,
        now=now,
        message="" if isinstance(message, Tell) else message.message[:_MESSAGE_LIMIT],
        exit_code=None if isinstance(message, Release) else message.exit_code,
        output_tail=message.output_tail[-_OUTPUT_LIMIT:],
        **values,
    )


def _count_attempt(
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
    point = _point_of(connection, row)
    attempts = point.attempts + 1
    allowed = task.document["retry"]["attempts"] if task is not None else 1
    has_failed = permanent or attempts >= allowed
    points.update(
        connection,
        row.task_id,
        row.point,
        state=PointState.FAILED.value if has_failed else PointState.READY.value,
        attempts=attempts,
        message=reason[:_MESSAGE_LIMIT],
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
            details={"attempts": attempts, "message": reason[:_MESSAGE_LIMIT]},
        )


def _note(connection: Connection, actor: str, row: Record, kind: str, now: datetime, **details: Any) -> None:
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


def _lease_time(steering: Steering) -> timedelta:
    return timedelta(seconds=steering.settings.lease_seconds)
