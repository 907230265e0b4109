"""What this agent may use of its node: by the control groups and the batch system, not by what the node has.

====================  =======================================================================================
what                  the least of
====================  =======================================================================================
CPUs                  the affinity of this process; the quota of its control groups; the batch system's number
memory                the node's; the limits of its control groups; the batch system's number
GPUs                  ``CUDA_VISIBLE_DEVICES``, else what the batch system has assigned, else all that the driver shows
====================  =======================================================================================

The batch systems' variables: sbatch(1) for Slurm; HTCondor manual, "Environment variables" and the machine ad
``$_CONDOR_MACHINE_AD``; qsub(1B) for PBS; bsub(1) for LSF; HSF-TN-2016-02 for machine and job features.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Final, Optional

_log = logging.getLogger("gridtune.agent")

#: Seconds that nvidia-smi may take: the first call on a node wakes the driver.
_PATIENCE: Final = 30.0
#: Larger than this a control group's limit is none: the kernel says "no limit" by a huge number (version 1).
_NO_LIMIT: Final = 2**60
_MIB: Final = 2**20
#: Where Slurm, PBS and LSF say how many CPUs this has on this node; the first one that is set counts.
_CPU_VARIABLES: Final = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "NCPUS", "LSB_MAX_NUM_PROCESSORS")
#: Variables that hold this user's GPUs, by index or by name.
_GPU_VARIABLES: Final = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "SLURM_JOB_GPUS", "_CONDOR_AssignedGPUs")


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: What ``CUDA_VISIBLE_DEVICES`` calls it.
        model: As the driver says; empty if it does not.
        memory_bytes: Likewise; None if unknown.
    """

    name: str
    model: str = ""
    memory_bytes: Optional[int] = None


@dataclass(frozen=True)
class Hardware:
    """What an agent may use.

    Attributes:
        cpus: Numbers of logical CPUs.
        owns_cpus: Whether these are this agent's own. Quotas and most batch systems say how many CPUs' time it may use
            and not on which ones: who bound payloads to the first of them would put those of all agents there.
        memory_bytes: None if unknown.
    """

    cpus: tuple[int, ...]
    memory_bytes: Optional[int] = None
    gpus: tuple[Gpu, ...] = ()
    arch: str = ""
    owns_cpus: bool = True


@dataclass(frozen=True)
class Surroundings:
    """Where to look; tests look elsewhere."""

    environment: Mapping[str, str]
    root: Path = Path("/")
    affinity: Callable[[], Iterable[int]] = lambda: _affinity()
    run: Callable[[Sequence[str]], str] = lambda argv: run_program(argv)

    def read(self, path: str) -> str:
        """A file's text; empty if it is not there, or not for us."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace")
        except OSError:
            return ""


def look(around: Surroundings) -> Hardware:
    """Find out what this agent may use."""
    allowed = sorted(around.affinity())
    count = _n_cpus(around, len(allowed))
    return Hardware(
        cpus=tuple(allowed[:count]),
        memory_bytes=_memory_bytes(around),
        gpus=_gpus(around),
        arch=platform.machine(),
        owns_cpus=count == len(allowed),
    )


# --- CPUs and memory


def _n_cpus(around: Surroundings, n_allowed: int) -> int:
    said = [
        next((around.environment[name] for name in _CPU_VARIABLES if name in around.environment), None),
        around.read(_feature(around, "allocated_cpu")),
    ]
    counts = [*_quotas(around), *map(_whole, said), _condor(around, "Cpus")]
    return min([n_allowed, *(count for count in counts if count)])


def _quotas(around: Surroundings) -> list[int]:
    """How many CPUs' time the control groups allow, rounded up."""
    found = []
    for folder in _groups(around, "cpu"):
        quota, _, period = around.read(f"{folder}/cpu.max").strip().partition(" ")  # version 2
        if not period:
            quota, period = (around.read(f"{folder}/cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(max(math.ceil(int(quota) / int(period)), 1))
    return found


def _memory_bytes(around: Surroundings) -> Optional[int]:
    limits = [_kilobytes(around.read("/proc/meminfo"), "MemTotal")]
    for folder in _groups(around, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits.append(_whole(around.read(f"{folder}/{name}")))
    limits += [_slurm_memory(around.environment), _times(_condor(around, "Memory"), _MIB)]
    limits.append(_whole(around.read(_feature(around, "max_rss_bytes"))))
    known = [limit for limit in limits if limit is not None and 0 < limit < _NO_LIMIT]
    return min(known, default=None)


def _groups(around: Surroundings, controller: str) -> list[str]:
    """The folders of this process's control groups for a controller, up to the root, by cgroups(7)."""
    folders = []
    for line in around.read("/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            bases = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            bases = [f"/sys/fs/cgroup/{controllers}", f"/sys/fs/cgroup/{controller}"]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        # in a container the path is the node's, and what is seen at the root is the container's own group
        folders += ["/".join([base, *parts[:count]]) for base in bases for count in range(len(parts), -1, -1)]
    return folders


def _slurm_memory(environment: Mapping[str, str]) -> Optional[int]:
    """Slurm's numbers are in MiB; 0 stands for all of the node's."""
    node = _whole(environment.get("SLURM_MEM_PER_NODE"))
    if node:
        return node * _MIB
    each = _whole(environment.get("SLURM_MEM_PER_CPU"))
    n_cpus = _whole(environment.get("SLURM_CPUS_ON_NODE"))
    return each * n_cpus * _MIB if each and n_cpus else None


def _condor(around: Surroundings, name: str) -> Optional[int]:
    """A number of HTCondor's machine ad, which describes the slot of this job."""
    path = around.environment.get("_CONDOR_MACHINE_AD")
    found = re.search(rf"(?m)^{name}\s*=\s*(\d+)\s*$", around.read(path)) if path else None
    return int(found.group(1)) if found else None


def _feature(around: Surroundings, name: str) -> str:
    """The file of a feature of this job."""
    folder = around.environment.get("JOBFEATURES", "")
    return f"{folder}/{name}" if folder and "://" not in folder else "/nonexistent"


# --- GPUs


def _gpus(around: Surroundings) -> tuple[Gpu, ...]:
    assigned = _assigned(around.environment)
    if assigned == []:
        return ()
    known = _driver_says(around)
    if assigned is None:
        return tuple(known.values())
    by_name = {**known, **{str(index): gpu for index, gpu in enumerate(known.values())}}
    return tuple(_called(name, by_name) for name in assigned)


def _called(name: str, known: Mapping[str, Gpu]) -> Gpu:
    found = known.get(name) or next((gpu for key, gpu in known.items() if key.startswith(name) and len(name) > 4), None)
    if found is None:
        return Gpu(name)
    return Gpu(found.name if name.startswith("GPU-") else name, found.model, found.memory_bytes)


def _assigned(environment: Mapping[str, str]) -> Optional[list[str]]:
    """The names of the GPUs that are this job's; None if nobody says."""
    for variable in _GPU_VARIABLES:
        if variable in environment:
            names = [name.strip() for name in environment[variable].split(",")]
            return [re.sub(r"^CUDA(\d+)$", r"\1", name) for name in names if name and name not in ("NoDevFiles", "-1")]
    return None


def _driver_says(around: Surroundings) -> dict[str, Gpu]:
    """All GPUs of the node by their UUID, in the driver's order."""
    command = ["nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        printed = around.run(command)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning("Cannot see the GPUs: %s", error, extra={"action": "gpus_unknown"})
        return {}
    gpus = {}
    for line in printed.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[0].startswith("GPU-"):
            gpus[fields[0]] = Gpu(fields[0], fields[1], _times(_whole(fields[2]), _MIB))
    return gpus


# --- reading


def _affinity() -> Iterable[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def run_program(argv: Sequence[str]) -> str:
    """What a program prints.

    Raises:
        OSError: It cannot be started.
        ValueError: It failed, or took too long.
    """
    try:
        done = subprocess.run(list(argv), capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{argv[0]} took more than {_PATIENCE:g} s") from error
    if done.returncode != 0:
        raise ValueError(f"{argv[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[:200]}")
    return done.stdout


def _whole(text: Optional[str]) -> Optional[int]:
    found = re.match(r"\s*(\d+)\b", text or "")
    return int(found.group(1)) if found else None


def _times(number: Optional[int], factor: int) -> Optional[int]:
    return None if number is None else number * factor


def _kilobytes(text: str, name: str) -> Optional[int]:
    found = re.search(rf"(?m)^{name}:\s+(\d+) kB$", text)
    return int(found.group(1)) * 1024 if found else None
