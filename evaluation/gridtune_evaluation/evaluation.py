"""One attempt at one point: furnish a directory, run the payload in it, judge what it left."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from gridtune_common import protocol
from gridtune_common.errors import GridtuneError
from gridtune_common.protocol import Advice, FailureCause
from gridtune_common.taskfile.command import fill
from gridtune_evaluation import results
from gridtune_evaluation.conclusion import Ending, Leave, conclude, failure, killer_of, release
from gridtune_evaluation.contract import Room, environment, values_of
from gridtune_evaluation.data import DataUnavailable, FetchInterrupted, fetch_data
from gridtune_evaluation.equipment import Equipment
from gridtune_evaluation.plan import Plan
from gridtune_evaluation.pulse import Pulse
from gridtune_evaluation.reports import ReportReader
from gridtune_evaluation.runtimes.port import Exit, Handle, Job
from gridtune_evaluation.shutdown import Shutdown
from gridtune_evaluation.steering import Final as FinalWord

_log = logging.getLogger("gridtune.agent")

#: Seconds between two looks at the payload: short at first, so that short trainings stay short.
_FIRST_LOOK: Final = 0.01
_LONGEST_LOOK: Final = 0.25
#: A batch system signals agent and payload alike; seconds to see whether a killed payload was part of that.
_ECHO: Final = 1.0
_POLITE: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def evaluate(lease: protocol.Lease, directory: Path, equipment: Equipment) -> FinalWord:
    """Evaluate a point in a fresh directory; whatever happens, there is a last word about it."""
    plan = equipment.plan
    room = Room(directory, plan)
    try:
        equipment.workplace.furnish(directory, plan.files)
        room.furnish(values_of(lease, plan))
        with fetch_data(plan, room, equipment.inputs, lambda: not equipment.shutdown.asked):
            return _run(lease, room, equipment)
    except FetchInterrupted:
        return release(lease, Leave.SHUTDOWN)
    except DataUnavailable as error:
        return failure(lease, FailureCause.INFRASTRUCTURE, str(error))
    except OSError as error:
        return failure(lease, FailureCause.INFRASTRUCTURE, f"the node failed: {error}")


def _run(lease: protocol.Lease, room: Room, equipment: Equipment) -> FinalWord:
    plan = equipment.plan
    before = results.stamp(room.result)
    reader = ReportReader(room.reports, plan.objectives)
    try:
        job = _job(lease, room, plan)
    except GridtuneError as error:
        return failure(lease, FailureCause.START, str(error), permanent=True)
    try:
        handle = equipment.runtime.start(job)
    except (OSError, ValueError) as error:
        return failure(lease, FailureCause.START, f"the command could not be started: {error}")
    with closing(handle):
        pulse = Pulse(lease, equipment.connect)
        watch = _Watch(handle, plan, room, reader, pulse, equipment.shutdown)
        try:
            exit_ = watch.to_the_end()
        finally:
            unsent = pulse.end()
    result = results.read_result_file(room.result, plan.objectives, before)
    leave = watch.leave or _echo(exit_, result is None, equipment.shutdown)
    verdict = pulse.verdict if leave in (Leave.STOPPED, Leave.LOST) else None
    reason = verdict.reason if verdict is not None else ""
    ending = Ending(exit_, leave, result, reader.last_metrics, unsent, reason)
    return conclude(plan, lease, room, ending)


def _job(lease: protocol.Lease, room: Room, plan: Plan) -> Job:
    values = values_of(lease, plan)
    return Job(
        command=fill(plan.command, values, {*plan.parameters, *values}),
        directory=room.directory,
        environment=environment(os.environ, plan, lease, room),
        output=room.output,
        image=plan.image,
    )


def _echo(exit_: Exit, without_result: bool, shutdown: Shutdown) -> Leave | None:
    """Whether a payload that left early did so at a signal that the agent is about to receive, too."""
    asked = False
    if killer_of(exit_) in _POLITE:
        asked = shutdown.pause(_ECHO)
    elif exit_.code == 0 and without_result:
        asked = shutdown.asked
    return Leave.SHUTDOWN if asked else None


class _Watch:
    """Follows one payload from its start to its end.

    Attributes:
        leave: Why the payload was asked to leave; None while it was not.
    """

    def __init__(
        self, handle: Handle, plan: Plan, room: Room, reader: ReportReader, pulse: Pulse, shutdown: Shutdown
    ) -> None:
        self._handle = handle
        self._plan = plan
        self._room = room
        self._reader = reader
        self._pulse = pulse
        self._shutdown = shutdown
        self._started = time.monotonic()
        self._kill_at: float | None = None
        self.leave: Leave | None = None

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
        self.leave = self._reason_to_leave()
        if self.leave is not None:
            _log.info("Ending a payload: %s.", self.leave.value, extra={"action": "payload_asked_to_leave"})
            self._kill_at = time.monotonic() + self._plan.grace_seconds
            self._room.stop.touch()
            self._handle.terminate()

    def _consider_killing(self) -> None:
        if self._shutdown.hurried or (self._kill_at is not None and time.monotonic() >= self._kill_at):
            self._handle.kill()

    def _reason_to_leave(self) -> Leave | None:
        verdict = self._pulse.verdict
        if verdict is not None:
            return Leave.LOST if verdict.advice is Advice.LOST else Leave.STOPPED
        if self._shutdown.asked:
            return Leave.SHUTDOWN
        if self._plan.timeout_seconds is not None and self._age() > self._plan.timeout_seconds:
            return Leave.TIMEOUT
        return None

    def _age(self) -> float:
        return time.monotonic() - self._started
