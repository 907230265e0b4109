"""When this worker's time ends, as far as anybody says so.

The table `SOURCES` is asked from top to bottom; the first that knows wins. All times are of this node's own clock:
what a batch system says in seconds that are left is as exact as the clock's rate, what it says as a date is off by
the skew between the two machines.

Pilots of PanDA are not in the table: they tell their payload no date. Where the site sets machine and job features,
or the batch system below lets its variables through, those are found.
"""

from __future__ import annotations

import logging
import math
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Final

from gridtune_common import units

_log = logging.getLogger("gridtune.agent")

#: Seconds that a batch system's command may take.
_PATIENCE: Final = 5.0
#: What commands and files print for "no limit" or "not known yet".
_NO_LIMIT: Final = frozenset({"", "-", "UNLIMITED", "NOT_SET", "INVALID", "N/A"})


@dataclass(frozen=True)
class Deadline:
    """The end of this worker's time.

    Attributes:
        at: UNIX time in seconds.
        source: Who says so, for the log.
    """

    at: float
    source: str


@dataclass(frozen=True)
class Surroundings:
    """What a source may look at.

    Attributes:
        environment: The variables of this process.
        flag_seconds: What the command line said, counted from *started*.
        now: UNIX time in seconds.
        started: When this agent began, likewise.
        run: Runs a command and returns what it prints.
        read: Returns the content of a file.
    """

    environment: Mapping[str, str]
    flag_seconds: float | None
    now: float
    started: float
    run: Callable[[Sequence[str]], str]
    read: Callable[[str], str]

    def get(self, name: str) -> str:
        """A variable's value without blanks around it; empty if there is none."""
        return self.environment.get(name, "").strip()


def run(command: Sequence[str]) -> str:
    """Run a command of a batch system.

    Raises:
        OSError: It cannot be started.
        ValueError: It failed, or took too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{command[0]} took more than {_PATIENCE:g} s") from error
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{command[0]} ended with {error.returncode}: {error.stderr.strip()[:200]}") from error
    return done.stdout


def read(path: str) -> str:
    """Read a small text file.

    Raises:
        OSError: It is not there.
    """
    return Path(path).read_text(encoding="utf-8", errors="replace")


def find(
    environment: Mapping[str, str],
    *,
    flag_seconds: float | None = None,
    now: float,
    started: float,
    run: Callable[[Sequence[str]], str] = run,
    read: Callable[[str], str] = read,
) -> Deadline | None:
    """When this worker's time ends; None if nobody says.

    A source that is there but cannot be read is logged, and the next one is asked.

    Args:
        environment: The variables of this process.
        flag_seconds: What the command line said, counted from *started*.
        now: UNIX time in seconds.
        started: When this agent began, likewise.
        run: Runs a command and returns what it prints.
        read: Returns the content of a file.
    """
    around = Surroundings(environment, flag_seconds, now, started, run, read)
    for name, source in SOURCES.items():
        try:
            at = source(around)
        except (OSError, ValueError) as error:
            text = "Cannot read the end of this worker's time from %s: %s"
            _log.warning(text, name, error, extra={"action": "walltime_unreadable"})
            continue
        if at is not None:
            return Deadline(at, name)
    return None


# --- what the user says


def _from_flag(around: Surroundings) -> float | None:
    return None if around.flag_seconds is None else around.started + around.flag_seconds


def _from_walltime(around: Surroundings) -> float | None:
    text = around.get("GRIDTUNE_WALLTIME")
    return around.started + units.seconds(text) if text else None


def _from_deadline(around: Surroundings) -> float | None:
    text = around.get("GRIDTUNE_DEADLINE")
    return _number(text) if text else None


# https://kubernetes.io/docs/concepts/workloads/controllers/job/ (activeDeadlineSeconds). A pod cannot see it: the
# template has to repeat it here. It counts from before the images were pulled, and through all pods of a job, so a
# job with slow pulls or retries does better with GRIDTUNE_DEADLINE.
def _from_active_deadline(around: Surroundings) -> float | None:
    text = around.get("GRIDTUNE_ACTIVE_DEADLINE_SECONDS")
    if not text:
        return None
    # Elsewhere the first process is the machine's.
    began = _began(around, "1") if around.get("KUBERNETES_SERVICE_HOST") else around.started
    return began + _number(text)


# --- batch systems


# https://slurm.schedmd.com/sbatch.html (output environment variables) and squeue.html (%L).
def _from_slurm(around: Surroundings) -> float | None:
    job = around.get("SLURM_JOB_ID")
    if not job:
        return None
    end = around.get("SLURM_JOB_END_TIME")
    if end and _number(end) > 0:
        return _number(end)
    # One line for each part of a heterogeneous job or array; this job's own is the first.
    printed = around.run(["squeue", "-h", "-j", job, "-o", "%L"]).strip()
    left = _clock(printed.splitlines()[0].strip()) if printed else None
    return None if left is None else around.now + left


# https://htcondor.readthedocs.io/en/latest/classad-attributes/job-classad-attributes.html and, for the variable,
# https://htcondor.readthedocs.io/en/latest/users-manual/env-of-job.html. MaxWallTimeMins is no attribute of HTCondor
# itself but what submitters of grids add and their removal policies read, counted from JobCurrentStartDate.
def _from_htcondor(around: Surroundings) -> float | None:
    path = around.get("_CONDOR_JOB_AD")
    if not path:
        return None
    ad = _class_ad(around.read(path))
    running = ad.get("JobCurrentStartDate")
    if running is None and ad.get("JobStatus") == 2:
        running = ad.get("EnteredCurrentStatus")
    if running is None:
        running = around.started
    # The ad is written before the job executes, so this date may not be in it yet.
    executing = ad.get("JobCurrentStartExecutingDate", running)
    ends = [
        began + ad[name] * seconds
        for name, began, seconds in (
            ("AllowedJobDuration", running, 1),
            ("AllowedExecuteDuration", executing, 1),
            ("MaxWallTimeMins", running, 60),
        )
        if name in ad
    ]
    return min(ends, default=None)


# https://docs.adaptivecomputing.com/torque/ (qsub, exported batch environment: PBS_WALLTIME in seconds) and, for
# PBS Professional, which has no such variable, qstat(1B) and pbs_resources(7B).
def _from_pbs(around: Surroundings) -> float | None:
    job = around.get("PBS_JOBID")
    if not job:
        return None
    text = around.get("PBS_WALLTIME")
    if text:
        limit = _clock(text)
        return None if limit is None else _session_began(around) + limit
    printed = around.run(["qstat", "-f", job])
    limit = _clock(_attribute(printed, "Resource_List.walltime"))
    if limit is None:
        return None
    used = _clock(_attribute(printed, "resources_used.walltime"))
    # What was used is measured every now and then, and not at all at first: whichever says that less is left is right.
    ends = [_session_began(around) + limit]
    if used is not None:
        ends.append(around.now + limit - used)
    return min(ends)


# https://www.ibm.com/docs/en/spectrum-lsf/10.1.0?topic=bjobs-o and bjobs-wl: "hours:minutes L" is what is left of the
# run limit. E and X are about estimates, which nobody enforces.
def _from_lsf(around: Surroundings) -> float | None:
    job = around.get("LSB_JOBID")
    if not job:
        return None
    index = around.get("LSB_JOBINDEX")
    if index not in ("", "0"):
        job = f"{job}[{index}]"
    printed = around.run(["bjobs", "-noheader", "-o", "time_left", job]).strip()
    if printed in _NO_LIMIT:
        return None
    found = re.fullmatch(r"(\d+):(\d+)(?::(\d+))?(?:\s+([LEX]))?", printed)
    if found is None:
        raise ValueError(f"bjobs printed {printed[:100]!r}")
    if found.group(4) in ("E", "X"):
        return None
    hours, minutes, seconds = (int(found.group(number) or 0) for number in (1, 2, 3))
    return around.now + 3600 * hours + 60 * minutes + seconds


# HSF-TN-2016-02, "Machine/Job Features", https://zenodo.org/record/1469629. The variables may also hold addresses of
# the web, which are passed over.
def _from_features(around: Surroundings) -> float | None:
    job, machine = around.get("JOBFEATURES"), around.get("MACHINEFEATURES")
    limit = _feature(around, job, "wall_limit_secs")
    began = _feature(around, job, "jobstart_secs")
    ends = [
        _feature(around, job, "shutdowntime_job"),
        None if limit is None else limit + (around.started if began is None else began),
        _feature(around, machine, "shutdowntime"),
    ]
    return min((end for end in ends if end is not None), default=None)


#: Who may know, in the order of asking.
SOURCES: Final[Mapping[str, Callable[[Surroundings], float | None]]] = {
    "--walltime": _from_flag,
    "GRIDTUNE_WALLTIME": _from_walltime,
    "GRIDTUNE_DEADLINE": _from_deadline,
    "GRIDTUNE_ACTIVE_DEADLINE_SECONDS": _from_active_deadline,
    "Slurm": _from_slurm,
    "HTCondor": _from_htcondor,
    "PBS": _from_pbs,
    "LSF": _from_lsf,
    "machine and job features": _from_features,
}


# --- reading


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{text!r} is no time")
    return number


def _clock(text: str) -> float | None:
    """Seconds of ``D-HH:MM:SS``, ``HH:MM:SS``, ``MM:SS`` or plain seconds; None for no limit.

    >>> _clock("1-02:00:05"), _clock("4:59"), _clock("90"), _clock("UNLIMITED")
    (93605.0, 299.0, 90.0, None)
    """
    if text in _NO_LIMIT:
        return None
    found = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", text)
    if found is None:
        raise ValueError(f"{text[:100]!r} is no time as D-HH:MM:SS")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(86400 * days + 3600 * hours + 60 * minutes + seconds)


def _class_ad(text: str) -> dict[str, float]:
    """The plain numbers of a ClassAd in its long form, ``Name = value``; expressions are passed over."""
    pairs = re.findall(r"(?m)^\s*(\w+)\s*=\s*(\d+(?:\.\d+)?)\s*$", text)
    return {name: float(value) for name, value in pairs}


def _attribute(printed: str, name: str) -> str:
    """An attribute as ``qstat -f`` prints it; empty if it is not there."""
    found = re.search(rf"(?m)^\s*{re.escape(name)} = (\S+)\s*$", printed)
    return found.group(1) if found else ""


def _feature(around: Surroundings, folder: str, name: str) -> float | None:
    if not folder or "://" in folder:
        return None
    try:
        text = around.read(os.path.join(folder, name)).strip()
    except FileNotFoundError:
        return None  # every one of them is optional
    return None if text in _NO_LIMIT else _number(text)


def _session_began(around: Surroundings) -> float:
    """When this process's session began, which batch systems start for each job; this agent's own start if unknown."""
    try:
        session = _stat_fields(around.read("/proc/self/stat"))[3]
        return min(_began(around, session), around.started)
    except (OSError, ValueError, IndexError):
        return around.started


def _began(around: Surroundings, process: str) -> float:
    """When a process began, by proc(5): ticks since the boot, and when the boot was."""
    try:
        ticks = int(_stat_fields(around.read(f"/proc/{process}/stat"))[19])
        boot = re.search(r"(?m)^btime (\d+)$", around.read("/proc/stat"))
    except IndexError as error:
        raise ValueError(f"/proc/{process}/stat is too short") from error
    if boot is None:
        raise ValueError("/proc/stat has no btime")
    return int(boot.group(1)) + ticks / os.sysconf("SC_CLK_TCK")


def _stat_fields(text: str) -> list[str]:
    """The fields after the program's name, which may hold blanks and brackets; the first is the state."""
    return text.rpartition(")")[2].split()
