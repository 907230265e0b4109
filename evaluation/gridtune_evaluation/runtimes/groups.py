"""Payloads as process groups of this node: each the leader of a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Callable, Final, cast

from gridtune_common.protocol import Usage
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.memory import MemoryGauge
from gridtune_evaluation.runtimes.port import Exit, Job

#: SIGTERM goes to the shell and to what it runs. Without this the shell would die at once, and with it what it waits
#: for; so it waits, begins nothing new, and ends with the code of what it waited for. Programs do not inherit a trap.
PATIENT_SHELL: Final = "trap 'exit $?' TERM INT HUP; "

#: Begins what follows when it is told to, and not at all if the agent dies before.
_WHEN_TOLD: Final = ("/bin/sh", "-c", 'read -r gridtune_begin || exit 1; exec "$@" </dev/null', "sh")


def start_group(
    argv: Sequence[str],
    job: Job,
    environment: Mapping[str, str],
    guard: OrphanGuard,
    runtime: str,
    *,
    passes_on: bool = False,
) -> GroupHandle:
    """Start a program for a job, on the CPUs that are the job's.

    Args:
        argv: The program and its arguments.
        job: For which it is.
        environment: All of its variables.
        guard: Ends it should the agent die.
        runtime: Whose it is, for the record.
        passes_on: The program itself hands SIGTERM to those whom it concerns, so nobody else gets it.

    Raises:
        OSError: It could not be started.
        ValueError: An argument or a variable holds a null character.
    """
    with job.output.open("ab") as output, _running_on(job.limits.cpus):
        leader = subprocess.Popen(
            [*_WHEN_TOLD, *argv],
            cwd=job.directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    ward = f"{leader.pid} leader" if passes_on else str(leader.pid)
    guard.watch(ward)
    _tell_to_begin(cast(IO[bytes], leader.stdin))
    gauge = MemoryGauge(leader.pid, job.limits.memory_bytes)
    return GroupHandle(leader, guard, ward, gauge, runtime, passes_on=passes_on)


def gpu_variables(gpus: tuple[str, ...] | None) -> dict[str, str]:
    """What shows CUDA programs some GPUs alone."""
    return {} if gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}


def _tell_to_begin(leaders_input: IO[bytes]) -> None:
    with suppress(BrokenPipeError), leaders_input:  # it may have been killed meanwhile
        leaders_input.write(b"\n")


@contextmanager
def _running_on(cpus: Sequence[int] | None) -> Iterator[None]:
    """Bind this thread to some CPUs for a moment: what it starts meanwhile stays there, without a gap."""
    if cpus is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class GroupHandle:
    """A running process group; its id is the leader's process id.

    That id stays taken until the leader is reaped, so the group is only ever signalled before that.
    """

    def __init__(
        self,
        leader: subprocess.Popen[bytes],
        guard: OrphanGuard,
        ward: str,
        gauge: MemoryGauge,
        runtime: str,
        *,
        passes_on: bool,
    ) -> None:
        self._leader = leader
        self._guard = guard
        self._ward = ward
        self._passes_on = passes_on
        self._gauge = gauge
        self._runtime = runtime
        self._exit: Exit | None = None
        self._started = time.monotonic()
        self._wall_seconds: float | None = None
        self._cpu_seconds: float | None = None

    def poll(self) -> Exit | None:
        """How the leader ended; whatever it left running is killed."""
        if self._exit is None and self._has_ended():
            self._finish()
        if self._exit is None and self._gauge.is_over_the_limit():
            self.kill()
        return self._exit

    def terminate(self) -> None:
        """Send SIGTERM to the group, or to its leader if that passes it on."""
        self._signal(signal.SIGTERM, os.kill if self._passes_on else os.killpg)

    def kill(self) -> None:
        """Send SIGKILL to the group."""
        self._signal(signal.SIGKILL)

    def usage(self) -> Usage:
        """Of the leader and all that it has waited for; memory as it was seen, several times a second."""
        wall = self._wall_seconds if self._wall_seconds is not None else time.monotonic() - self._started
        return Usage(
            wall_seconds=round(wall, 3),
            cpu_seconds=self._cpu_seconds,
            peak_memory_bytes=self._gauge.peak_bytes,
            runtime=self._runtime,
        )

    def close(self) -> None:
        """Kill the group and reap the leader."""
        if self._exit is None:
            self._finish()

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._leader.poll() is not None
        seen = os.waitid(os.P_PID, self._leader.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return seen is not None

    def _finish(self) -> None:
        self._signal(signal.SIGKILL)
        status = self._reap()
        self._wall_seconds = time.monotonic() - self._started
        self._guard.forget(self._ward)
        over = self._gauge.was_over_the_limit and status != 0  # who has just made it has made it
        self._exit = Exit(status, None, over) if status >= 0 else Exit(128 - status, -status, over)

    def _reap(self) -> int:
        if self._leader.returncode is None:
            _, status, used = os.wait4(self._leader.pid, 0)
            self._leader.returncode = os.waitstatus_to_exitcode(status)
            self._cpu_seconds = round(used.ru_utime + used.ru_stime, 3)
            self._gauge.note_largest_process(used.ru_maxrss)
        return self._leader.returncode

    def _signal(self, number: int, send: Callable[[int, int], None] = os.killpg) -> None:
        if self._exit is not None:
            return
        try:
            send(self._leader.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # nobody left; macOS answers so for a group of which only the unreaped leader remains
