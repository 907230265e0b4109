"""Workers and tasks that fit each other or not, and what evaluations used."""

from __future__ import annotations

import csv
import re
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    Ask,
    ChangeTask,
    Event,
    Lease,
    PointState,
    TaskAction,
    Usage,
    WorkerHost,
    WorkerResources,
)
from gridtune_steering.bookkeeping.schema import waiting
from gridtune_steering.services import asking, records, tasks, workers
from gridtune_steering.services.errors import DoesNotFit, TaskHasEnded
from gridtune_steering.services.matching import Needs, misfits
from gridtune_steering.services.retries import Place
from gridtune_steering.services.workers import LATELY
from service_bench import OPERATOR, Bench

GIB = 2**30
T4 = WorkerResources(cpus=4, memory_bytes=16 * GIB, gpus=1, gpu_memory_bytes=15 * GIB, gpu_model="Tesla T4")
A100 = WorkerResources(
    cpus=16,
    memory_bytes=128 * GIB,
    gpus=1,
    gpu_memory_bytes=40 * GIB,
    gpu_model="NVIDIA A100-SXM4-40GB",
    arch="x86_64",
    runtimes=["process", "apptainer"],
    labels={"interconnect": "infiniband"},
)
LARGE = {"requires": ["gpu.memory >= 40GiB"]}


def why_not(worker: WorkerResources, site: str = "", host: str = "", /, **sections: Any) -> list[str]:
    """Why a worker does not fit a task with such sections."""
    return misfits(Needs.of(sections), worker, site=site, host=host)


def unfit(bench: Bench, task: str) -> str:
    """What the owner of a task is told about workers that do not fit it."""
    return tasks.get(bench.steering, OPERATOR, task).unfit


def told(bench: Bench, task: str) -> list[Event]:
    """The events that say that a task fits nobody."""
    page = records.event_page(bench.steering, OPERATOR, task, kind="task.fits_nobody", after=None, limit=100)
    return page.items


def turned_away(bench: Bench, task: str, worker: str = "w", **more: Any) -> str:
    """Ask for a point in vain; returns what is said to the worker."""
    with pytest.raises(DoesNotFit) as refusal:
        bench.ask(task, worker, **more)
    return str(refusal.value)


def n_waiting(bench: Bench, task: str) -> int:
    """How many workers are expected to take a point."""
    query = sa.select(sa.func.count()).where(waiting.c.task_id == task, waiting.c.until > bench.clock())
    with bench.steering.database.read() as connection:
        return connection.execute(query).scalar_one()


def host(bench: Bench, name: str) -> WorkerHost:
    """A host as operators see it."""
    page = workers.listing(bench.steering, OPERATOR, everything=False, after=None, limit=100)
    return next(item for item in page.items if item.host == name)


# --- what fits


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"resources": {"cpus": 16, "memory": "128GiB", "gpus": 1}},
        {"resources": {"requires": ["gpu.memory >= 40GiB", "gpu.model ~ a100", "interconnect = infiniband"]}},
        {"resources": {"requires": {"site": ["CERN", "DESY"], "host": "n1", "arch": "x86_64", "runtime": "apptainer"}}},
        {"payload": {"command": "x", "image": "python"}},
        {"payload": {"command": "x", "image": "python", "runtime": "apptainer"}},
        {"payload": {"command": "x", "runtime": "process"}},
    ],
)
def test_a_worker_that_has_it_all_fits(sections: dict[str, Any]) -> None:
    """Amounts, requirements and runtimes."""
    assert why_not(A100, "CERN", "n1", **sections) == []


@pytest.mark.parametrize(
    "sections",
    [
        {"resources": {"cpus": 64, "memory": "1TiB"}},
        {"payload": {"command": "x", "image": "python"}},
        {"payload": {"command": "x", "image": "python", "runtime": "docker"}},
    ],
)
def test_what_a_worker_does_not_state_is_not_held_against_it(sections: dict[str, Any]) -> None:
    """CPUs, memory and runtimes: an agent may not know them."""
    assert why_not(WorkerResources(), **sections) == []


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"resources": {"gpus": 1}}, "gpus is 0, the task requires >= 1"),
        ({"resources": LARGE}, "gpu.memory is not known, the task requires >= 40GiB"),
        ({"resources": {"requires": "site != CERN"}}, "site is not known, the task requires anything but CERN"),
    ],
)
def test_gpus_and_requirements_have_to_be_stated(sections: dict[str, Any], reason: str) -> None:
    """Nobody is handed what needs them on the off chance."""
    assert why_not(WorkerResources(), **sections) == [reason]


@pytest.mark.parametrize(
    ("sections", "reasons"),
    [
        (
            {"resources": {"cpus": 8, "memory": "32GiB", "gpus": 2}},
            [
                "cpus is 4, the task requires >= 8",
                "gpus is 1, the task requires >= 2",
                "memory is 16GiB, the task requires >= 32GiB",
            ],
        ),
        ({"resources": LARGE}, ["gpu.memory is 15GiB, the task requires >= 40GiB"]),
        ({"resources": {"requires": "gpu.model ~ H1"}}, ["gpu.model is Tesla T4, the task requires something with H1"]),
        ({"resources": {"requires": "site in DESY, BNL"}}, ["site is CERN, the task requires one of DESY, BNL"]),
        ({"resources": {"requires": "rack = 7"}}, ["rack is not known, the task requires 7"]),
        ({"resources": {"requires": "memory >= 16385MiB"}}, ["memory is 16GiB, the task requires >= 16385MiB"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(sections: dict[str, Any], reasons: list[str]) -> None:
    """Each reason names what there is and what it should be."""
    assert why_not(T4, "CERN", **sections) == reasons


def test_a_size_is_not_rounded_to_what_would_be_enough() -> None:
    """That would read as a contradiction."""
    almost = WorkerResources(memory_bytes=32 * GIB - 1)

    assert why_not(almost, resources={"memory": "32GiB"}) == ["memory is 34359738367B, the task requires >= 32GiB"]


@pytest.mark.parametrize("size", [-1, 0, 1, 1023, 1024 * 1024 - 1, 999 * GIB, 2**53 - 1])
def test_any_size_can_be_told(size: int) -> None:
    """Whatever an agent says, it gets a reason and no error of the service."""
    [reason] = why_not(WorkerResources(memory_bytes=size), resources={"memory": "8192TiB"})

    assert re.fullmatch(r"memory is \S+B, the task requires >= 8192TiB", reason)


def test_a_worker_without_containers() -> None:
    """A task can insist; if it does not, the worker may already be inside of the image."""
    plain = WorkerResources(runtimes=["process"])

    assert why_not(plain, payload={"image": "python"}) == []
    assert why_not(plain, payload={"image": "python", "runtime": "docker"}) == [
        "runtime is process, the task requires docker"
    ]


def test_a_label_cannot_stand_for_what_is_known() -> None:
    """A site cannot call itself another one by a label."""
    assert why_not(WorkerResources(labels={"site": "CERN"}), "DESY", resources={"requires": "site = CERN"}) != []


# --- asking


def test_an_ask_that_does_not_fit_is_refused_with_what_is_missing(bench: Bench) -> None:
    """A fitting one gets its point all the same."""
    task = bench.submit(resources=LARGE)

    said = turned_away(bench, task, "small", resources=T4)

    assert said == "this worker does not fit the task: gpu.memory is 15GiB, the task requires >= 40GiB"
    assert bench.lease(task, "large", resources=A100).point == 0


def test_no_point_is_made_for_a_worker_that_does_not_fit(bench: Bench) -> None:
    """It waits for nothing, so the optimizer is not asked."""
    task = bench.submit(resources=LARGE)

    turned_away(bench, task, resources=T4)
    bench.work()

    assert n_waiting(bench, task) == 0
    assert tasks.get(bench.steering, OPERATOR, task).summary.counts.ready == 0
    with bench.steering.database.read() as connection:
        assert connection.execute(waiting.select()).all() == []


def test_a_ready_point_is_not_for_a_worker_that_does_not_fit(bench: Bench) -> None:
    """One that came back waits for a worker that does."""
    task = bench.submit(resources=LARGE)
    bench.release(bench.lease(task, resources=A100))

    turned_away(bench, task, "small", resources=T4)

    counts = tasks.get(bench.steering, OPERATOR, task).summary.counts
    assert (counts.ready, counts.running) == (1, 0)


def test_a_worker_that_does_not_fit_is_nobody_elsewhere(bench: Bench) -> None:
    """A point that failed does not wait for a host that cannot take it, and the only one that can is alone."""
    task = bench.submit(resources=LARGE)
    bench.fail(bench.lease(task, "wa", host="a", resources=A100))
    turned_away(bench, task, "wb", host="b", resources=T4)

    with bench.steering.database.read() as connection:
        assert workers.is_alone(bench.steering, connection, task, Place("", "a"), bench.clock())
        assert workers.others(bench.steering, connection, task, bench.clock()) == [Place("", "a")]
    again = bench.ask(task, "wa", host="a", resources=A100)
    assert again is not None
    assert (again.point, again.attempt) == (0, 2)


def test_a_repeated_ask_gets_its_lease_again(bench: Bench) -> None:
    """An answer that was lost on its way is given again, and nothing is noted anew."""
    task = bench.submit(resources=LARGE)
    bench.ask(task, resources=A100)
    bench.work()
    message = Ask("r1", "w", resources=A100)

    first, second = (asking.ask(bench.steering, OPERATOR, task, message) for _ in range(2))

    assert isinstance(first, Lease)
    assert second == first


def test_an_ended_task_says_that_it_has_ended(bench: Bench) -> None:
    """Not that the worker does not fit, which does not matter any more."""
    task = bench.submit(resources=LARGE)
    turned_away(bench, task, resources=T4)
    tasks.change(bench.steering, OPERATOR, task, ChangeTask(new_request_id(), TaskAction.CANCEL))

    with pytest.raises(TaskHasEnded):
        bench.ask(task, resources=T4)
    assert unfit(bench, task) == ""


# --- telling the owner


def test_a_task_that_fits_nobody_says_so(bench: Bench) -> None:
    """Reasons are counted, the most frequent first; the event comes once."""
    task = bench.submit(resources={"requires": ["gpu.memory >= 40GiB", "site = CERN"]})
    assert unfit(bench, task) == ""

    turned_away(bench, task, "w1", site="CERN", resources=T4)
    assert unfit(bench, task) == (
        "the one worker seen in the last hour does not fit: gpu.memory is 15GiB, the task requires >= 40GiB"
    )
    turned_away(bench, task, "w2", site="DESY", resources=A100)
    turned_away(bench, task, "w3", site="CERN", resources=T4)

    assert unfit(bench, task) == (
        "none of the 3 workers seen in the last hour fits: "
        "gpu.memory is 15GiB, the task requires >= 40GiB (2 workers); site is DESY, the task requires CERN (1 worker)"
    )
    [event] = told(bench, task)
    assert event.actor == "gridtune/workers"
    assert event.details["reason"].startswith("the one worker seen in the last hour does not fit")


def test_many_reasons_are_cut_short(bench: Bench) -> None:
    """The most frequent ones say enough."""
    task = bench.submit(resources={"requires": "host = best"})
    for number in range(5):
        turned_away(bench, task, f"w{number}", host=f"h{number}")

    assert unfit(bench, task).endswith("host is h2, the task requires best (1 worker); other reasons (2 workers)")


def test_with_a_worker_that_fits_nothing_is_said(bench: Bench) -> None:
    """Others need not fit, as long as it asks or evaluates."""
    task = bench.submit(resources=LARGE)
    bench.ask(task, "large", resources=A100)

    turned_away(bench, task, "small", resources=T4)

    assert (unfit(bench, task), told(bench, task)) == ("", [])


def test_a_long_training_and_one_that_left_count_as_seen(bench: Bench) -> None:
    """A worker that does not ask for hours may evaluate, or have left at its walltime."""
    task = bench.submit(resources=LARGE)
    lease = bench.lease(task, "large", resources=A100)
    for _ in range(3):
        bench.clock.advance(LATELY.total_seconds() / 2)
        with bench.steering.database.write() as connection:
            workers.forget_old(bench.steering, connection, bench.clock())
    turned_away(bench, task, "small", resources=T4)
    assert unfit(bench, task) == ""

    bench.tell(lease, leaving=True)
    assert unfit(bench, task) == ""

    bench.clock.advance(LATELY.total_seconds() + 1)
    turned_away(bench, task, "small", resources=T4)
    assert "does not fit" in unfit(bench, task)
    assert len(told(bench, task)) == 1


def test_workers_are_forgotten_after_an_hour(bench: Bench) -> None:
    """What was long ago says nothing; when it begins anew, it is told anew."""
    task = bench.submit(resources=LARGE)
    turned_away(bench, task, resources=T4)

    bench.clock.advance((LATELY + timedelta(seconds=1)).total_seconds())
    assert unfit(bench, task) == ""

    turned_away(bench, task, resources=T4)
    assert len(told(bench, task)) == 2


def test_a_worker_that_comes_to_fit_ends_it(bench: Bench) -> None:
    """The same worker with more in it counts as fitting from then on."""
    task = bench.submit(resources=LARGE)
    turned_away(bench, task, resources=T4)

    bench.ask(task, resources=A100)

    assert unfit(bench, task) == ""


# --- what workers have


def test_operators_see_what_workers_have(bench: Bench) -> None:
    """Of running evaluations, of askers, and of those that do not fit; each kind once."""
    large, plain = bench.submit(resources=LARGE), bench.submit()
    bench.lease(large, "w1", host="a", resources=A100)
    bench.ask(plain, "w2", host="a", resources=A100)
    turned_away(bench, large, "w3", host="a", resources=T4)
    turned_away(bench, large, "w4", host="b", resources=T4)
    bench.ask(plain, "w5", host="c")

    assert host(bench, "a").resources == [A100, T4]
    assert (host(bench, "a").workers, host(bench, "a").tasks) == (2, sorted([large, plain]))
    assert (host(bench, "b").workers, host(bench, "b").tasks, host(bench, "b").resources) == (0, [], [T4])
    assert host(bench, "c").resources == []


def test_a_freed_worker_is_remembered_with_what_it_has(bench: Bench) -> None:
    """It will ask again."""
    task = bench.submit()
    bench.tell(bench.lease(task, "w1", host="a", resources=A100))

    assert host(bench, "a").resources == [A100]


# --- usage

USED = Usage(
    wall_seconds=60.0,
    cpu_seconds=100.5,
    peak_memory_bytes=2 * GIB,
    gpu_seconds=30.0,
    peak_gpu_memory_bytes=GIB,
    runtime="apptainer",
    image="sha256:abc",
)


def test_usage_is_kept_however_an_evaluation_ends(bench: Bench) -> None:
    """Released, failed or done; one that runs has none yet."""
    task = bench.submit()
    bench.release(bench.lease(task), usage=USED)
    bench.fail(bench.lease(task), usage=Usage(cpu_seconds=1.0))
    bench.tell(bench.lease(task), usage=Usage(runtime="process"))
    bench.lease(task)

    evaluations = records.export(bench.steering, OPERATOR, task).evaluations
    assert [it.usage for it in evaluations] == [USED, Usage(cpu_seconds=1.0), Usage(runtime="process"), None]


def test_the_table_of_points_sums_what_their_tries_used(bench: Bench) -> None:
    """Times are summed, the highest peak counts, and the last runtime; what is unknown is left empty."""
    task = bench.submit()
    bench.release(bench.lease(task), usage=USED)
    bench.tell(bench.lease(task), usage=Usage(wall_seconds=1.0, cpu_seconds=0.5, peak_memory_bytes=GIB))
    bench.tell(bench.lease(task))

    exported = records.export(bench.steering, OPERATOR, task)
    first, second = csv.DictReader(records.as_csv(exported).splitlines())

    names = ["wall_seconds", "cpu_seconds", "peak_memory_bytes", "gpu_seconds", "runtime", "image"]
    assert [first[name] for name in names] == ["61.0", "101.0", str(2 * GIB), "30.0", "apptainer", "sha256:abc"]
    assert [second[name] for name in names] == [""] * 6
    assert exported.evaluations[0].usage == USED
    assert [point.state for point in exported.points] == [PointState.DONE, PointState.DONE]
