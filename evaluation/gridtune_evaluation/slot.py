"""A slot: asks for a point, evaluates it, delivers the result, and asks again."""

from __future__ import annotations

import dataclasses
import logging
import socket
import time
from enum import Enum
from typing import Final

from gridtune_common import __version__, protocol
from gridtune_common.client import NothingYet, TaskEnded, new_request_id
from gridtune_common.errors import Refused, ServiceError
from gridtune_common.protocol import FailureCause, ReleaseCause
from gridtune_common.units import show_seconds
from gridtune_evaluation.conclusion import Leave, failure, release
from gridtune_evaluation.contract import Room
from gridtune_evaluation.delivery import deliver
from gridtune_evaluation.equipment import Equipment
from gridtune_evaluation.evaluation import evaluate
from gridtune_evaluation.outage import is_forbidden, jittered, passes, patiently, rests
from gridtune_evaluation.shares import Share
from gridtune_evaluation.spool import Held, Letter
from gridtune_evaluation.steering import Final as FinalWord
from gridtune_evaluation.steering import Steering
from gridtune_evaluation.workplace import aside_of

_log = logging.getLogger("gridtune.agent")


class End(Enum):
    """Why a slot, or an agent, ended; from the best to the worst."""

    TASK_ENDED = "the task has ended"
    POINTS_DONE = "--max-points are evaluated"
    WALLTIME = "the worker's time is nearly over"
    IDLE = "there was no point for --exit-when-idle"
    SHUTDOWN = "it was asked to end"
    UNDELIVERED = "it was asked to end; a result waits in the spool for the next agent"
    GAVE_UP = "the service was away for --give-up-after"
    UNFIT = "it does not fit the task"
    REFUSED = "the service refused it"
    UNAUTHORISED = "its token is not valid, or not allowed"
    CRASHED = "of an error in the agent itself"


#: Less time than this is not worth an ask, in seconds.
_LEAST: Final = 1.0
#: After these there is nothing more to do for a slot.
_ENDS: Final = {ReleaseCause.WALLTIME: End.WALLTIME, ReleaseCause.PARTED: End.GAVE_UP}


class Slot:
    """Evaluates one point after another. Runs in a thread of its own.

    Args:
        worker: Names this slot to the service; unique among all slots of all agents.
        share: What its payloads may use.
        resources: The same, as the service is told.
    """

    def __init__(self, worker: str, equipment: Equipment, share: Share, resources: protocol.WorkerResources) -> None:
        self._worker = worker
        self._share = share
        self._resources = resources
        self._equipment = equipment
        self._settings = equipment.settings
        self._shutdown = equipment.shutdown
        self._idle_since = time.monotonic()
        self._undelivered = False
        self._rests = rests()

    def run(self) -> End:
        """Work until there is a reason to end."""
        with self._equipment.connect() as steering:
            end: End | None = None
            while end is None:
                end = self._reason_to_end() or self._turn(steering)
        _log.info("Slot %s ended: %s.", self._worker, end.value, extra={"action": "slot_ended"})
        return end

    def _reason_to_end(self) -> End | None:
        if self._shutdown.asked:
            return End.UNDELIVERED if self._undelivered else End.SHUTDOWN
        usable = self._usable()
        if usable is not None and usable < _LEAST:
            return End.WALLTIME
        longest = self._settings.idle_exit_seconds
        if longest is not None and time.monotonic() - self._idle_since > longest:
            return End.IDLE
        return None

    def _turn(self, steering: Steering) -> End | None:
        """Ask once and do what the answer says."""
        if not self._equipment.quota.take():
            return End.POINTS_DONE
        answer = self._ask(steering)
        if isinstance(answer, protocol.Lease):
            word = self._serve(steering, answer)
            self._idle_since = time.monotonic()
            return _ENDS.get(word.cause) if isinstance(word, protocol.Release) else None
        self._equipment.quota.give_back()
        if isinstance(answer, NothingYet):
            self._shutdown.pause(self._nap(answer))
            return None
        return answer

    def _ask(self, steering: Steering) -> protocol.Lease | NothingYet | End | None:
        """Ask until there is an answer; repetitions are the same ask, so no lease gets lost on its way."""
        message = protocol.Ask(
            new_request_id(),
            self._worker,
            site=self._settings.site,
            host=socket.gethostname(),
            agent_version=__version__,
            wait=self._wait(),
            resources=self._resources,
            remaining_seconds=self._usable(),
            takes_deltas=True,
        )
        patience = self._equipment.time_left.at_most(self._settings.give_up_seconds)
        try:
            answer = patiently(
                lambda: steering.ask(self._settings.task, message),
                "ask for a point",
                give_up_seconds=patience,
                shutdown=self._shutdown,
            )
        except ServiceError as error:
            if isinstance(error, Refused) and error.kind == "TooLittleTime":
                _log.info("Too little time for another point: %s", error, extra={"action": "too_little_time"})
                return End.WALLTIME
            if isinstance(error, Refused) and error.kind == "DoesNotFit":
                _log.error("No point for slot %s: %s", self._worker, error, extra={"action": "does_not_fit"})
                return End.UNFIT
            _log.error("Cannot ask for a point: %s", error, extra={"action": "ask_failed"})
            if is_forbidden(error):
                return End.UNAUTHORISED
            if not passes(error):
                return End.REFUSED
            return End.GAVE_UP if patience == self._settings.give_up_seconds else End.WALLTIME
        return End.TASK_ENDED if isinstance(answer, TaskEnded) else answer

    def _usable(self) -> float | None:
        """What a payload could have of the time that is left, in seconds; None without end."""
        return self._equipment.time_left.usable(self._equipment.plan.grace_seconds)

    def _wait(self) -> float:
        """How long the service may hold an ask: not far beyond the time to leave for want of work."""
        longest = self._settings.idle_exit_seconds
        wait = self._equipment.time_left.at_most(self._settings.ask_wait_seconds)
        return wait if longest is None else max(min(wait, self._idle_since + longest - time.monotonic()), 0.0)

    def _nap(self, answer: NothingYet) -> float:
        nap = self._equipment.time_left.at_most(max(jittered(answer.retry_after), 0.05))
        longest = self._settings.idle_exit_seconds
        return nap if longest is None else min(nap, longest)

    def _serve(self, steering: Steering, lease: protocol.Lease) -> FinalWord:
        """Evaluate a point; the last word is on disk before it is said, and before the directory goes."""
        extra = {"action": "point_began", "point": lease.point, "evaluation": lease.evaluation}
        _log.info("Point %d begins (attempt %d).", lease.point, lease.attempt, extra=extra)
        word: FinalWord | None = None
        try:
            with self._equipment.workplace.room(lease) as directory:
                room = Room(directory, self._equipment.plan)
                if self._shutdown.asked:
                    word = self._last_word(steering, lease, release(lease, Leave.SHUTDOWN))
                else:
                    found = evaluate(lease, room, aside_of(directory), self._equipment, self._share)
                    word = self._last_word(steering, lease, found)
                    # afterwards: packing may take a while, and nothing renews the lease any more
                    self._equipment.logs.keep(lease, room.output)
        except OSError as error:  # there is not even room for a directory
            if word is None:
                node = failure(lease, FailureCause.INFRASTRUCTURE, f"the node failed: {error}")
                word = self._last_word(steering, lease, node)
        self._rest_after(word)
        return word

    def _last_word(self, steering: Steering, lease: protocol.Lease, found: FinalWord) -> FinalWord:
        """Write it down, and say it."""
        held = self._written_down(lease, found)
        word = held.letter.message
        _note(lease, word)
        give_up = lambda: _is_parting(word) or self._equipment.time_left.is_over  # noqa: E731 - an argument
        if not deliver(steering, self._equipment.spool, held, self._shutdown, give_up=give_up):
            self._undelivered = True
        return word

    def _written_down(self, lease: protocol.Lease, word: FinalWord) -> Held:
        is_last = isinstance(word, protocol.Release) and word.cause in _ENDS
        leaving = is_last or self._shutdown.asked or self._equipment.quota.is_used_up
        word = dataclasses.replace(word, leaving=leaving)
        return self._equipment.spool.put(Letter(self._settings.server, lease.task, lease.evaluation, word))

    def _rest_after(self, word: FinalWord) -> None:
        """If the node itself fails, take no other point for a while: its quick failures would use up all attempts."""
        if not isinstance(word, protocol.Fail) or word.cause is not FailureCause.INFRASTRUCTURE:
            self._rests = rests()
            return
        rest = self._equipment.time_left.at_most(next(self._rests))
        text = "This node fails, so slot %s rests for %s before it takes another point."
        _log.warning(text, self._worker, show_seconds(rest), extra={"action": "slot_rests"})
        self._shutdown.pause(rest)


def _is_parting(word: FinalWord) -> bool:
    return isinstance(word, protocol.Release) and word.cause is ReleaseCause.PARTED


def _note(lease: protocol.Lease, word: FinalWord) -> None:
    extra = {"action": "point_ended", "point": lease.point, "evaluation": lease.evaluation}
    if isinstance(word, protocol.Tell):
        metrics = ", ".join(f"{name} {value:.6g}" for name, value in word.metrics.items() if value is not None)
        _log.info("Point %d is done: %s.", lease.point, metrics, extra=extra)
    elif isinstance(word, protocol.Fail):
        _log.warning("Point %d failed (%s): %s", lease.point, word.cause.value, word.message, extra=extra)
    else:
        _log.info("Point %d is given back: %s.", lease.point, word.message, extra=extra)
