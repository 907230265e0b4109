"""What an agent may use of its node, and how its slots share that."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from gridtune_evaluation.gpus import GpuMeter
from gridtune_evaluation.hardware import Gpu, Hardware, Surroundings, look
from gridtune_evaluation.runtimes.port import Limits
from gridtune_evaluation.shares import Needs, Share, most_slots, share_out

GIB = 2**30
MEMORY = "MemTotal:       65536000 kB\nMemFree:        1 kB\n"
SMI = "GPU-aaaa1111, NVIDIA A100-SXM4-40GB, 40960\nGPU-bbbb2222, NVIDIA A100-SXM4-40GB, 40536\n"


def seen(
    root: Path,
    environment: Mapping[str, str] | None = None,
    *,
    files: Mapping[str, str] | None = None,
    cpus: int = 64,
    smi: str | None = None,
) -> Hardware:
    """What is found with these files, variables and GPUs, on a node of 64 CPUs."""
    for path, text in {"/proc/meminfo": MEMORY, **(files or {})}.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run(_: Sequence[str]) -> str:
        if smi is None:
            raise FileNotFoundError("nvidia-smi")
        return smi

    return look(Surroundings(environment or {}, root, lambda: range(cpus), run))


def test_a_bare_node(tmp_path: Path) -> None:
    """All of it."""
    found = seen(tmp_path)

    assert found.cpus == tuple(range(64))
    assert found.owns_cpus
    assert found.memory_bytes == 65536000 * 1024
    assert found.gpus == ()


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"/proc/self/cgroup": "0::/job/step\n", "/sys/fs/cgroup/job/cpu.max": "350000 100000\n"}, 4),
        ({"/proc/self/cgroup": "0::/job\n", "/sys/fs/cgroup/job/cpu.max": "max 100000\n"}, 64),
        ({"/proc/self/cgroup": "0::/../..\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "/proc/self/cgroup": "4:cpu,cpuacct:/job\n",
                "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "800000",
                "/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            },
            8,
        ),
        ({"/proc/self/cgroup": "4:cpu:/j\n", "/sys/fs/cgroup/cpu/j/cpu.cfs_quota_us": "-1"}, 64),
    ],
    ids=["version 2", "no quota", "in a container", "version 1", "version 1 without"],
)
def test_quotas_of_control_groups(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    """A share of the time of CPUs is so many CPUs, rounded up."""
    assert len(seen(tmp_path, files=files).cpus) == cpus


@pytest.mark.parametrize(
    ("files", "size"),
    [
        (
            {
                "/proc/self/cgroup": "0::/job/step\n",
                "/sys/fs/cgroup/job/memory.max": str(3 * GIB),
                "/sys/fs/cgroup/job/step/memory.max": "max\n",
            },
            3 * GIB,
        ),
        (
            {
                "/proc/self/cgroup": "9:memory:/job\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(2 * GIB),
            },
            2 * GIB,
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_limits_of_control_groups(tmp_path: Path, files: dict[str, str], size: int) -> None:
    """The smallest on the way to the root."""
    assert seen(tmp_path, files=files).memory_bytes == size


@pytest.mark.parametrize(
    ("environment", "cpus", "size"),
    [
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_NODE": "2048"}, 4, 2 * GIB),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "512"}, 8, 4 * GIB),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "0"}, 8, 65536000 * 1024),
        ({"NCPUS": "16"}, 16, 65536000 * 1024),
        ({"LSB_MAX_NUM_PROCESSORS": "2"}, 2, 65536000 * 1024),
        ({"_CONDOR_MACHINE_AD": "/ad"}, 3, 5 * GIB),
        ({"JOBFEATURES": "/jobfeatures"}, 6, 7 * GIB),
    ],
    ids=["Slurm task", "Slurm", "Slurm whole memory", "PBS", "LSF", "HTCondor", "job features"],
)
def test_batch_systems(tmp_path: Path, environment: dict[str, str], cpus: int, size: int) -> None:
    """What a job was given counts, not what its node has."""
    files = {
        "/ad": f'Arch = "X86_64"\nCpus = 3\nMemory = {5 * 1024}\nTotalCpus = 64.0\n',
        "/jobfeatures/allocated_cpu": "6\n",
        "/jobfeatures/max_rss_bytes": f"{7 * GIB}\n",
    }

    found = seen(tmp_path, environment, files=files)

    assert (len(found.cpus), found.memory_bytes) == (cpus, size)
    assert not found.owns_cpus


def test_gpus(tmp_path: Path) -> None:
    """All of the node's, by the names that select them; or those that somebody has assigned."""
    first = Gpu("GPU-aaaa1111", "NVIDIA A100-SXM4-40GB", 40 * GIB)

    assert seen(tmp_path, smi=SMI).gpus[0] == first
    assert len(seen(tmp_path, smi=SMI).gpus) == 2
    assert seen(tmp_path, {"CUDA_VISIBLE_DEVICES": ""}, smi=SMI).gpus == ()
    assert seen(tmp_path, {"CUDA_VISIBLE_DEVICES": "1"}, smi=SMI).gpus == (
        Gpu("1", "NVIDIA A100-SXM4-40GB", 40536 * 2**20),
    )
    assert seen(tmp_path, {"CUDA_VISIBLE_DEVICES": "GPU-bbbb"}, smi=SMI).gpus[0].name == "GPU-bbbb2222"
    assert seen(tmp_path, {"_CONDOR_AssignedGPUs": "CUDA0"}, smi=SMI).gpus[0].name == "0"
    assert seen(tmp_path, {"SLURM_JOB_GPUS": "0,1"}).gpus == (Gpu("0"), Gpu("1"))
    assert seen(tmp_path, {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, smi=SMI).gpus == ()


def test_a_driver_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That is no reason not to work; it is logged."""

    def fail(_: Sequence[str]) -> str:
        raise ValueError("nvidia-smi ended with 9: no driver")

    assert look(Surroundings({}, tmp_path, lambda: range(2), fail)).gpus == ()
    assert "no driver" in caplog.text


def test_shares_are_disjoint_and_leave_nothing_over() -> None:
    """Neighbouring CPUs and GPUs go together."""
    hardware = Hardware(tuple(range(7)), 8 * GIB, (Gpu("0"), Gpu("1"), Gpu("2")))

    shares = share_out(hardware, 2)

    assert [share.cpus for share in shares] == [(0, 1, 2, 3), (4, 5, 6)]
    assert [share.gpus for share in shares] == [(Gpu("0"), Gpu("1")), (Gpu("2"),)]
    assert {share.memory_bytes for share in shares} == {4 * GIB}


def test_more_slots_than_cpus_share_all() -> None:
    """That is for payloads that mostly wait; GPUs are not shared even then."""
    shares = share_out(Hardware((0, 1), None, (Gpu("0"),)), 3)

    assert [share.cpus for share in shares] == [(0, 1)] * 3
    assert [share.gpus for share in shares] == [(Gpu("0"),), (), ()]


@pytest.mark.parametrize(
    ("needs", "count"),
    [
        (Needs(), 64),
        (Needs(cpus=10), 6),
        (Needs(cpus=2, gpus=1), 4),
        (Needs(cpus=2, memory_bytes=24 * GIB), 10),
        (Needs(cpus=65), 1),
        (Needs(gpus=8), 1),
    ],
)
def test_as_many_slots_as_fit(needs: Needs, count: int) -> None:
    """What runs out first decides; one is left to be told what is missing."""
    gpus = tuple(Gpu(str(number)) for number in range(4))

    assert most_slots(Hardware(tuple(range(64)), 256 * GIB, gpus), needs) == count


def test_what_a_slot_says_and_what_its_payloads_get() -> None:
    """Tasks that do not ask for GPUs see what there is; those that ask see their own."""
    share = Share((2, 3), (Gpu("1", "A100", 40 * GIB), Gpu("2", "A100", 39 * GIB)), 8 * GIB)

    said = share.resources("x86_64", ["docker"], {"rack": "r1"})

    assert (said.cpus, said.gpus, said.gpu_memory_bytes, said.gpu_model) == (2, 2, 39 * GIB, "A100")
    assert (said.memory_bytes, said.runtimes, said.labels) == (8 * GIB, ["docker"], {"rack": "r1"})
    assert share.limits(Needs()) == Limits(cpus=(2, 3))
    assert share.limits(Needs(gpus=1, memory_bytes=GIB, network=True)) == Limits(
        cpus=(2, 3), gpus=("1", "2"), memory_bytes=GIB, network=True
    )


def test_the_use_of_gpus_is_measured() -> None:
    """Busy time of one's own, summed, and the most memory on one; a GPU that does not tell is left out."""
    printed = "0, GPU-a, 50, 1000\n1, GPU-b, 100, 3000\n2, GPU-c, [N/A], 5000\n"
    meter = GpuMeter([Gpu("0")], lambda _: printed, interval=0.05)

    with meter.reading(["0", "GPU-b"]) as both, meter.reading(["2"]) as silent, meter.reading([]) as none:
        time.sleep(0.6)
    meter.close()

    assert both.busy_seconds is not None
    assert 0.3 < both.busy_seconds < 1.0
    assert both.peak_memory_bytes == 3000 * 2**20
    assert (silent.busy_seconds, none.busy_seconds, none.peak_memory_bytes) == (None, None, None)


def test_without_gpus_nobody_looks() -> None:
    """No program is started for nothing."""

    def fail(_: Sequence[str]) -> str:
        raise AssertionError("nobody should look")

    meter = GpuMeter([], fail, interval=0.01)
    with meter.reading([]):
        time.sleep(0.05)
    meter.close()


def test_cpus_that_are_only_counted_are_not_bound() -> None:
    """Sixteen jobs of four CPUs on a node would all sit on its first four."""
    [share, _] = share_out(Hardware((0, 1, 2, 3), owns_cpus=False), 2)

    assert share.resources("x86_64", [], {}).cpus == 2
    assert (share.limits(Needs()).cpus, share.limits(Needs()).n_cpus) == (None, 2)
    assert share.in_words == "2 CPUs"
