"""One attempt at one point: furnish a directory, run the payload in it, judge what it left."""

from __future__ import annotations

import dataclasses
import logging
import signal
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from gridtune_common import protocol
from gridtune_common.errors import GridtuneError, ServiceError
from gridtune_common.protocol import Advice, FailureCause
from gridtune_common.taskfile.command import fill
from gridtune_evaluation import archive, results
from gridtune_evaluation.conclusion import Ending, Leave, conclude, failure, killer_of, release
from gridtune_evaluation.contract import Room, values_of, variables
from gridtune_evaluation.data import DataUnavailable, FetchInterrupted, fetch_data
from gridtune_evaluation.equipment import Equipment
from gridtune_evaluation.plan import Plan
from gridtune_evaluation.pulse import Pulse
from gridtune_evaluation.reports import ReportReader
from gridtune_evaluation.restoring import Restored, restore
from gridtune_evaluation.runtimes.port import EngineError, Exit, Handle, ImageUnavailable, Job
from gridtune_evaluation.saving import Saver
from gridtune_evaluation.shares import Share
from gridtune_evaluation.shutdown import Shutdown
from gridtune_evaluation.steering import Final as FinalWord
from gridtune_evaluation.transfer import TransferError
from gridtune_evaluation.untrusted import touch

_log = logging.getLogger("gridtune.agent")

#: Seconds between two looks at the payload: short at first, so that short trainings stay short.
_FIRST_LOOK: Final = 0.01
_LONGEST_LOOK: Final = 0.25
#: A batch system signals agent and payload alike; seconds to see whether a killed payload was part of that.
_ECHO: Final = 1.0
#: After these the payload's files are saved once more.
_SAVED_AT_THE_END: Final = frozenset({Leave.WALLTIME, Leave.SHUTDOWN})
_POLITE: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def evaluate(lease: protocol.Lease, room: Room, aside: Path, equipment: Equipment, share: Share) -> FinalWord:
    """Evaluate a point in a fresh *room*; whatever happens, there is a last word about it.

    Archives on their way lie in the folder *aside*; the payload gets the *share* of a slot.
    """
    return _Attempt(lease, room, aside, equipment, share).last_word()


class _NoTime(Exception):  # noqa: N818 - named for the fact
    """The evaluation has to end before its payload has begun."""

    def __init__(self, leave: Leave) -> None:
        self.leave = leave


class _Attempt:
    """One evaluation, from its lease to its last word."""

    def __init__(self, lease: protocol.Lease, room: Room, aside: Path, equipment: Equipment, share: Share) -> None:
        self._lease = lease
        self._room = room
        self._aside = aside
        self._equipment = equipment
        self._share = share
        self._plan = equipment.plan
        self._pulse = Pulse(lease, equipment.connect, room.output, equipment.chorus)
        self._leaving = _Reasons(self._plan, lease, self._pulse, equipment)

    def last_word(self) -> FinalWord:
        """Do all of it."""
        lease, leaving = self._lease, self._leaving
        try:
            return self._attempt()
        except _NoTime as interruption:
            return release(lease, interruption.leave)
        except FetchInterrupted:
            return release(lease, leaving.now() or Leave.SHUTDOWN)
        except ImageUnavailable as error:
            cause = FailureCause.NO_IMAGE if error.is_missing else FailureCause.INFRASTRUCTURE
            return failure(lease, cause, str(error))
        except (DataUnavailable, EngineError) as error:
            return failure(lease, FailureCause.INFRASTRUCTURE, str(error))
        except (TransferError, archive.Unreadable) as error:
            return failure(lease, FailureCause.INFRASTRUCTURE, f"the checkpoint could not be fetched: {error}")
        except OSError as error:
            return failure(lease, FailureCause.INFRASTRUCTURE, f"the node failed: {error}")
        finally:
            self._pulse.end()

    def _attempt(self) -> FinalWord:
        plan, room, equipment = self._plan, self._room, self._equipment
        equipment.workplace.furnish(room.directory, plan.files)
        room.furnish(values_of(self._lease, plan))
        digest = equipment.runtime.prepare(plan.image, self._goes_on)
        with fetch_data(plan, room, equipment.inputs, self._goes_on) as supplies:
            restored = self._restore()
            return self._train(tuple(supplies.paths.values()), digest, restored)

    def _goes_on(self) -> bool:
        return self._leaving.now() is None

    def _restore(self) -> Restored | None:
        """Bring back what an earlier evaluation has saved."""
        lease, equipment = self._lease, self._equipment
        if not lease.checkpoints:
            return None
        give_up = lambda: not self._goes_on()  # noqa: E731 - an argument
        try:
            started = time.monotonic()
            with equipment.connect() as steering:
                restored = restore(steering, equipment.carrier, lease, self._room.directory, self._aside, give_up)
            equipment.time_left.note_saving(time.monotonic() - started)  # the way there will take about as long
            return restored
        except (ServiceError, TransferError) as error:
            leave = self._leaving.now()
            if leave is not None:
                raise _NoTime(leave) from error
            if isinstance(error, ServiceError):
                raise TransferError(str(error)) from error
            raise

    def _train(self, inputs: tuple[Path, ...], digest: str, restored: Restored | None) -> FinalWord:
        """Run the payload to its end, and judge what it left."""
        plan, lease, room, equipment = self._plan, self._lease, self._room, self._equipment
        step = restored.checkpoint.step if restored is not None else None
        before = results.stamp(room.result)
        reader = ReportReader(room.reports, plan.objectives, step)
        try:
            job = self._job(inputs, step)
        except GridtuneError as error:
            return failure(lease, FailureCause.START, str(error), permanent=True)
        saver = Saver(
            lease,
            plan,
            room,
            self._aside,
            lambda: reader.highest_step,
            equipment.connect,
            equipment.carrier,
            equipment.time_left,
        )
        equipment.runtime.hand_over(room.directory)
        saver.start(restored)
        try:
            handle = equipment.runtime.start(job)
        except (EngineError, ImageUnavailable) as error:
            saver.give_up()
            return failure(lease, FailureCause.INFRASTRUCTURE, str(error))
        except (OSError, ValueError) as error:
            saver.give_up()
            return failure(lease, FailureCause.START, f"the command could not be started: {error}")
        self._leaving.payload_began()
        with closing(handle), equipment.gpus.reading(job.limits.gpus or ()) as reading:
            watch = _Watch(handle, plan, room, reader, self._pulse, self._leaving, equipment)
            try:
                exit_ = watch.to_the_end()
                result = results.read_result_file(room.result, plan.objectives, before)
                leave = watch.leave or _echo(exit_, result is None, equipment.shutdown)
                if result is None and (leave in _SAVED_AT_THE_END or exit_.is_evicted):
                    # a program that died of the signal, and did not leave, may have been in the middle of a file
                    was_killed = watch.killed or killer_of(exit_) is not None
                    until = equipment.time_left.end_of_saving()
                    saver.finish(was_killed=was_killed, until=until, hurry=lambda: equipment.shutdown.hurried)
            finally:
                saver.give_up()
                unsent = self._pulse.end()
        usage = dataclasses.replace(
            handle.usage(),
            image=digest,
            gpu_seconds=reading.busy_seconds,
            peak_gpu_memory_bytes=reading.peak_memory_bytes,
        )
        verdict = self._pulse.verdict if leave in (Leave.STOPPED, Leave.LOST) else None
        reason = verdict.reason if verdict is not None else ""
        ending = Ending(exit_, leave, result, reader.last_metrics, unsent, reason, usage)
        return conclude(plan, lease, room, ending)

    def _job(self, inputs: tuple[Path, ...], resume_step: int | None) -> Job:
        plan, lease, room = self._plan, self._lease, self._room
        values = values_of(lease, plan)
        return Job(
            command=fill(plan.command, values, {*plan.parameters, *values}),
            directory=room.directory,
            variables=variables(plan, lease, room, self._equipment.runtime.locate(room.directory), resume_step),
            output=room.output.path,
            image=plan.image,
            limits=self._share.limits(plan.needs),
            inputs=inputs,
            scratch=room.scratch,
        )


def _echo(exit_: Exit, without_result: bool, shutdown: Shutdown) -> Leave | None:
    """Whether a payload that left early did so at a signal that the agent is about to receive, too."""
    asked = False
    if killer_of(exit_) in _POLITE:
        asked = shutdown.pause(_ECHO)
    elif exit_.code == 0 and without_result:
        asked = shutdown.asked
    return Leave.SHUTDOWN if asked else None


class _Reasons:
    """Why this evaluation should end now, if it should."""

    def __init__(self, plan: Plan, lease: protocol.Lease, pulse: Pulse, equipment: Equipment) -> None:
        self._plan = plan
        self._pulse = pulse
        self._shutdown = equipment.shutdown
        self._time_left = equipment.time_left
        self._patience = equipment.settings.give_up_seconds
        # a payload gets at least half of what was there, however long its grace
        self._least = (equipment.time_left.seconds or 0.0) / 2
        self._started: float | None = None

    def payload_began(self) -> None:
        """From now on ``payload.timeout`` counts."""
        self._started = time.monotonic()

    def now(self) -> Leave | None:
        """The reason; None to go on."""
        verdict = self._pulse.verdict
        if verdict is not None:
            return Leave.LOST if verdict.advice is Advice.LOST else Leave.STOPPED
        if self._shutdown.asked:
            return Leave.SHUTDOWN
        if self._is_late():
            return Leave.WALLTIME
        if self._pulse.silent_seconds > self._patience:
            return Leave.PARTED
        timeout = self._plan.timeout_seconds
        if timeout is not None and self._started is not None and time.monotonic() - self._started > timeout:
            return Leave.TIMEOUT
        return None

    def _is_late(self) -> bool:
        left = self._time_left.seconds
        return left is not None and left < min(self._time_left.margin(self._plan.grace_seconds), self._least)


class _Watch:
    """Follows one payload from its start to its end.

    Attributes:
        leave: Why the payload was asked to leave; None while it was not.
        killed: Whether it was killed then.
    """

    def __init__(
        self,
        handle: Handle,
        plan: Plan,
        room: Room,
        reader: ReportReader,
        pulse: Pulse,
        leaving: _Reasons,
        equipment: Equipment,
    ) -> None:
        self._handle = handle
        self._plan = plan
        self._room = room
        self._reader = reader
        self._pulse = pulse
        self._leaving = leaving
        self._shutdown = equipment.shutdown
        self._time_left = equipment.time_left
        self._started = time.monotonic()
        self._kill_at: float | None = None
        self.leave: Leave | None = None
        self.killed = False

    def to_the_end(self) -> Exit:
        """Pass reports on, ask the payload to leave when it must, and wait for its end."""
        exit_ = self._handle.poll()
        while exit_ is None:
            self._pulse.send(self._reader.read())
            if self.leave is None:
                self._consider_leaving()
            else:
                self._consider_killing()
            time.sleep(min(_FIRST_LOOK + self._age() / 10, _LONGEST_LOOK))
            exit_ = self._handle.poll()
        self._pulse.send(self._reader.read(ended=True))
        return exit_

    def _consider_leaving(self) -> None:
        self.leave = self._leaving.now()
        if self.leave is not None:
            _log.info("Ending a payload: %s.", self.leave.value, extra={"action": "payload_asked_to_leave"})
            self._kill_at = self._time_left.end_of_grace(self._plan.grace_seconds)
            with suppress(OSError):  # it may have removed even the folder; the signal counts
                touch(self._room.directory, self._room.stop)
            self._handle.terminate()

    def _consider_killing(self) -> None:
        if self._shutdown.hurried or (self._kill_at is not None and time.monotonic() >= self._kill_at):
            self.killed = True
            self._handle.kill()

    def _age(self) -> float:
        return time.monotonic() - self._started
