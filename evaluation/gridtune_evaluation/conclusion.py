"""What the end of a payload means: the one place that turns exit codes, signals and metrics into a message.

=======================================  ==========================================================
the payload …                            then
=======================================  ==========================================================
ended well, left usable metrics          tell
ended well, left none                    fail: no result
ended well, an objective is missing      fail: invalid result
said ``status: failed``                  fail: reported
ended with another code than 0           fail: exit code; infrastructure, if the disk is full
was killed, not by the agent             fail: signal; out of memory, if that was why
was asked to leave by somebody else      fail: signal, unless it left a whole result
was asked to leave, left a whole result  tell (the result file alone counts, a last report is half-way)
was asked to leave, left none            release; or fail: timeout, if that was why
=======================================  ==========================================================
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Optional, Union

from gridtune_common import protocol
from gridtune_common.client import new_request_id
from gridtune_common.protocol import FailureCause, ReleaseCause
from gridtune_common.units import show_bytes
from gridtune_evaluation import results
from gridtune_evaluation.contract import Room
from gridtune_evaluation.logs import SHORT
from gridtune_evaluation.plan import Plan
from gridtune_evaluation.results import ResultFile
from gridtune_evaluation.runtimes.port import Exit
from gridtune_evaluation.steering import Final as FinalWord

_log = logging.getLogger("gridtune.agent")

#: Signals that end programs; a shell shows the death of its child by one as code 128 + signal.
_DEADLY: Final = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGILL,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGTERM,
        signal.SIGXCPU,
        signal.SIGXFSZ,
    }
)


#: Less than this on a disk, in bytes, is nothing.
_NO_ROOM: Final = 2**16
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
#: So many characters at the end of what was printed tell why a payload ended.
_END: Final = 2000


class Leave(Enum):
    """Why the agent asked a payload to leave."""

    STOPPED = "steering told the evaluation to stop"
    LOST = "the lease was lost"
    SHUTDOWN = "the agent was asked to end"
    WALLTIME = "the worker's time is nearly over"
    PARTED = "the service was away for --give-up-after"
    TIMEOUT = "payload.timeout is over"


_RELEASES: Final = {
    Leave.STOPPED: ReleaseCause.STOPPED,
    Leave.LOST: ReleaseCause.STOPPED,
    Leave.SHUTDOWN: ReleaseCause.SHUTDOWN,
    Leave.WALLTIME: ReleaseCause.WALLTIME,
    Leave.PARTED: ReleaseCause.PARTED,
}


@dataclass(frozen=True)
class Ending:
    """All that is known of a payload that has ended.

    Attributes:
        leave: Why it was asked to leave; None if it ended of its own accord.
        reason: What steering said about that.
        result: What it left in its result file.
        last_metrics: The metrics of its last report that has all objectives.
        unsent: Reports that steering does not have yet.
        usage: What the payload has used.
    """

    exit: Exit
    leave: Leave | None
    result: ResultFile | None
    last_metrics: protocol.Metrics | None
    unsent: Sequence[protocol.Report]
    reason: str = ""
    usage: Optional[protocol.Usage] = None


def killer_of(exit_: Exit) -> signal.Signals | None:
    """The signal that ended a payload, also when a shell stood between."""
    number = exit_.signal if exit_.signal is not None else exit_.code - 128
    if exit_.signal is None and number not in _DEADLY:
        return None
    try:
        return signal.Signals(number)
    except ValueError:
        return None  # a real-time signal: the exit code says it


def conclude(plan: Plan, lease: protocol.Lease, room: Room, ending: Ending) -> FinalWord:
    """Make the last word about an evaluation."""
    if ending.leave is None:
        verdict = _judge(plan, room, ending)
    else:
        verdict = _judge_leaver(plan, ending, ending.leave)
    reports = [] if ending.leave is Leave.LOST else list(ending.unsent)
    output = results.tail(room.output, SHORT)
    if isinstance(verdict, _Metrics):
        return protocol.Tell(
            new_request_id(),
            lease.epoch,
            verdict.metrics,
            exit_code=ending.exit.code,
            output_tail=output,
            reports=reports,
            usage=ending.usage,
        )
    if isinstance(verdict, _Release):
        return protocol.Release(
            new_request_id(),
            lease.epoch,
            verdict.cause,
            verdict.message,
            output_tail=output,
            reports=reports,
            usage=ending.usage,
        )
    return protocol.Fail(
        new_request_id(),
        lease.epoch,
        verdict.cause,
        verdict.message,
        exit_code=ending.exit.code,
        output_tail=output,
        reports=reports,
        usage=ending.usage,
    )


def failure(lease: protocol.Lease, cause: FailureCause, message: str, *, permanent: bool = False) -> protocol.Fail:
    """The last word about an evaluation whose payload never ran."""
    return protocol.Fail(new_request_id(), lease.epoch, cause, message, permanent=permanent)


def release(lease: protocol.Lease, leave: Leave) -> protocol.Release:
    """The last word about an evaluation whose payload never ran because there is no time for it."""
    return protocol.Release(new_request_id(), lease.epoch, _RELEASES[leave], leave.value)


@dataclass(frozen=True)
class _Metrics:
    metrics: protocol.Metrics


@dataclass(frozen=True)
class _Failure:
    cause: FailureCause
    message: str


@dataclass(frozen=True)
class _Release:
    cause: ReleaseCause
    message: str


_Verdict = Union[_Metrics, _Failure, _Release]


def _judge_leaver(plan: Plan, ending: Ending, leave: Leave) -> _Verdict:
    result = ending.result
    if ending.exit.code == 0 and result is not None and not result.flaw and not result.has_failed:
        if not _unusable(plan.objectives, result.metrics):
            return _Metrics(result.metrics)
    if leave is Leave.TIMEOUT:
        return _Failure(FailureCause.TIMEOUT, f"ran longer than payload.timeout ({plan.timeout_seconds:g} s)")
    return _Release(_RELEASES[leave], f"{leave.value}: {ending.reason}" if ending.reason else leave.value)


def _judge(plan: Plan, room: Room, ending: Ending) -> _Verdict:
    result = ending.result
    if result is not None and result.has_failed:
        message = result.message or f"{plan.result_file} says that the training failed"
        return _Failure(FailureCause.REPORTED, message)
    if ending.exit.is_out_of_memory:
        return _Failure(FailureCause.OUT_OF_MEMORY, _how_much_memory(plan, ending))
    if ending.exit.is_evicted and (result is None or ending.exit.code != 0):
        message = "was asked to leave by SIGTERM from outside, as by `docker stop`, before it had a result"
        return _Failure(FailureCause.SIGNAL, message)
    if ending.exit.code != 0:
        return _failed_exit(room, ending.exit)
    if result is not None and result.flaw:
        return _Failure(FailureCause.INVALID_RESULT, result.flaw)
    return _judge_metrics(plan, *_first_metrics(plan, room, ending))


def _how_much_memory(plan: Plan, ending: Ending) -> str:
    limit = plan.needs.memory_bytes
    allowed = f"resources.memory ({show_bytes(limit)})" if limit is not None else "there was"
    peak = ending.usage.peak_memory_bytes if ending.usage is not None else None
    seen = f", {show_bytes(peak)} were seen" if peak is not None and limit is not None and peak > limit else ""
    return f"killed because it took more memory than {allowed}{seen}; ask for more, or make the training smaller"


def _failed_exit(room: Room, exit_: Exit) -> _Failure:
    killer = killer_of(exit_)
    output = results.tail(room.output, SHORT)
    if _is_disk_full(room, output):
        return _Failure(FailureCause.INFRASTRUCTURE, f"the disk of {room.directory} is full{_last_line(output)}")
    last = _last_line(output)
    if killer is not None or exit_.signal is not None:
        name = killer.name if killer is not None else f"signal {exit_.signal}"
        hint = " (out of memory?)" if killer is signal.SIGKILL else ""
        return _Failure(FailureCause.SIGNAL, f"killed by {name}{hint}{last}")
    return _Failure(FailureCause.EXIT_CODE, f"ended with exit code {exit_.code}{last}")


def _is_disk_full(room: Room, output: str) -> bool:
    """Whether a payload failed for want of room on the disk: there is none, or it said so before it tidied up."""
    end = output[-_END:]
    return shutil.disk_usage(room.directory).free < _NO_ROOM or any(os.strerror(number) in end for number in _FULL)


def _first_metrics(plan: Plan, room: Room, ending: Ending) -> tuple[str, protocol.Metrics]:
    """The metrics that count, and where they come from; empty if there are none."""
    if ending.result is not None and ending.result.metrics:
        return plan.result_file, ending.result.metrics
    if ending.last_metrics is not None:
        return "the last report", ending.last_metrics
    return "the output", results.search_output(room.output, plan.patterns)


def _judge_metrics(plan: Plan, source: str, metrics: protocol.Metrics) -> _Verdict:
    if not metrics:
        return _Failure(FailureCause.NO_RESULT, _how_to_leave_a_result(plan))
    unusable = _unusable(plan.objectives, metrics)
    if unusable:
        flaws = " and ".join(f"{name} is {why}" for name, why in unusable.items())
        seen = ", ".join(metrics)
        return _Failure(FailureCause.INVALID_RESULT, f"{source}: {flaws}; metrics there: {seen}")
    return _Metrics(metrics)


def _unusable(objectives: tuple[str, ...], metrics: protocol.Metrics) -> dict[str, str]:
    return {
        objective: "missing" if objective not in metrics else "not a finite number"
        for objective in objectives
        if metrics.get(objective) is None
    }


def _how_to_leave_a_result(plan: Plan) -> str:
    wanted = ", ".join(f'"{objective}": 0.2' for objective in plan.objectives)
    named = ", ".join(f"{objective}=0.2" for objective in plan.objectives)
    return (
        f"ended without a result; write {{{wanted}}} to {plan.result_file}, "
        f'append {{"step": 1, {wanted}}} to $GRIDTUNE_DIR/reports.jsonl, '
        f"call gridtune.result({named}) in Python, "
        "or name a regular expression for the output under payload.result.stdout"
    )


def _last_line(output: str, n_characters: int = 500) -> str:
    """What a program says last is most often why it ended; the rest travels as the output's tail."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f": {lines[-1][:n_characters]}" if lines else ""
