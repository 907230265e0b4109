"""How a worker keeps its point, and loses it: heartbeat, report, and the reaping of silent workers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.engine import Connection

from gridtune_common.errors import Flaw
from gridtune_common.protocol import (
    Advice,
    EvaluationState,
    Heartbeat,
    PointState,
    Reports,
    Scope,
    Signs,
    Verdict,
    Verdicts,
)
from gridtune_steering.bookkeeping import evaluations, points, tasks
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.metrics import instruments
from gridtune_steering.services import evaluations as life
from gridtune_steering.services import workers
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import NotFound, Unusable
from gridtune_steering.services.retries import Blame, Place, Tally
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.times import iso

#: The most signs of life in one message.
_MOST_SIGNS = 100
#: The service's own hand in the audit log.
_REAPER = "gridtune/reaper"


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
        if (verdict := _report(steering, connection, caller, evaluation, message, now)) is not None:
            return verdict
    with steering.database.write() as connection:
        return _report_late(steering, connection, caller, evaluation, message, now)


def signs(steering: Steering, caller: Caller, message: Signs) -> Verdicts:
    """Take signs of life of several evaluations together; one that is not known here is lost.

    Raises:
        Unusable: There are too many.
    """
    if len(message.signs) > _MOST_SIGNS:
        raise Unusable("too much at a time", [Flaw("signs", f"there are {len(message.signs)}; send {_MOST_SIGNS}")])
    now = steering.clock()
    verdicts: dict[int, Verdict] = {}
    for take in (_report, _report_late):
        left = [(place, sign) for place, sign in enumerate(message.signs) if place not in verdicts]
        if not left:
            break
        with steering.database.write() as connection:
            # in one order for all agents, so that none waits for another in a circle
            for place, sign in sorted(left, key=lambda entry: entry[1].evaluation):
                reports = Reports(sign.epoch, sign.reports)
                try:
                    verdict = take(steering, connection, caller, sign.evaluation, reports, now)
                except NotFound as error:
                    verdict = Verdict(Advice.LOST, str(error))
                if verdict is not None:
                    verdicts[place] = verdict
    return Verdicts([verdicts[place] for place in range(len(message.signs))])


def _report(
    steering: Steering, connection: Connection, caller: Caller, evaluation: str, message: Reports, now: datetime
) -> Verdict | None:
    """The answer to a report from an evaluation that runs; None if there is more to find out.

    That is for another transaction: this one may have locked the evaluation, which its point has to go before.
    """
    if caller.scope is not Scope.TASK:
        life.refuse_strangers(connection, caller, evaluation)
    until = now + life.lease_time(steering)
    held = evaluations.hold(connection, evaluation, message.epoch, until=until, task=caller.task)
    if held is None:
        return None
    evaluations.add_reports(connection, evaluation, message.reports, now=now)
    return go_on(steering, held, now)


def _report_late(
    steering: Steering, connection: Connection, caller: Caller, evaluation: str, message: Reports, now: datetime
) -> Verdict:
    """A report from an evaluation that does not run any more, as far as the service knew."""
    row, _task = life.visible(connection, caller, evaluation)
    if row.epoch != message.epoch:
        return Verdict(Advice.LOST, f"epoch {message.epoch} is not this evaluation's")
    if not hold(steering, connection, caller, row, now):
        return verdict_of_ended(row)
    evaluations.add_reports(connection, evaluation, message.reports, now=now)
    return go_on(steering, row, now)


def hold(steering: Steering, connection: Connection, caller: Caller, row: Record, now: datetime) -> bool:
    """Renew an evaluation's lease at a sign of life; tells whether it (still, or again) holds its point."""
    until = now + life.lease_time(steering)
    return evaluations.renew(connection, row.id, until=until) or _recover(connection, caller, row, now, until)


def _recover(connection: Connection, caller: Caller, row: Record, now: datetime, until: datetime) -> bool:
    """Undo the loss of an evaluation that was only silent, if nobody has taken its point; tells whether that was so."""
    point = life.point_of(connection, row)
    is_untouched = point.state == PointState.READY.value and point.epoch == row.epoch
    if row.state != EvaluationState.LOST.value or not is_untouched:
        return False
    evaluations.recover(connection, row.id, until=until)
    points.update(
        connection,
        row.task_id,
        row.point,
        state=PointState.RUNNING.value,
        message="",
        **Tally.of(point).without_last_loss().columns(),
    )
    workers.note_found(connection, Place.of(row))
    life.note(connection, caller.user, row, "evaluation.recovered", now)
    return True


def go_on(steering: Steering, row: Record, now: datetime) -> Verdict:
    """The answer to a sign of life from an evaluation that holds its point."""
    is_watched = row.watched_until is not None and row.watched_until > now
    return Verdict(Advice.CONTINUE, lease_seconds=steering.settings.lease_seconds, watched=is_watched)


def verdict_of_ended(row: Record) -> Verdict:
    """The answer to a sign of life from an evaluation that has ended."""
    if row.state == EvaluationState.LOST.value:
        return Verdict(Advice.LOST, row.message)
    return Verdict(Advice.STOP, row.message or f"the evaluation is {row.state}")


def reap(steering: Steering, *, at: datetime | None = None, limit: int = 200) -> list[str]:
    """Take the points back of workers that were silent *at* a time; the next worker gets them, one attempt older.

    Returns:
        The tasks in which something was lost.
    """
    now = at or steering.clock()
    touched, silent = set(), []
    with steering.database.write() as connection:
        silent_now = evaluations.expired(connection, now=now, limit=limit)
        for found in sorted(silent_now, key=lambda found: found.id):  # the order of `signs`
            row = evaluations.find_for_update(connection, found.id)
            if row is None or row.state != EvaluationState.RUNNING.value or row.lease_expires_at >= now:
                continue
            reason = f"no sign of life from {row.worker} since {iso(row.lease_expires_at - life.lease_time(steering))}"
            evaluations.end(connection, row.id, state=EvaluationState.LOST, now=now, message=reason)
            life.note(connection, _REAPER, row, "evaluation.lost", now, message=reason)
            task = tasks.find(connection, row.task_id)
            life.count_attempt(connection, row, task, now, reason, _REAPER, blame=Blame.LOST)
            silent.append(row)
            touched.add(row.task_id)
        workers.note_lost(connection, silent)  # after all points: whoever holds a host waits for no point
    for row in silent:
        instruments.LEASES_LOST.labels(instruments.site_label(row.site)).inc()
    for name in sorted(touched):
        steering.bell.ring_hosts(name)
        steering.bell.ring_askers(name)
    return sorted(touched)
