"""How a worker gets a point: asks, and the wait for a point that is still to be made."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from gridtune_common.protocol import Ask, EvaluationState, Lease, TaskState
from gridtune_steering.bookkeeping import askers, evaluations, events, lookups, points, requests, tasks
from gridtune_steering.bookkeeping.lookups import ForAsk
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.identity.secrets import new_id
from gridtune_steering.services import checkpoints, claims, pace, turning_away, workers
from gridtune_steering.services import evaluations as life
from gridtune_steering.services.access import Caller, seen
from gridtune_steering.services.errors import DoesNotFit, HostSetAside, SteeringError, TaskHasEnded
from gridtune_steering.services.idempotency import once_answered
from gridtune_steering.services.retries import Place
from gridtune_steering.services.steering import Steering

#: What a waiting worker's place is held for beyond its ask, so that two asks in a row leave no gap.
_WAITING_SLACK = timedelta(seconds=5)
#: A worker that waits longer looks again at least as often.
_LOOKED_AGAIN_AFTER = timedelta(seconds=2)
_ENDED = frozenset({TaskState.FINISHED.value, TaskState.CANCELLED.value})


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
    now, place = steering.clock(), Place.of(message)
    # the same ask, sent again, may wait for another while
    request = dataclasses.replace(message, wait=0.0, remaining_seconds=None)
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
        attempt = _Attempt(steering, connection, caller, row, message, place, known, now)
        earlier = attempt.earlier_lease()
        lease = once_answered(
            connection, caller, f"ask {task}", request, Lease, attempt.lease, now=now, earlier=earlier
        )
    if attempt.refusal is not None:
        raise attempt.refusal
    if lease is None and attempt.may_be_made:
        steering.bell.ring_hosts(task)
    return lease


def any_ready(steering: Steering, task: str) -> bool:
    """Whether there is a point for somebody; not everyone may have each."""
    with steering.database.read() as connection:
        return points.count_ready(connection, task) > 0


def is_worth_asking(steering: Steering, task: str, worker: str) -> bool:
    """Whether a worker that waits should look again though nobody rang: a glance costs far less than an ask."""
    now = steering.clock()
    with steering.database.read() as connection:
        noticed = tasks.glance(connection, task, worker)
    if noticed is None or noticed.state in _ENDED:
        return True  # to be told so
    if noticed.waits_until is None or noticed.waits_until < now + _LOOKED_AGAIN_AFTER:
        return True  # or no point would be made for it
    return bool(noticed.has_ready and noticed.state == TaskState.RUNNING.value)


def wait_no_more(steering: Steering, task: str, worker: str) -> None:
    """Make no point for a worker that has hung up."""
    with steering.database.write() as connection:
        points.wait_no_more(connection, task, worker)
        askers.forget(connection, task, worker)


@dataclasses.dataclass(slots=True)
class _Attempt:
    """One ask, with what is known of it, in its transaction.

    Attributes:
        refusal: Why the worker gets nothing, where that leaves a note which is to be kept.
        may_be_made: Whether a host could make a point for it.
    """

    steering: Steering
    connection: Connection
    caller: Caller
    task: Record
    message: Ask
    place: Place
    known: ForAsk
    now: datetime
    refusal: SteeringError | None = None
    may_be_made: bool = True

    def earlier_lease(self) -> Record | None:
        """The answer that this ask got before, if its lease is to be given again.

        A lease that still holds is renewed; was it taken away, the ask is as new. If the worker itself has ended the
        evaluation, it knew the lease: then this is a late copy of the ask, and nobody is there for another point.
        """
        earlier = self.known.earlier
        if earlier is None or "evaluation" not in earlier.answer:
            return earlier
        name, until = earlier.answer["evaluation"], self.now + life.lease_time(self.steering)
        if not evaluations.renew(self.connection, name, until=until):
            row = evaluations.find(self.connection, name)
            if row is None or row.state in {EvaluationState.LOST.value, EvaluationState.STOPPED.value}:
                requests.forget(self.connection, self.caller.token, self.message.request_id)
                return None
        return earlier

    def lease(self) -> Lease | None:
        """A point, if there is one for the worker."""
        if self.task.state in _ENDED:
            raise TaskHasEnded(f"task {self.task.id} has ended: {self.task.reason}")
        self.refusal = self._refuse()
        if self.refusal is not None:
            return None
        is_running = self.task.state == TaskState.RUNNING.value
        point = self._claim() if is_running else None
        if point is None:
            self._note_waiting()
            self.may_be_made = is_running and not self.known.is_used_up
            return None
        return self._leased(point)

    def _refuse(self) -> SteeringError | None:
        message, known = self.message, self.known
        if why := turning_away.turn_away(self.connection, self.task, message, self.now):
            return DoesNotFit(why)
        rest = workers.admit(
            self.steering,
            self.connection,
            self.task.id,
            message.worker,
            self.place,
            dataclasses.asdict(message.resources),
            self.now,
            host=known.host,
            asker=known.asker,
        )
        return HostSetAside(self.place.host, rest) if rest else None

    def _claim(self) -> Record | None:
        pace.refuse_in_vain(self.connection, self.task.id, self.message.remaining_seconds)
        return claims.claim(
            self.steering, self.connection, self.task.id, new_id(16), self.place, self.now, known=self.known
        )

    def _note_waiting(self) -> None:
        """Note that the worker waits, unless it is noted for long enough: who waits looks again and again."""
        wait = timedelta(seconds=min(max(self.message.wait, 0.0), self.steering.settings.ask_wait_seconds))
        noted = self.known.waits_until
        if noted is None or noted < self.now + min(wait, _LOOKED_AGAIN_AFTER) + _WAITING_SLACK:
            until = self.now + wait + _WAITING_SLACK
            points.wait(self.connection, self.task.id, self.message.worker, until=until)

    def _leased(self, point: Record) -> Lease:
        """Write down who has a point from now on."""
        connection, message, task = self.connection, self.message, self.task.id
        evaluation, epoch, attempt = point.evaluation_id, point.epoch, point.attempts + 1
        # of a point that nobody had yet there is nothing to go on from
        is_new = epoch == 1
        saved = (
            []
            if is_new
            else checkpoints.to_resume_from(connection, self.task, point.number, deltas=message.takes_deltas)
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
            resources=dataclasses.asdict(message.resources),
            started_at=self.now,
            lease_expires_at=self.now + life.lease_time(self.steering),
            metrics={},
            resumed_from=saved[0].id if saved else None,
        )
        points.wait_no_more(connection, task, message.worker)
        events.add(
            connection,
            at=self.now,
            actor=self.caller.user,
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
            lease_seconds=self.steering.settings.lease_seconds,
            heartbeat_seconds=self.steering.settings.heartbeat_seconds,
            checkpoints=saved,
        )
