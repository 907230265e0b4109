"""The three ways in which an evaluation ends on its own: tell, fail, release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from gridtune_common.errors import Flaw
from gridtune_common.protocol import (
    EvaluationState,
    Fail,
    FailureCause,
    Metrics,
    Outcome,
    PointState,
    Release,
    ReleaseCause,
    TaskState,
    Tell,
)
from gridtune_steering.bookkeeping import askers, evaluations, outputs, points
from gridtune_steering.bookkeeping.lookups import ForEnd
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.metrics import instruments
from gridtune_steering.services import checkpoints, likeness, retries, same_failure, workers
from gridtune_steering.services import evaluations as life
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import Unusable
from gridtune_steering.services.idempotency import once_answered
from gridtune_steering.services.steering import Steering

#: How long after its last evaluation a worker is expected to ask again.
_FREED_FOR = timedelta(seconds=10)
#: Characters kept of what a payload printed last.
_OUTPUT_LIMIT = 16_000

#: Failures that can come from the checkpoint that a training went on from.
_BLAMED_ON_CHECKPOINTS = frozenset(
    {
        FailureCause.EXIT_CODE,
        FailureCause.SIGNAL,
        FailureCause.NO_RESULT,
        FailureCause.INVALID_RESULT,
        FailureCause.REPORTED,
    }
)

Ending = Tell | Fail | Release


def tell(steering: Steering, caller: Caller, evaluation: str, message: Tell) -> Outcome:
    """Take a point's final metrics. The first result wins, also that of a worker whose lease was lost.

    Raises:
        NotFound: No such evaluation.
        Unusable: An objective is missing or not a finite number.
    """

    def effect(connection: Connection, known: ForEnd, now: datetime) -> Outcome:
        row, point = known.evaluation, known.point
        value = _checked_value(known.task, message.metrics)
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
        life.note(connection, caller.user, row, "point.done", now, value=value)
        workers.note_done(connection, row, now)
        return Outcome(True)

    return _end(steering, caller, evaluation, message, "tell", effect)


def fail(steering: Steering, caller: Caller, evaluation: str, message: Fail) -> Outcome:
    """Take note that an evaluation failed; its point is tried again while it has attempts left.

    Raises:
        NotFound: No such evaluation.
    """

    def effect(connection: Connection, known: ForEnd, now: datetime) -> Outcome:
        row, task = known.evaluation, known.task
        if row.state != EvaluationState.RUNNING.value:
            return Outcome(False, f"the evaluation is {row.state}: {row.message}")
        mark = same_failure.mark(message, known.point.parameters)
        _close(connection, row, EvaluationState.FAILED, message, now, cause=message.cause.value, likeness=mark)
        life.note(connection, caller.user, row, "evaluation.failed", now, cause=message.cause.value)
        if message.cause in _BLAMED_ON_CHECKPOINTS:
            checkpoints.mistrust(steering, connection, row, now)
        reason, blame = message.message or message.cause.value, retries.blame_for(message.cause)
        life.count_attempt(connection, row, task, now, reason, caller.user, blame=blame, permanent=message.permanent)
        if message.permanent:  # it would fail anywhere
            workers.note_permanent(connection, row, now)
        else:
            workers.note_failed(steering, connection, row, _in_words(message), now)
        return Outcome(True)

    outcome = _end(steering, caller, evaluation, message, "fail", effect)
    same_failure.pause_if_everywhere(steering, evaluation)
    return outcome


def release(steering: Steering, caller: Caller, evaluation: str, message: Release) -> Outcome:
    """Give a point back unfinished; this counts no attempt, but a point cannot stand still for ever.

    Raises:
        NotFound: No such evaluation.
    """

    def effect(connection: Connection, known: ForEnd, now: datetime) -> Outcome:
        row, task = known.evaluation, known.task
        if row.state != EvaluationState.RUNNING.value:
            return Outcome(False, f"the evaluation is {row.state}: {row.message}")
        _close(connection, row, EvaluationState.RELEASED, message, now, cause=message.cause.value)
        life.note(connection, caller.user, row, "evaluation.released", now, cause=message.cause.value)
        if message.cause is ReleaseCause.STOPPED:
            points.update(connection, row.task_id, row.point, state=PointState.READY.value)
        else:
            life.count_stretch(connection, row, task, now, caller.user)
        return Outcome(True)

    return _end(steering, caller, evaluation, message, "release", effect)


def _end(
    steering: Steering,
    caller: Caller,
    evaluation: str,
    message: Ending,
    operation: str,
    effect: Callable[[Connection, ForEnd, datetime], Outcome],
) -> Outcome:
    """The common course of the three ways in which an evaluation ends on its own."""
    now = steering.clock()
    is_new = False
    with steering.database.write() as connection:
        known = life.at_its_end(connection, caller, evaluation, message.request_id)

        def once_only() -> Outcome:
            nonlocal is_new
            is_new = True
            if known.evaluation.epoch != message.epoch:
                return Outcome(False, f"epoch {message.epoch} is not this evaluation's")
            outcome = effect(connection, known, now)
            _free(steering, connection, known, message, now)
            return outcome

        outcome = once_answered(
            connection,
            caller,
            f"{operation} {evaluation}",
            message,
            Outcome,
            once_only,
            now=now,
            earlier=known.earlier,
        )
    if outcome is None:
        raise AssertionError("the end of an evaluation always has an outcome")
    if is_new:
        _count(message, outcome)
    steering.bell.ring_hosts(known.task.id)
    if not isinstance(message, Tell):
        steering.bell.ring_askers(known.task.id, 1)  # the point is ready again
    return outcome


def _count(message: Ending, outcome: Outcome) -> None:
    """For the metrics: what has ended how. Repetitions of a request are counted with it."""
    if isinstance(message, Tell):
        instruments.TELLS.labels("yes" if outcome.accepted else "no").inc()
    elif outcome.accepted:
        instrument = instruments.FAILURES if isinstance(message, Fail) else instruments.RELEASES
        instrument.labels(message.cause.value).inc()


def _free(steering: Steering, connection: Connection, known: ForEnd, message: Ending, now: datetime) -> None:
    """A worker is free, and expected to ask again unless it leaves or gets no points for now."""
    row, task = known.evaluation, known.task
    if message.leaving:
        askers.forget(connection, task.id, row.worker)
        return
    if task.state != TaskState.RUNNING.value:
        return
    place, has, host = retries.Place.of(row), row.resources, known.host
    if isinstance(message, Fail) or (host is not None and host.times_set_aside):
        host = workers.find(connection, place)  # what became of the evaluation may have changed it
    if not workers.admit(steering, connection, task.id, row.worker, place, has, now, host=host, asker=known.asker):
        points.wait(connection, task.id, row.worker, until=now + _FREED_FOR)


def _in_words(message: Fail) -> str:
    words = likeness.last_words(message.cause, message.message, message.output_tail)
    return likeness.in_words(message.cause, message.exit_code, words)


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
        life.note(connection, caller.user, rival, "evaluation.stopped", now, message=reason)


def _close(
    connection: Connection,
    row: Record,
    state: EvaluationState,
    message: Ending,
    now: datetime,
    **values: Any,
) -> None:
    evaluations.add_reports(connection, row.id, message.reports, now=now)
    if row.watched_until is not None:
        outputs.forget(connection, row.id)
    evaluations.end(
        connection,
        row.id,
        state=state,
        now=now,
        message="" if isinstance(message, Tell) else message.message[: life.MESSAGE_LIMIT],
        exit_code=None if isinstance(message, Release) else message.exit_code,
        output_tail=message.output_tail[-_OUTPUT_LIMIT:],
        usage=asdict(message.usage) if message.usage is not None else None,
        **values,
    )
