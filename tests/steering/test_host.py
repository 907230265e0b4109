"""The optimizer host: ownership, replay, broken optimizers."""

from __future__ import annotations

from typing import Any

import pytest

from gridtune_common.protocol import Parameters, TaskState
from gridtune_steering import optimizers
from gridtune_steering.bookkeeping import snapshots
from gridtune_steering.campaign import Action, Campaign, Event, Failed, Told
from gridtune_steering.optimizers.nevergrad_registry import Nevergrad
from gridtune_steering.optimizers.uniform import UniformRandom
from gridtune_steering.services import hosting, leases, tasks
from gridtune_steering.services.hosting import OwnershipLost
from gridtune_steering.services.steering import Steering
from optimizer_rows import QUICK, every_optimizer
from service_bench import OPERATOR, Bench, on_sqlite

FINITE: dict[str, Any] = {"x": {"type": "int", "low": -5, "high": 5}, "layers": [1, 2, 3, 4], "kind": ["adam", "sgd"]}


def run_alone(bench: Bench, algorithm: str, *, rebuild_every: int | None = None) -> list[Parameters]:
    """Run a task with one worker; returns its points."""
    more: dict[str, Any] = {"space": FINITE} if optimizers.load(algorithm).finite_spaces_only else {}
    task = bench.submit(points=30, algorithm=algorithm, options=QUICK.get(algorithm, {}), **more)
    found = []
    for number in range(30):
        if rebuild_every is not None and number % rebuild_every == 0:
            bench.new_host(f"h{number}")
            bench.clock.advance(11.0)  # the predecessor's lease on the task has to run out
        lease = bench.lease(task)
        found.append(lease.parameters)
        bench.tell(lease)
    return found


@every_optimizer
@on_sqlite
def test_the_same_seed_gives_the_same_points(bench: Bench, name: str) -> None:
    """One worker, the same seed: the same search, point by point."""
    assert run_alone(bench, name) == run_alone(bench, name)


@every_optimizer
@on_sqlite
def test_hosts_that_die_in_between_change_nothing(bench: Bench, name: str) -> None:
    """A campaign that is rebuilt from history every few points finds the points of one that never died."""
    assert run_alone(bench, name) == run_alone(bench, name, rebuild_every=4)


def test_a_host_that_lost_a_task_writes_nothing(bench: Bench) -> None:
    """Whoever wakes up after their lease was taken is fenced off."""
    task = bench.submit()
    [old] = hosting.claim(bench.steering, "old")
    bench.clock.advance(11.0)
    [new] = hosting.claim(bench.steering, "new")

    with pytest.raises(OwnershipLost):
        hosting.write(bench.steering, old, learnt=[], actions=[])
    hosting.write(bench.steering, new, learnt=[], actions=[])
    assert (old.task, new.task) == (task, task)


def test_a_failure_that_turned_into_a_result_is_not_learnt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that comes between the reading of a failure and its learning is what the optimizer learns."""
    task = bench.submit(points=1, retry={"lost": 1})
    late = bench.lease(task)
    bench.clock.advance(61.0)
    leases.reap(bench.steering)
    news = hosting.news

    def read_then_hear(steering: Steering, ownership: hosting.Ownership) -> hosting.News:
        found = news(steering, ownership)
        monkeypatch.setattr(hosting, "news", news)
        assert bench.tell(late).accepted
        return found

    monkeypatch.setattr(hosting, "news", read_then_hear)
    learnt: list[Event] = []
    handle = Campaign.handle

    def remember(campaign: Campaign, event: Event) -> list[Action]:
        learnt.append(event)
        return handle(campaign, event)

    monkeypatch.setattr(Campaign, "handle", remember)
    bench.work()

    results = [event for event in learnt if isinstance(event, (Told, Failed))]
    assert [type(result) for result in results] == [Failed, Told]  # the campaign of the first was thrown away
    assert tasks.get(bench.steering, OPERATOR, task).summary.state is TaskState.FINISHED


def test_a_live_hosts_tasks_are_left_alone(bench: Bench) -> None:
    """A host that renews keeps its tasks."""
    bench.submit()
    hosting.claim(bench.steering, "first")
    bench.clock.advance(8.0)
    hosting.renew(bench.steering, "first")
    bench.clock.advance(8.0)

    assert hosting.claim(bench.steering, "second") == []


def test_a_host_that_leaves_frees_its_tasks_at_once(bench: Bench) -> None:
    """An orderly end costs nobody a wait."""
    task = bench.submit()
    hosting.claim(bench.steering, "first")
    hosting.leave(bench.steering, "first")

    assert [ownership.task for ownership in hosting.claim(bench.steering, "second")] == [task]


def test_a_broken_optimizer_pauses_its_task_and_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner reads why; the host goes on with the rest."""
    suggest = UniformRandom.suggest

    def raise_at_three(self: UniformRandom, number: int, seed: int) -> Parameters:
        if number == 3:
            raise ZeroDivisionError("a library's mistake")
        return suggest(self, number, seed)

    monkeypatch.setattr(UniformRandom, "suggest", raise_at_three)
    broken, fine = bench.submit(), bench.submit(algorithm="hyperopt/tpe")
    for worker in range(6):
        bench.ask(broken, f"w{worker}")
        bench.ask(fine, f"w{worker}")
    bench.work()

    summary = tasks.get(bench.steering, OPERATOR, broken).summary
    assert summary.state is TaskState.PAUSED
    assert summary.reason == "the optimizer failed: ZeroDivisionError: a library's mistake"
    assert tasks.get(bench.steering, OPERATOR, fine).summary.counts.ready == 6


def test_a_snapshot_spares_a_host_the_asking(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where asking matters, the next host begins at the snapshot, and finds the points that the first would have."""
    monkeypatch.setattr("gridtune_steering.host.host._MOST_REPEATED", 0.0)
    without = run_alone(bench, "nevergrad/OnePlusOne")
    asked: list[int] = []
    original = Nevergrad.suggest

    def counted(self: Nevergrad, number: int, seed: int) -> Parameters:
        asked.append(number)
        return original(self, number, seed)

    monkeypatch.setattr(Nevergrad, "suggest", counted)

    assert run_alone(bench, "nevergrad/OnePlusOne", rebuild_every=10) == without
    assert asked == list(range(30))


def test_a_snapshot_of_another_version_is_passed_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """History is the truth: what another program kept is not even looked at."""
    monkeypatch.setattr("gridtune_steering.host.host._MOST_REPEATED", 0.0)
    task = bench.submit(points=30, algorithm="nevergrad/OnePlusOne")
    for _ in range(5):
        bench.tell(bench.lease(task))
    with bench.steering.database.write() as connection:
        kept = snapshots.find(connection, task)
        assert kept is not None
        values = {"n_points": 5, "n_observed": 5, "at": kept.at}
        snapshots.put(connection, task, versions={**kept.versions, "numpy": "0"}, state=b"no pickle", **values)

    bench.new_host("next")
    bench.clock.advance(11.0)

    assert bench.lease(task).point == 5
