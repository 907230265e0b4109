"""How a worker gets a point, keeps it, and loses it: ask, heartbeat, report, and the reaping of silent workers."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from gridtune_common.errors import Flaw
from gridtune_common.protocol import (
    Advice,
    Ask,
    EvaluationState,
    Heartbeat,
    Lease,
    PointState,
    Reports,
    Scope,
    Signs,
    TaskState,
    Verdict,
    Verdicts,
)
from gridtune_steering.bookkeeping import askers, evaluations, events, lookups, points, requests, tasks
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.identity.secrets import new_id
from gridtune_steering.metrics import instruments
from gridtune_steering.services import checkpoints, claims, pace, turning_away, workers
from gridtune_steering.services import evaluations as life
from gridtune_steering.services.access import Caller, seen
from gridtune_steering.services.errors import DoesNotFit, HostSetAside, NotFound, SteeringError, TaskHasEnded, Unusable
from gridtune_steering.services.idempotency import once_answered
from gridtune_steering.services.retries import Blame, Place, Tally
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.times import iso

#: What a waiting worker's place is held for beyond its ask, so that two asks in a row leave no gap.
_WAITING_SLACK = timedelta(seconds=5)
#: A worker that waits longer looks again at least as often.
_LOOKED_AGAIN_AFTER = timedelta(seconds=2)
#: The most signs of life in one message.
_MOST_SIGNS = 100
#: The service's own hand in the audit log.
_REAPER = "gridtune/reaper"


def ask(steering: Steering, caller: Caller, task: str, message: Ask) -> Lease | None:
    """Claim a ready point for a worker, in one short transaction.

    Returns:
        The lease, or None if no point is ready: then the worker is noted as waiting, and a point will be made for it.

    Raises:
        NotFound: No such task.
        TaskHasEnded: There will be no more points.
        TooLittleTime: The worker's time ends before it could get anywhere.
        DoesNotFit: The worker lacks what the task requires.
        HostSetAside: The worker's host gets no points for a while.
    """
    now = steering.clock()
    place = Place.of(message)
    refusal: SteeringError | None = None  # one that leaves a note, which is kept
    may_be_made = True
    with steering.database.write() as connection:
        known = lookups.for_ask(
            connection,
            task,
            token=caller.token,
            request_id=message.request_id,
            worker=message.worker,
            site=place.site,
            host=place.host,
        )
        row = seen(connection, caller, task, known.task)

        def effect() -> Lease | None:
            nonlocal refusal, may_be_made
            if row.state in {TaskState.FINISHED.value, TaskState.CANCELLED.value}:
                raise TaskHasEnded(f"task {task} has ended: {row.reason}")
            if why := turning_away.turn_away(connection, row, message, now):
                refusal = DoesNotFit(why)
                return None
            has = dataclasses.asdict(message.resources)
            if rest := workers.admit(
                steering, connection, task, message.worker, place, has, now, host=known.host, asker=known.asker
            ):
                refusal = HostSetAside(place.host, rest)
                return None
            is_running = row.state == TaskState.RUNNING.value
            if is_running:
                pace.refuse_in_vain(connection, task, message.remaining_seconds)
            evaluation, point = new_id(16), None
            if is_running:
                point = claims.claim(steering, connection, task, evaluation, place, now, known=known)
            if point is None:
                _note_waiting(steering, connection, task, message, now, known.waits_until)
                may_be_made = is_running and not known.is_used_up
                return None
            return _lease(steering, connection, caller, row, point, message, now)

        # the same ask, sent again, may wait for another while
        request = dataclasses.replace(message, wait=0.0, remaining_seconds=None)
        is_good = _renew_or_forget(steering, connection, caller, message.request_id, known.earlier, now)
        operation, earlier = f"ask {task}", known.earlier if is_good else None
        lease = once_answered(connection, caller, operation, request, Lease, effect, now=now, earlier=earlier)
    if refusal is not None:
        raise refusal
    if lease is None and may_be_made:
        steering.bell.ring_hosts(task)
    return lease


def _note_waiting(
    steering: Steering, connection: Connection, task: str, message: Ask, now: datetime, noted: datetime | None
) -> None:
    """Note that a worker waits for a point, unless it is *noted* for long enough: who waits looks again and again."""
    wait = timedelta(seconds=min(max(message.wait, 0.0), steering.settings.ask_wait_seconds))
    if noted is None or noted < now + min(wait, _LOOKED_AGAIN_AFTER) + _WAITING_SLACK:
        points.wait(connection, task, message.worker, until=now + wait + _WAITING_SLACK)


def any_ready(steering: Steering, task: str) -> bool:
    """Whether there is a point for somebody; not everyone may have each."""
    with steering.database.read() as connection:
        return points.count_ready(connection, task) > 0


def is_worth_asking(steering: Steering, task: str, worker: str) -> bool:
    """Whether a worker that waits should look again though nobody rang: a glance costs far less than an ask."""
    now = steering.clock()
    with steering.database.read() as connection:
        noticed = tasks.glance(connection, task, worker)
    if noticed is None or noticed.state in {TaskState.FINISHED.value, TaskState.CANCELLED.value}:
        return True  # to be told so
    if noticed.waits_until is None or noticed.waits_until < now + _LOOKED_AGAIN_AFTER:
        return True  # or no point would be made for it
    return bool(noticed.has_ready and noticed.state == TaskState.RUNNING.value)


def wait_no_more(steering: Steering, task: str, worker: str) -> None:
    """Make no point for a worker that has hung up."""
    with steering.database.write() as connection:
        points.wait_no_more(connection, task, worker)
        askers.forget(connection, task, worker)


def _renew_or_forget(
    steering: Steering,
    connection: Connection,
    caller: Caller,
    request_id: str,
    earlier: Record | None,
    now: datetime,
) -> bool:
    """Whether there is an answer to this ask already, and its lease is to be given again.

    The lease that an ask got before, if any, is renewed if it still holds; was it taken away, the ask is as new.

    If the worker itself has ended the evaluation, it knew the lease: then this is a late copy of the ask, and nobody
    is there for another point.
    """
    if earlier is None or "evaluation" not in earlier.answer:
        return earlier is not None
    name = earlier.answer["evaluation"]
    if not evaluations.renew(connection, name, until=now + life.lease_time(steering)):
        row = evaluations.find(connection, name)
        if row is None or row.state in {EvaluationState.LOST.value, EvaluationState.STOPPED.value}:
            requests.forget(connection, caller.token, request_id)
            return False
    return True


def _lease(
    steering: Steering,
    connection: Connection,
    caller: Caller,
    owner: Record,
    point: Record,
    message: Ask,
    now: datetime,
) -> Lease:
    task, evaluation, epoch, attempt = point.task_id, point.evaluation_id, point.epoch, point.attempts + 1
    # of a point that nobody had yet there is nothing to go on from
    is_new = epoch == 1
    saved = [] if is_new else checkpoints.to_resume_from(connection, owner, point.number, deltas=message.takes_deltas)
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
        resources=dataclasses.asdict(message.resources),
        started_at=now,
        lease_expires_at=now + life.lease_time(steering),
        metrics={},
        resumed_from=saved[0].id if saved else None,
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
        details={
            "worker": message.worker,
            "site": message.site,
            "epoch": epoch,
            "attempt": attempt,
            **({"resumed_from": saved[0].id, "step": saved[0].step} if saved else {}),
        },
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
        checkpoints=saved,
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
