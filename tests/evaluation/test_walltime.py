"""The end of a worker's time is found where the batch system says it, in the forms that it says it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gridtune_evaluation import walltime
from gridtune_evaluation.walltime import Deadline, find

_NOW = 1_800_000_000.0
_STARTED = _NOW - 100

_JOB_AD = """
AllowedJobDuration = 7200
AllowedExecuteDuration = 3600
Cmd = "/home/me/agent.sh"
JobCurrentStartDate = 1799999000
JobCurrentStartExecutingDate = 1799999900
JobStatus = 2
EnteredCurrentStatus = 1799990000
Requirements = (TARGET.Arch == "X86_64") && MaxWallTimeMins > 5
"""

_QSTAT = """Job Id: 1234.server
    Job_Name = agent
    resources_used.cput = 00:00:01
    resources_used.walltime = 00:10:00
    job_state = R
    Resource_List.nodect = 1
    Resource_List.walltime = 01:00:00
    stime = Fri Jan 15 07:50:00 2027
"""


def look(
    environment: Mapping[str, str],
    *,
    files: Mapping[str, str] | None = None,
    prints: Mapping[str, str] | None = None,
    **options: Any,
) -> Deadline | None:
    """What `find` finds with these files and these commands."""

    def run(command: Sequence[str]) -> str:
        try:
            return (prints or {})[" ".join(command)]
        except KeyError:
            raise FileNotFoundError(f"no such command: {' '.join(command)}") from None

    def read(path: str) -> str:
        try:
            return (files or {})[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    return find(environment, now=_NOW, started=_STARTED, run=run, read=read, **options)


def seconds_left(found: Deadline | None) -> float | None:
    """From now to the end."""
    return None if found is None else found.at - _NOW


def test_nobody_says_anything() -> None:
    """On a laptop there is no end."""
    assert look({}) is None


def test_the_users_word_counts_first() -> None:
    """The flag beats the variables, and they beat the batch system."""
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(_NOW) + 9)}
    variables = {**slurm, "GRIDTUNE_DEADLINE": str(_NOW + 50)}

    assert look({**variables, "GRIDTUNE_WALLTIME": "1h"}, flag_seconds=130) == Deadline(_NOW + 30, "--walltime")
    assert look({**variables, "GRIDTUNE_WALLTIME": "1h"}) == Deadline(_NOW + 3500, "GRIDTUNE_WALLTIME")
    assert look(variables) == Deadline(_NOW + 50, "GRIDTUNE_DEADLINE")
    assert look(slurm) == Deadline(_NOW + 9, "Slurm")


def test_a_pods_deadline_counts_from_its_first_process() -> None:
    """In a container of Kubernetes the first process is about as old as the container."""
    environment = {"GRIDTUNE_ACTIVE_DEADLINE_SECONDS": "3600", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    began = int(_NOW) - 600
    files = {"/proc/1/stat": stat_line(began - 1_700_000_000, session=1), "/proc/stat": "cpu 1 2\nbtime 1700000000\n"}

    assert seconds_left(look(environment, files=files)) == 3000
    assert seconds_left(look({"GRIDTUNE_ACTIVE_DEADLINE_SECONDS": "3600"}, files=files)) == 3500


def stat_line(age: float, *, session: int) -> str:
    """A line of /proc/PID/stat, of a process that began *age* seconds after the boot."""
    ticks = int(age * os.sysconf("SC_CLK_TCK"))
    return f"1 (a (tricky) name) S 0 1 {session} 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {ticks} 1000 200 more\n"


@pytest.mark.parametrize(
    ("printed", "left"),
    [
        ("4:59", 299),
        ("0:07", 7),
        ("59:00", 3540),
        ("2:00:00", 7200),
        ("1-02:03:04", 93784),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("INVALID", None),
        ("", None),
        ("1:00\n9:00", 60),
    ],
)
def test_what_squeue_prints(printed: str, left: float | None) -> None:
    """Slurm writes the time that is left with as few fields as it needs."""
    prints = {"squeue -h -j 7 -o %L": printed + "\n"}

    assert seconds_left(look({"SLURM_JOB_ID": "7"}, prints=prints)) == left


def test_htcondor_the_earliest_limit_counts() -> None:
    """Each limit runs from its own beginning; expressions are no limits."""
    found = look({"_CONDOR_JOB_AD": "/scratch/.job.ad"}, files={"/scratch/.job.ad": _JOB_AD})

    assert found == Deadline(1799999900 + 3600, "HTCondor")


@pytest.mark.parametrize(
    ("ad", "left"),
    [
        ("AllowedExecuteDuration = 3600\n", 3500),
        ("AllowedExecuteDuration = 3600\nJobCurrentStartDate = 1799999000\n", 2600),
        ("MaxWallTimeMins = 60\nJobCurrentStartDate = 1799999000\n", 2600),
        ("AllowedJobDuration = 3600\nJobStatus = 2\nEnteredCurrentStatus = 1799999500\n", 3100),
        ("AllowedJobDuration = 3600\nJobStatus = 1\nEnteredCurrentStatus = 1700000000\n", 3500),
        ('Cmd = "MaxWallTimeMins = 60"\n', None),
    ],
    ids=["no dates", "not executing yet", "minutes", "running since", "waited since", "none"],
)
def test_htcondor_with_less_in_the_ad(ad: str, left: float | None) -> None:
    """What is missing is taken from what is there, on the safe side."""
    assert seconds_left(look({"_CONDOR_JOB_AD": "/ad"}, files={"/ad": ad})) == left


def test_pbs_counts_from_the_start_of_the_session() -> None:
    """Torque says the limit alone; the job's shell is as old as the job."""
    files = {
        "/proc/self/stat": stat_line(0, session=42),
        "/proc/42/stat": stat_line(_NOW - 1000 - 1_700_000_000, session=42),
        "/proc/stat": "btime 1700000000\n",
    }
    environment = {"PBS_JOBID": "1234.server", "PBS_WALLTIME": "3600"}

    assert seconds_left(look(environment, files=files)) == 2600
    # The leader of the session can be outside of this container: its number is 0, and no such process is seen.
    files["/proc/self/stat"] = stat_line(0, session=0)
    assert seconds_left(look(environment, files=files)) == 3500
    assert seconds_left(look(environment)) == 3500


def test_pbs_professional_is_asked() -> None:
    """Without the variable the job's limit and use are printed by qstat."""
    found = look({"PBS_JOBID": "1234.server"}, prints={"qstat -f 1234.server": _QSTAT})

    assert seconds_left(found) == 3000


def test_pbs_without_a_limit() -> None:
    """A queue may have none."""
    assert look({"PBS_JOBID": "1"}, prints={"qstat -f 1": "Job Id: 1\n    job_state = R\n"}) is None


@pytest.mark.parametrize(
    ("printed", "left"),
    [("1:30 L", 5400), ("00:02:30 L", 150), ("0:5", 300), ("-", None), ("2:00 E", None), ("0:0 X", None)],
)
def test_what_bjobs_prints(printed: str, left: float | None) -> None:
    """LSF says hours and minutes that are left; estimates are no limits."""
    prints = {"bjobs -noheader -o time_left 12[3]": printed + "\n"}

    assert seconds_left(look({"LSB_JOBID": "12", "LSB_JOBINDEX": "3"}, prints=prints)) == left


def test_lsf_without_an_array() -> None:
    """An index of zero means that the job is no array."""
    prints = {"bjobs -noheader -o time_left 12": "0:10 L"}

    assert seconds_left(look({"LSB_JOBID": "12", "LSB_JOBINDEX": "0"}, prints=prints)) == 600


def test_machine_and_job_features() -> None:
    """The earliest of the three dates counts; each may be missing."""
    environment = {"JOBFEATURES": "/jf", "MACHINEFEATURES": "/mf"}
    files = {
        "/jf/shutdowntime_job": f"{_NOW + 900:.0f}\n",
        "/jf/wall_limit_secs": "1000\n",
        "/jf/jobstart_secs": f"{_NOW - 300:.0f}\n",
        "/mf/shutdowntime": f"{_NOW + 800:.0f}\n",
    }

    assert seconds_left(look(environment, files=files)) == 700
    assert seconds_left(look(environment, files={"/mf/shutdowntime": files["/mf/shutdowntime"]})) == 800
    assert seconds_left(look(environment, files={"/jf/wall_limit_secs": "1000"})) == 900
    assert look(environment, files={}) is None
    assert look({"JOBFEATURES": "https://site.example/jf"}, files=files) is None


@pytest.mark.parametrize(
    ("environment", "files", "prints"),
    [
        ({"GRIDTUNE_WALLTIME": "soon"}, {}, {}),
        ({"GRIDTUNE_DEADLINE": "tomorrow"}, {}, {}),
        ({"GRIDTUNE_DEADLINE": "nan"}, {}, {}),
        ({"SLURM_JOB_ID": "7"}, {}, {}),
        ({"SLURM_JOB_ID": "7"}, {}, {"squeue -h -j 7 -o %L": "slurm_load_jobs error"}),
        ({"_CONDOR_JOB_AD": "/nowhere"}, {}, {}),
        ({"PBS_JOBID": "1"}, {}, {}),
        ({"PBS_JOBID": "1", "PBS_WALLTIME": "long"}, {}, {}),
        ({"LSB_JOBID": "1"}, {}, {"bjobs -noheader -o time_left 1": "Job <1> is not found"}),
        ({"JOBFEATURES": "/other"}, {"/other/wall_limit_secs": "many"}, {}),
    ],
)  # fmt: skip
def test_the_unreadable_is_logged_and_passed_over(
    environment: dict[str, str],
    files: dict[str, str],
    prints: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next source is asked, and the log says what was wrong."""
    environment = {**environment, "MACHINEFEATURES": "/mf"}

    found = look(environment, files={**files, "/mf/shutdowntime": str(_NOW + 60)}, prints=prints)

    expected = None if "JOBFEATURES" in environment else 60
    assert seconds_left(found) == expected
    assert "Cannot read the end of this worker's time from" in caplog.text


def test_real_commands_are_run() -> None:
    """What is printed comes back; what fails or hangs is an error."""
    assert walltime.run([sys.executable, "-c", "print('4:59')"]) == "4:59\n"
    with pytest.raises(ValueError, match="ended with 3: broken"):
        walltime.run([sys.executable, "-c", "import sys; sys.exit(print('broken', file=sys.stderr) or 3)"])
    with pytest.raises(FileNotFoundError):
        walltime.run(["no-such-command-here"])


def test_a_command_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch system in trouble does not hold an agent up."""
    monkeypatch.setattr(walltime, "_PATIENCE", 0.2)

    with pytest.raises(ValueError, match=r"sleep took more than 0\.2 s"):
        walltime.run(["sleep", "30"])


def test_a_real_session_can_be_read() -> None:
    """The files of the real kernel have the form that is expected; the session is of the test's own making."""
    code = (
        "import time\n"
        "from gridtune_evaluation.walltime import find\n"
        "now = time.time()\n"
        "found = find({'PBS_JOBID': '1', 'PBS_WALLTIME': '3600'}, now=now, started=now + 100)\n"
        "print(found.at - now)\n"
    )

    child = subprocess.run(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )

    assert float(child.stdout) == pytest.approx(3600, abs=20)
