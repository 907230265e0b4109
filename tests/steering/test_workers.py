"""Retries by cause on the service: where points go next, hosts that are set aside, tasks that fail everywhere."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    ChangeTask,
    Event,
    FailureCause,
    ForgiveHost,
    Heartbeat,
    Lease,
    ObjectKind,
    PointState,
    Release,
    ReleaseCause,
    Report,
    Scope,
    TaskAction,
    TaskState,
    TaskSummary,
    WorkerHost,
)
from gridtune_steering.bookkeeping import events as log
from gridtune_steering.bookkeeping.schema import objects
from gridtune_steering.services import asking, hosting, leases, records, results, tasks, workers
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import HostSetAside, NotAllowed, NotFound, TaskHasEnded
from gridtune_steering.services.times import iso
from service_bench import OPERATOR, Bench

A: dict[str, Any] = {"worker": "wa", "host": "a", "site": "cern"}
B: dict[str, Any] = {"worker": "wb", "host": "b", "site": "cern"}
C: dict[str, Any] = {"worker": "wc", "host": "c", "site": "bnl"}


def events(bench: Bench, task: str, kind: str) -> list[Event]:
    """A task's lines of one kind."""
    return records.event_page(bench.steering, OPERATOR, task, kind=kind, after=None, limit=1000).items


def state(bench: Bench, task: str, number: int) -> tuple[PointState, int, str]:
    """What became of a point: its state, attempts and message."""
    point = records.point_detail(bench.steering, OPERATOR, task, number).point
    return point.state, point.attempts, point.message


def summary(bench: Bench, task: str) -> TaskSummary:
    """The task as a listing has it."""
    return tasks.get(bench.steering, OPERATOR, task).summary


def host(bench: Bench, name: str) -> WorkerHost:
    """A host as operators see it."""
    page = workers.listing(bench.steering, OPERATOR, everything=True, after=None, limit=100)
    return next(item for item in page.items if item.host == name)


def release(
    bench: Bench, lease: Lease, cause: ReleaseCause = ReleaseCause.WALLTIME, steps: tuple[int, ...] = ()
) -> None:
    """Give a point back, having reported some steps."""
    reports = [Report(step, {"loss": 1.0}) for step in steps]
    results.release(
        bench.steering, OPERATOR, lease.evaluation, Release(new_request_id(), lease.epoch, cause, reports=reports)
    )


def break_host(bench: Bench, task: str, who: dict[str, Any], n: int = 4) -> None:
    """Let so many different points fail on a host, each in a way of its own."""
    for number in range(n):
        bench.fail(bench.lease(task, **who), text=f"{'abcdefghijkl'[number]} is broken")


def quietly(seconds: float, bench: Bench) -> None:
    """Let time pass with the service awake."""
    for _ in range(int(seconds / 3) + 1):
        bench.clock.advance(3.0)
        bench.work()


# --- causes


def test_a_nodes_faults_leave_a_training_its_attempts(bench: Bench) -> None:
    """Five nodes may fail, and the fifth is the last."""
    task = bench.submit(retry={"attempts": 1})
    for _ in range(5):
        bench.fail(bench.lease(task), FailureCause.INFRASTRUCTURE, "the node failed: no space left on device")

    assert state(bench, task, 0) == (
        PointState.FAILED,
        5,
        "the node failed: no space left on device; 5 tries failed by their nodes (retry.infrastructure)",
    )


def test_a_point_that_kills_its_workers_fails(bench: Bench) -> None:
    """It does not go round for ever, and its message tells what to look at."""
    task = bench.submit(retry={"attempts": 1, "lost": 2})
    for number in range(2):
        bench.lease(task, f"w{number}")
        quietly(70, bench)

    found, attempts, message = state(bench, task, 0)
    assert (found, attempts) == (PointState.FAILED, 2)
    assert message.endswith("2 workers were lost with this point (retry.lost): does it need more memory than there is?")
    assert events(bench, task, "point.failed")[0].details["attempts"] == 2


def test_a_point_that_stands_still_fails_in_the_end(bench: Bench) -> None:
    """Walltime that is too short for any progress is told, not waited out."""
    task = bench.submit(retry={"stalled": 3})
    for steps in ((1,), (), ()):
        release(bench, bench.lease(task), steps=steps)
    assert state(bench, task, 0)[0] is PointState.READY

    release(bench, bench.lease(task), steps=(1,))

    found, attempts, message = state(bench, task, 0)
    assert (found, attempts) == (PointState.FAILED, 0)
    assert "more walltime" in message
    assert [event.point for event in events(bench, task, "point.failed")] == [0]


def test_a_point_that_gets_further_is_given_back_for_ever(bench: Bench) -> None:
    """A long training may take as many stretches as it needs."""
    task = bench.submit(retry={"stalled": 2})
    for step in range(10):
        release(bench, bench.lease(task), steps=(step,))

    assert state(bench, task, 0)[0] is PointState.READY


def store_checkpoint(bench: Bench, task: str, lease: Lease, step: int | None) -> None:
    """As if an evaluation had uploaded and committed a checkpoint."""
    values: dict[str, Any] = {
        "id": lease.evaluation, "kind": ObjectKind.CHECKPOINT.value, "task_id": task, "owner": "operator",
        "point": lease.point, "evaluation_id": lease.evaluation, "key": "k", "upload": "", "part_size": 1, "size": 1,
        "sha256": "", "format": "tar", "step": step, "interrupted": True, "created_at": bench.clock(),
        "committed_at": bench.clock(), "doom": "",
    }  # fmt: skip
    with bench.steering.database.write() as connection:
        connection.execute(objects.insert().values(values))


@pytest.mark.parametrize(("steps", "left"), [((1, 2, 3), PointState.READY), ((1, 1, 1), PointState.FAILED)])
def test_a_checkpoint_is_progress_if_it_goes_further(bench: Bench, steps: tuple[int, ...], left: PointState) -> None:
    """One that holds what an earlier one held is none."""
    task = bench.submit(retry={"stalled": 2})
    for step in steps:
        lease = bench.lease(task)
        store_checkpoint(bench, task, lease, step)
        release(bench, lease)

    assert state(bench, task, 0)[0] is left


def test_stopped_stretches_do_not_count(bench: Bench) -> None:
    """What the service itself stopped says nothing of the point."""
    task = bench.submit(retry={"stalled": 1})

    release(bench, bench.lease(task), ReleaseCause.STOPPED)

    assert state(bench, task, 0)[0] is PointState.READY


def test_a_worker_that_was_only_silent_is_not_counted_as_lost(bench: Bench) -> None:
    """Neither for its point nor for its host."""
    task = bench.submit(retry={"lost": 2})
    lease = bench.lease(task, **A)
    quietly(70, bench)
    assert host(bench, "a").lost == 1

    leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, Heartbeat(lease.epoch))

    assert (state(bench, task, 0)[:2], host(bench, "a").lost) == ((PointState.RUNNING, 0), 0)
    quietly(70, bench)
    assert state(bench, task, 0)[:2] == (PointState.READY, 1)


# --- where a point goes next


def test_one_worker_alone_gets_its_point_back_at_once(bench: Bench) -> None:
    """There is nobody else to wait for."""
    task = bench.submit()
    first = bench.lease(task, **A)
    bench.fail(first)

    again = bench.ask(task, **A)

    assert again is not None
    assert (again.point, again.attempt) == (first.point, 2)


def test_the_second_attempt_goes_to_another_host(bench: Bench) -> None:
    """The host that failed a point gets a new one, and the other the point that came back."""
    task = bench.submit()
    failed, other = bench.lease(task, **A), bench.lease(task, **B)
    bench.fail(failed)

    mine = bench.lease(task, **A)
    bench.tell(other)
    theirs = bench.lease(task, **B)

    assert (mine.point, mine.attempt) == (2, 1)
    assert (theirs.point, theirs.attempt) == (failed.point, 2)


def test_slots_of_one_host_are_not_each_others_second_opinion(bench: Bench) -> None:
    """Another slot on the same host waits as well."""
    task = bench.submit()
    failed = bench.lease(task, **A)
    bench.lease(task, **B)
    bench.fail(failed)

    assert bench.lease(task, **{**A, "worker": "wa2"}).point != failed.point


def test_the_second_attempt_goes_to_another_site_if_there_is_one(bench: Bench) -> None:
    """A neighbour at the same site leaves it to the other site."""
    task = bench.submit()
    failed, beside, afar = bench.lease(task, **A), bench.lease(task, **B), bench.lease(task, **C)
    bench.fail(failed)
    bench.tell(beside)
    bench.tell(afar)

    assert bench.lease(task, **B).point != failed.point
    assert bench.lease(task, **C).point == failed.point


def test_a_point_waits_only_for_those_who_are_there(bench: Bench) -> None:
    """Two leases after its failure the same host gets it, for all others are busy or gone."""
    task = bench.submit(points=2)
    failed, busy = bench.lease(task, **A), bench.lease(task, **B)
    bench.fail(failed)
    bench.work()
    assert bench.ask(task, **A) is None

    for _ in range(5):
        bench.clock.advance(25.0)
        leases.heartbeat(bench.steering, OPERATOR, busy.evaluation, Heartbeat(busy.epoch))
        again = bench.ask(task, **A)

    assert again is not None
    assert again.point == failed.point


@pytest.mark.parametrize("parting", ["tells", "is lost", "hangs up"])
def test_nobody_waits_for_a_worker_that_is_gone(bench: Bench, parting: str) -> None:
    """Whoever leaves, falls silent or hangs up is not counted on."""
    task = bench.submit(points=2)
    other = bench.lease(task, **B)
    if parting == "tells":
        bench.tell(other, leaving=True)
    elif parting == "is lost":
        quietly(70, bench)
        other = bench.lease(task, **A)
        bench.tell(other)
    else:
        bench.tell(other)
        asking.wait_no_more(bench.steering, task, "wb")
    failed = bench.lease(task, **A)
    bench.fail(failed)

    again = bench.ask(task, **A)

    assert again is not None
    assert again.point == failed.point


def test_a_point_that_failed_everywhere_goes_on_being_tried(bench: Bench) -> None:
    """When it failed once on each host, whoever asks first gets it: none waits for the other."""
    task = bench.submit(points=2, retry={"attempts": 4})
    bench.lease(task, **B)
    first = bench.lease(task, **A)
    bench.fail(first)
    release(bench, bench.lease(task, **{**C, "site": "cern"}), ReleaseCause.SHUTDOWN)
    bench.fail(bench.lease(task, **{**C, "site": "cern"}))
    bench.fail(bench.lease(task, **B))

    again = bench.ask(task, **A)

    assert again is not None
    assert again.attempt == 4


def test_a_bad_node_gets_its_point_back_once(bench: Bench) -> None:
    """A node's first fault may have been a moment's; its second sends the point elsewhere."""
    task = bench.submit()
    first = bench.lease(task, **A)
    bench.lease(task, **B)
    bench.fail(first, FailureCause.INFRASTRUCTURE, "disk")
    again = bench.lease(task, **A)
    bench.fail(again, FailureCause.INFRASTRUCTURE, "disk")

    assert again.point == first.point
    assert bench.lease(task, **A).point != first.point


def test_no_worker_idles_while_points_wait_for_others(bench: Bench) -> None:
    """A new point is made for it, and one only."""
    task = bench.submit()
    failed = bench.lease(task, **A)
    bench.lease(task, **B)
    bench.fail(failed)
    bench.ask(task, **A)
    bench.work()
    bench.work()

    counts = summary(bench, task).counts

    assert (counts.ready, counts.running) == (2, 1)


def test_a_backlog_does_not_hide_points_that_anyone_may_take(bench: Bench) -> None:
    """However many points wait for another site, new ones are found behind them."""
    task = bench.submit(points=60)
    bench.lease(task, **C)
    failed = [bench.lease(task, **{**A, "worker": f"wa{number}"}) for number in range(25)]
    bench.lease(task, **B)
    release(bench, bench.lease(task, **{**B, "worker": "wb2"}), ReleaseCause.SHUTDOWN)
    for number, lease in enumerate(failed):
        bench.fail(lease, FailureCause.REPORTED, "abcdefghijklmnopqrstuvwxyz"[number] * 3)

    assert bench.lease(task, **{**B, "worker": "wb3"}).point == 27


# --- hosts that are set aside


def test_a_host_that_fails_one_point_after_the_other_is_set_aside(bench: Bench) -> None:
    """It would eat every point there is; the log says why, and its asks are told to come again later."""
    task = bench.submit(points=40)
    bench.lease(task, **B)
    break_host(bench, task, A)

    with pytest.raises(HostSetAside) as caught:
        bench.ask(task, **A)

    assert caught.value.seconds == 30
    [event] = events(bench, task, "worker.set_aside")
    assert event.details["host"] == "a"
    assert event.details["reason"] == "4 failures in a row here, the last: exit code 1: d is broken"
    found = host(bench, "a")
    assert (found.failures_in_a_row, found.set_aside_until) == (4, "2030-01-01T00:05:00.000Z")
    assert bench.lease(task, **B | {"worker": "wb2"}).attempt == 2


def test_a_host_that_is_set_aside_is_waited_for_by_nobody(bench: Bench) -> None:
    """Neither is a point made for it, nor does one wait for it to come back."""
    task = bench.submit(points=40)
    bench.lease(task, **B)
    break_host(bench, task, A)
    before = summary(bench, task).counts
    with pytest.raises(HostSetAside):
        bench.ask(task, **A)
    bench.work()

    assert summary(bench, task).counts == before


def test_no_point_waits_for_a_host_that_is_set_aside(bench: Bench) -> None:
    """It asked a moment ago, but is not there to take anything."""
    task = bench.submit(points=40)
    lease = bench.lease(task, **B)
    break_host(bench, task, A)
    bench.fail(lease, text="z is broken")

    again = [bench.ask(task, **B | {"worker": f"wb{number}"}) for number in range(5)]

    assert sorted(found.point for found in again if found is not None) == [0, 1, 2, 3, 4]


def test_it_comes_back_on_probation_and_goes_for_longer(bench: Bench) -> None:
    """One point at a time; if that fails too, three times as long."""
    task = bench.submit(points=40)
    bench.lease(task, **B)
    break_host(bench, task, A)
    quietly(301, bench)
    bench.lease(task, **B | {"worker": "wb2"})
    trial = bench.lease(task, **A)

    with pytest.raises(HostSetAside) as caught:
        bench.ask(task, **A | {"worker": "wa2"})
    bench.fail(trial, text="e is broken")

    assert caught.value.seconds == 15
    assert host(bench, "a").set_aside_until is not None
    first, second = events(bench, task, "worker.set_aside")
    assert (first.details["until"], second.details["until"][11:16]) == ("2030-01-01T00:05:00.000Z", "00:20")


def test_a_result_clears_a_host(bench: Bench) -> None:
    """Its failures are forgotten, and the log has it."""
    task = bench.submit(points=40)
    bench.lease(task, **B)
    good = bench.lease(task, **A | {"worker": "wa2"})
    break_host(bench, task, A)

    bench.tell(good)

    found = host(bench, "a")
    assert (found.done, found.failed, found.failures_in_a_row, found.set_aside_until) == (1, 4, 0, None)
    assert [event.details["reason"] for event in events(bench, task, "worker.taken_back")] == ["brought a result"]
    assert bench.lease(task, **A).epoch > 0


def test_the_only_host_is_never_set_aside(bench: Bench) -> None:
    """Its points had better fail than wait for a host that does not exist."""
    task = bench.submit(points=40)
    break_host(bench, task, A, n=12)

    assert events(bench, task, "worker.set_aside") == []
    assert bench.lease(task, **A).epoch > 0


def test_the_last_host_that_is_there_is_let_in_again(bench: Bench) -> None:
    """When all hosts of a task are set aside or gone, the one that asks gets points."""
    task = bench.submit(points=40)
    other = bench.lease(task, **B)
    break_host(bench, task, A)
    with pytest.raises(HostSetAside):
        bench.ask(task, **A)
    bench.fail(other, text="z is broken", leaving=True)

    assert bench.lease(task, **A).epoch > 0


def test_two_broken_hosts_are_never_both_set_aside(bench: Bench) -> None:
    """Whoever is left goes on, so that the task comes to its end."""
    task = bench.submit(points=3, retry={"attempts": 2})
    first = [bench.lease(task, **A), bench.lease(task, **B)]
    for lease in first:
        bench.fail(lease, text=f"{'xy'[lease.point]} is broken")
    for turn in range(60):
        for who in (A, B):
            try:
                found = bench.ask(task, **who)
            except HostSetAside:
                continue
            except TaskHasEnded:
                assert summary(bench, task).state is TaskState.FINISHED
                return
            if found is not None:
                bench.fail(found, text=f"{'abcdefgh'[turn % 8]} {who['host']} is broken")
        quietly(15, bench)
    raise AssertionError("the task never ended")


def test_a_host_is_not_blamed_when_it_alone_has_succeeded(bench: Bench) -> None:
    """What others have not shown to be possible is no proof against it."""
    task = bench.submit(points=40)
    bench.tell(bench.lease(task, **A))
    bench.lease(task, **B)
    break_host(bench, task, A, n=6)

    assert events(bench, task, "worker.set_aside") == []


def test_what_would_fail_anywhere_sets_nobody_aside(bench: Bench) -> None:
    """A permanent failure says nothing against the host."""
    task = bench.submit(points=40, retry={"same_failure": 0})
    bench.lease(task, **B)
    for _ in range(6):
        bench.fail(bench.lease(task, **A), FailureCause.START, "no such parameter", permanent=True)

    found = host(bench, "a")
    assert (found.failed, found.failures_in_a_row, found.set_aside_until) == (6, 0, None)


def test_losses_and_releases_set_nobody_aside(bench: Bench) -> None:
    """Neither says that a host is broken."""
    task = bench.submit(points=40)
    for number in range(6):
        bench.lease(task, **B | {"worker": f"wb{number}"})
        bench.lease(task, **A | {"worker": f"wa{number}"})
        release(bench, bench.lease(task, **A))
    quietly(70, bench)

    found = host(bench, "a")
    assert (found.lost, found.failed, found.set_aside_until) == (6, 0, None)


def test_an_operator_forgives_a_host(bench: Bench) -> None:
    """It gets points at once; who did it is in the log, and doing it again gives the same answer."""
    task = bench.submit(points=40)
    bench.lease(task, **B)
    break_host(bench, task, A)
    message = ForgiveHost(new_request_id(), "a")

    forgiven = workers.forgive(bench.steering, OPERATOR, message)

    assert [(item.host, item.set_aside_until) for item in forgiven.items] == [("a", None)]
    assert workers.forgive(bench.steering, OPERATOR, message) == forgiven
    assert [event.actor for event in events(bench, task, "worker.taken_back")] == ["operator"]
    assert bench.lease(task, **A).epoch > 0
    with pytest.raises(NotFound, match="no host 'z'"):
        workers.forgive(bench.steering, OPERATOR, ForgiveHost(new_request_id(), "z"))


def test_hosts_are_for_operators(bench: Bench) -> None:
    """A user sees nothing of the others' work."""
    ann = Caller(user="ann", scope=Scope.USER, token="t1")

    with pytest.raises(NotAllowed):
        workers.listing(bench.steering, ann, everything=False, after=None, limit=10)
    with pytest.raises(NotAllowed):
        workers.forgive(bench.steering, ann, ForgiveHost(new_request_id(), "a"))


def test_hosts_are_listed_while_they_are_there(bench: Bench) -> None:
    """With workers and tasks now; those not seen for an hour only on demand."""
    task = bench.submit(points=40)
    busy = bench.lease(task, **A)
    bench.lease(task, **A | {"worker": "wa2"})
    bench.tell(bench.lease(task, **C))
    found = host(bench, "a")
    assert (found.site, found.workers, found.tasks, found.done) == ("cern", 2, [task], 0)
    for _ in range(100):
        bench.clock.advance(40.0)
        leases.heartbeat(bench.steering, OPERATOR, busy.evaluation, Heartbeat(busy.epoch))

    recent = workers.listing(bench.steering, OPERATOR, everything=False, after=None, limit=10)
    first = workers.listing(bench.steering, OPERATOR, everything=True, after=None, limit=1)
    rest = workers.listing(bench.steering, OPERATOR, everything=True, after=first.next, limit=1)

    assert [(item.host, item.last_seen_at) for item in recent.items] == [("a", iso(bench.clock()))]
    assert [item.host for item in [*first.items, *rest.items]] == ["c", "a"]
    assert rest.next is None


def test_old_asks_are_forgotten(bench: Bench) -> None:
    """What nobody needs any more does not pile up."""
    task = bench.submit()
    bench.ask(task, **A)
    quietly(3, bench)
    bench.clock.advance(31 * 86_400.0)
    bench.work()

    page = workers.listing(bench.steering, OPERATOR, everything=True, after=None, limit=10)
    assert page.items == []


# --- tasks that fail everywhere


def test_a_training_that_fails_everywhere_pauses_its_task(bench: Bench) -> None:
    """After five points, with the reason and what was printed last; the points keep their attempts."""
    task = bench.submit(points=40)
    held = [bench.lease(task, f"w{number}") for number in range(5)]
    for lease in held:
        output = f"epoch {lease.point}\nModuleNotFoundError: No module named 'torch'\n"
        bench.fail(lease, text="ended with exit code 1", output_tail=output, leaving=True)

    found = summary(bench, task)
    assert (found.state, found.stopped_by) == (TaskState.PAUSED, "same_failure")
    assert found.reason == (
        "your script fails everywhere: the same failure on 5 different points: "
        "exit code 1: ModuleNotFoundError: No module named 'torch'"
    )
    [event] = events(bench, task, "task.paused")
    assert event.details["output_tail"].endswith("No module named 'torch'\n")
    assert {state(bench, task, number)[:2] for number in range(5)} == {(PointState.READY, 1)}
    assert bench.ask(task, "w9") is None


def fail_points(bench: Bench, task: str, n: int, text: str = "no torch") -> None:
    """Let so many new points fail in the same way, each on a host of its own that is gone then."""
    held = [bench.lease(task, f"w{number}") for number in range(n)]
    for lease in held:
        bench.fail(lease, text=text, leaving=True)


def test_a_resumed_task_counts_anew(bench: Bench) -> None:
    """Whoever resumes has mended something, and gets as many tries."""
    task = bench.submit(points=40, retry={"same_failure": 2, "attempts": 9})
    fail_points(bench, task, 2)
    bench.clock.advance(1.0)
    tasks.change(bench.steering, OPERATOR, task, ChangeTask(new_request_id(), TaskAction.RESUME))
    assert (summary(bench, task).state, summary(bench, task).stopped_by) == (TaskState.RUNNING, "")

    fail_points(bench, task, 1)
    assert summary(bench, task).state is TaskState.RUNNING
    fail_points(bench, task, 2)
    assert summary(bench, task).state is TaskState.PAUSED


def test_a_training_that_has_succeeded_once_does_not_fail_everywhere(bench: Bench) -> None:
    """Then it is the points that are bad."""
    task = bench.submit(points=40, retry={"same_failure": 2})
    bench.tell(bench.lease(task))
    fail_points(bench, task, 4)

    assert summary(bench, task).state is TaskState.RUNNING


def test_never_means_never(bench: Bench) -> None:
    """0 switches the rule off."""
    task = bench.submit(points=40, retry={"same_failure": 0})
    fail_points(bench, task, 8)

    assert summary(bench, task).state is TaskState.RUNNING


def test_different_failures_are_not_the_same(bench: Bench) -> None:
    """A search over bad values fails in many ways."""
    task = bench.submit(points=40, retry={"same_failure": 2})
    held = [bench.lease(task, f"w{number}") for number in range(6)]
    for lease in held:
        bench.fail(lease, text=f"{'abcdefg'[lease.point]} is wrong", leaving=True)

    assert summary(bench, task).state is TaskState.RUNNING


def test_one_point_that_fails_again_and_again_is_one(bench: Bench) -> None:
    """Points are counted, not tries."""
    task = bench.submit(points=40, retry={"same_failure": 2, "attempts": 9})
    for _ in range(5):
        bench.fail(bench.lease(task))

    assert summary(bench, task).state is TaskState.RUNNING


def test_nodes_and_losses_never_pause_a_task(bench: Bench) -> None:
    """They say nothing of the training."""
    task = bench.submit(points=40, retry={"same_failure": 2})
    held = [bench.lease(task, f"w{number}") for number in range(8)]
    for lease in held[:4]:
        bench.fail(lease, FailureCause.INFRASTRUCTURE, "disk", leaving=True)
    quietly(70, bench)

    assert summary(bench, task).state is TaskState.RUNNING


def test_one_broken_host_among_others_does_not_pause_a_task(bench: Bench) -> None:
    """It is set aside instead; when a second host sees the same, it is the training, and the first is taken back."""
    task = bench.submit(points=40)
    other = bench.lease(task, **B)
    held = [bench.lease(task, **A | {"worker": f"wa{number}"}) for number in range(6)]
    for lease in held:
        bench.fail(lease, text="no torch")
    assert (summary(bench, task).state, host(bench, "a").set_aside_until is None) == (TaskState.RUNNING, False)

    bench.fail(other, text="no torch")

    assert summary(bench, task).state is TaskState.PAUSED
    assert (host(bench, "a").set_aside_until, host(bench, "a").failures_in_a_row) == (None, 0)
    [event] = events(bench, task, "worker.taken_back")
    assert event.details["reason"] == f"task {task} fails everywhere"


def test_an_optimizer_that_breaks_pauses_with_its_name(bench: Bench) -> None:
    """Followers can tell it from a pause that a person made."""
    task = bench.submit()
    bench.work()
    assert bench.host is not None
    [ownership] = bench.host.ownerships

    hosting.pause_broken(bench.steering, ownership, "the optimizer failed")

    assert summary(bench, task).stopped_by == "optimizer"


# --- many at once, and half-way


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call all at the same time, each in a thread of its own."""
    barrier = threading.Barrier(len(calls))

    def call(function: Callable[[], Any]) -> Any:
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_a_point_that_came_back_goes_to_one_of_those_who_ask(bench: Bench) -> None:
    """However many ask at the same moment, each point has one worker."""
    task = bench.submit(points=40)
    for lease in [bench.lease(task, **A | {"worker": f"wa{number}"}) for number in range(3)]:
        bench.fail(lease)
    askers = [{"worker": f"w{number}", "host": f"h{number}", "site": "cern"} for number in range(8)]

    leased = at_once([functools.partial(bench.ask, task, **asker) for asker in askers])

    points = [lease.point for lease in leased if lease is not None]
    assert points.count(0) == points.count(1) == points.count(2) == 1
    assert len(points) == len(set(points))


def test_failures_at_the_same_moment_set_a_host_aside_once(bench: Bench) -> None:
    """And the log has it once."""
    task = bench.submit(points=40, retry={"same_failure": 0})
    bench.lease(task, **B)
    held = [bench.lease(task, **A | {"worker": f"wa{number}"}) for number in range(8)]

    at_once([functools.partial(bench.fail, lease) for lease in held])

    assert (host(bench, "a").failed, len(events(bench, task, "worker.set_aside"))) == (8, 1)


def test_failures_at_the_same_moment_pause_a_task_once(bench: Bench) -> None:
    """Whoever comes second finds it paused."""
    task = bench.submit(points=40)
    held = [bench.lease(task, f"w{number}") for number in range(8)]

    at_once([functools.partial(bench.fail, lease) for lease in held])

    assert summary(bench, task).state is TaskState.PAUSED
    assert len(events(bench, task, "task.paused")) == 1


class CrashError(Exception):
    """The service dies."""


@pytest.fixture
def dies_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the service die when it writes an event of some kind."""
    add = log.add

    def prepare(kind: str) -> None:
        def die(connection: Connection, **values: Any) -> None:
            if values["kind"] == kind:
                raise CrashError
            add(connection, **values)

        monkeypatch.setattr(log, "add", die)

    return prepare


def test_a_host_is_set_aside_together_with_its_event(bench: Bench, dies_at: Callable[[str], None]) -> None:
    """Without the one there is not the other, nor the failure that led to it; said again, all is there."""
    task = bench.submit(points=40)
    bench.lease(task, **B)
    break_host(bench, task, A, n=3)
    fourth = bench.lease(task, **A)
    dies_at("worker.set_aside")

    with pytest.raises(CrashError):
        bench.fail(fourth, text="d is broken")

    assert (host(bench, "a").failed, host(bench, "a").set_aside_until) == (3, None)
    assert state(bench, task, fourth.point)[0] is PointState.RUNNING
    dies_at("nothing")
    bench.fail(fourth, text="d is broken")
    assert len(events(bench, task, "worker.set_aside")) == 1


def test_a_task_is_paused_together_with_its_event(bench: Bench, dies_at: Callable[[str], None]) -> None:
    """If the service dies before, the failure itself is kept, and the next one pauses the task."""
    task = bench.submit(points=40, retry={"same_failure": 2})
    held = [bench.lease(task, f"w{number}") for number in range(3)]
    bench.fail(held[0], leaving=True)
    dies_at("task.paused")

    with pytest.raises(CrashError):
        bench.fail(held[1], leaving=True)

    assert (summary(bench, task).state, state(bench, task, 1)[1]) == (TaskState.RUNNING, 1)
    dies_at("nothing")
    bench.fail(held[2], leaving=True)
    assert summary(bench, task).reason.startswith("your script fails everywhere: the same failure on 3 different")
