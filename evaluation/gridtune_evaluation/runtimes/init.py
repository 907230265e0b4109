"""What runs as the first process of a container, in whatever shell the image has: dash, bash or busybox.

A shell is no init: as process 1 it would not pass a signal on, and without a trap the kernel would not even deliver it.
So this one hands SIGTERM to all processes of the container, waits for the payload, and reads from the control groups
what all of it has used. The output goes straight to a file, in the order of writing, whatever becomes of the agent.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Optional

from gridtune_evaluation.runtimes.groups import PATIENT_SHELL
from gridtune_evaluation.untrusted import read_plain

_log = logging.getLogger("gridtune.agent")

#: Where the notes of `SCRIPT` are, in the control folder.
NOTES: Final = "container"
#: A file there that says what SIGTERM says: before `SCRIPT` has its trap, the kernel drops a signal for process 1.
LEAVE: Final = "leave"
#: A pipe there that the agent holds open while it lives.
ALIVE: Final = "alive"
#: Seconds between SIGTERM and SIGKILL for the payload of a dead agent.
LIFELINE_GRACE: Final = 5

#: More than the notes ever are, unless the payload wrote them.
_NOTES_LIMIT: Final = 64 * 2**10

#: The files of both versions of control groups that say what was used: CPU time, peak memory, kills for want of memory.
_GROUP_FILES: Final = (
    "/sys/fs/cgroup/cpu.stat",
    "/sys/fs/cgroup/memory.peak",
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/cpuacct/cpuacct.usage",
    "/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage",
    "/sys/fs/cgroup/memory/memory.max_usage_in_bytes",
    "/sys/fs/cgroup/memory/memory.oom_control",
)

#: Runs ``$1`` as ``$payload``, and goes on when it has ended with ``$code``; a signal is passed on and waited out.
_WAIT: Final = f"""
/bin/sh -c "{PATIENT_SHELL.replace("$", chr(92) + "$")}$1" &
payload=$!
[ "$asked" = 0 ] || kill -TERM "$all"  # also what its shell has just begun, and would wait for
while :; do
    wait "$payload"
    code=$?
    kill -0 "$payload" 2>/dev/null || break
done
# the signal may have ended the waiting, and the payload was gone before the next: then its code is still to be had
wait "$payload" 2>/dev/null
again=$?
[ "$again" = 127 ] || code=$again
"""

#: Ends the payload when nobody holds the pipe `ALIVE` open any more, also if the warden was killed with its agent. The
#: end of process 1 ends this, too. A pipe without a writer would block who opens it, so it is opened for both first.
_WATCH: Final = f"""
[ -p "$GRIDTUNE_DIR/{ALIVE}" ] && (
    trap '' TERM INT HUP
    exec 8<>"$GRIDTUNE_DIR/{ALIVE}" 9<"$GRIDTUNE_DIR/{ALIVE}" 8>&-
    while read -r _; do :; done <&9
    kill -TERM -1
    sleep {LIFELINE_GRACE}
    kill -KILL -1
) >/dev/null 2>&1 &
"""

#: For ``/bin/sh -c``; its arguments are the payload's command and the output's file.
SCRIPT: Final = f"""
exec >>"$2" 2>&1 </dev/null
asked=0
all=-1
trap 'asked=1; kill -TERM -1' TERM INT HUP
[ -e "$GRIDTUNE_DIR/{LEAVE}" ] && asked=1
{_WATCH}
{_WAIT}
{{
    echo "asked $asked"
    for file in {" ".join(_GROUP_FILES)}; do
        [ -r "$file" ] && while read -r line; do echo "${{file##*/}} $line"; done <"$file"
    done
}} 1<>"$GRIDTUNE_DIR/{NOTES}" 2>/dev/null  # to open a pipe, which the payload could have made of it, does not block so
exit "$code"
"""

#: The same for the first program of a container whose process 1 is the runtime's own, which passes signals on to this
#: program alone; its arguments are the payload's command and `process_namespace` of the node. Where that is the
#: container's as well, or nobody can tell, "all processes" could be the user's: there it is the process group.
CHILD_SCRIPT: Final = f"""
asked=0
all=0
mine=$(readlink /proc/self/ns/pid 2>/dev/null)
[ -n "$2" ] && [ -n "$mine" ] && [ "$mine" != "$2" ] && all=-1
trap 'asked=1; trap : TERM INT HUP; kill -TERM "$all"' TERM INT HUP
{_WAIT}
exit "$code"
"""


def open_lifeline(control: Path, owner: int | None) -> int | None:
    """Make and open `ALIVE` before `SCRIPT` starts; None where there are no pipes: then the warden has to do."""
    path = control / ALIVE
    try:
        with suppress(FileNotFoundError):
            path.unlink()
        os.mkfifo(path, 0o600)
        if owner is not None:
            os.chown(path, owner, owner)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        _log.debug("Containers of %s have no lifeline: %s", control, error)
        return None


def process_namespace() -> str:
    """Which processes this one can see; empty if that cannot be told."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


@dataclass(frozen=True)
class Notes:
    """What `SCRIPT` has written down; None for what it could not see.

    Attributes:
        was_asked: Whether SIGTERM came, from whomever.
        n_killed: How many processes were killed because the container's memory was used up.
    """

    was_asked: bool = False
    cpu_seconds: Optional[float] = None
    peak_memory_bytes: Optional[int] = None
    n_killed: int = 0

    @classmethod
    def read(cls, control: Path) -> Notes:
        """The notes in a control folder; empty ones if the container was killed before it wrote them.

        The payload could have written there as well, so nothing is trusted but to be a number.
        """
        try:
            text = read_plain(control.parent, control / NOTES, _NOTES_LIMIT).decode(errors="replace")
        except OSError:
            return cls()
        lines = text.splitlines()
        found = {key: int(value) for key, _, value in (line.rpartition(" ") for line in lines) if _is_number(value)}
        microseconds, nanoseconds = found.get("cpu.stat usage_usec"), found.get("cpuacct.usage")
        cpu = microseconds / 1e6 if microseconds is not None else nanoseconds and nanoseconds / 1e9
        killed = found.get("memory.events oom_kill") or found.get("memory.oom_control oom_kill") or 0
        return cls(
            was_asked=found.get("asked") == 1,
            cpu_seconds=None if cpu is None else round(cpu, 3),
            peak_memory_bytes=found.get("memory.peak") or found.get("memory.max_usage_in_bytes"),
            n_killed=killed,
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20
