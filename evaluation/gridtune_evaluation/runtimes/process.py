"""Payloads as plain processes of the agent's user, each in a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Final

from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.port import Exit, Job

#: SIGTERM goes to the shell and to what it runs. Without this the shell would die at once, and with it what it waits
#: for; so it waits, begins nothing new, and ends with the code of what it waited for. Programs do not inherit a trap.
_PATIENT_SHELL: Final = "trap 'exit $?' TERM INT HUP; "


class Process:
    """Runs a job's command with ``/bin/sh -c``; the job's image is not looked at."""

    def __init__(self, guard: OrphanGuard) -> None:
        self._guard = guard

    def start(self, job: Job) -> ProcessHandle:
        """Start the command as the leader of a new session and process group."""
        with job.output.open("ab") as output:
            leader = subprocess.Popen(
                ["/bin/sh", "-c", _PATIENT_SHELL + job.command],
                cwd=job.directory,
                env=dict(job.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard.watch(leader.pid)
        return ProcessHandle(leader, self._guard)


class ProcessHandle:
    """A running process group; its id is the leader's process id.

    That id stays taken until the leader is reaped, so the group is only ever signalled before that.
    """

    def __init__(self, leader: subprocess.Popen[bytes], guard: OrphanGuard) -> None:
        self._leader = leader
        self._guard = guard
        self._exit: Exit | None = None

    def poll(self) -> Exit | None:
        """How the leader ended; whatever it left running is killed."""
        if self._exit is None and self._has_ended():
            self._finish()
        return self._exit

    def terminate(self) -> None:
        """Send SIGTERM to the group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the group."""
        self._signal(signal.SIGKILL)

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
        status = self._leader.wait()
        self._guard.forget(self._leader.pid)
        self._exit = Exit(status) if status >= 0 else Exit(128 - status, signal=-status)

    def _signal(self, number: int) -> None:
        if self._exit is not None:
            return
        try:
            os.killpg(self._leader.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # nobody left; macOS answers so for a group of which only the unreaped leader remains
