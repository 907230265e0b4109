"""The optimizer host: ownership, replay, broken optimizers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import ChangeTask, Lease, Parameters, TaskAction, TaskState
from gridtune_common.protocol import Event as LoggedEvent
from gridtune_steering import optimizers
from gridtune_steering.bookkeeping import hosts, snapshots
from gridtune_steering.bookkeeping import tasks as bookkept_tasks
from gridtune_steering.campaign import Action, Campaign, Event, Failed, Told
from gridtune_steering.doorbell import LocalBell
from gridtune_steering.host.effort import Effort, to_give_away
from gridtune_steering.host.host import Host
from gridtune_steering.optimizers.nevergrad_registry import Nevergrad
from gridtune_steering.optimizers.uniform import UniformRandom
from gridtune_steering.services import hosting, housekeeping, leases, owning, records, tasks
from gridtune_steering.services.owning import OwnershipLost
from gridtune_steering.services.steering import Steering
from gridtune_steering.testing import RecordingBell
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
    [old] = owning.claim(bench.steering, "old")
    bench.clock.advance(11.0)
    [new] = owning.claim(bench.steering, "new")

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

    def read_then_hear(steering: Steering, ownership: owning.Ownership) -> hosting.News:
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
    task = bench.submit()
    owning.claim(bench.steering, "first")
    bench.clock.advance(8.0)
    owning.renew(bench.steering, "first", [task])
    bench.clock.advance(8.0)

    assert owning.claim(bench.steering, "second") == []


def test_a_host_keeps_what_it_knows_to_be_its_own(bench: Bench) -> None:
    """A task that it took over without hearing so, for the connection broke at the commit, does not wait for ever."""
    known, unknown = bench.submit(), bench.submit()
    owning.claim(bench.steering, "first")
    bench.clock.advance(8.0)
    owning.renew(bench.steering, "first", [known])
    bench.clock.advance(8.0)

    assert [ownership.task for ownership in owning.claim(bench.steering, "second")] == [unknown]


@on_sqlite
def test_a_nearly_whole_lease_is_left_alone(bench: Bench) -> None:
    """A host that owns a thousand tasks does not write a thousand rows each second; none of its leases gets old."""
    task = bench.submit()
    bench.work()
    lives: list[float] = []

    for _ in range(12):
        bench.clock.advance(1.0)
        owning.renew(bench.steering, "h1", [task])
        with bench.steering.database.read() as connection:
            row = bookkept_tasks.find(connection, task)
        assert row is not None
        lives.append((row.host_lease_until - bench.clock()).total_seconds())

    assert lives == [9.0, 8.0, 10.0] * 4


def test_leases_do_not_wait_for_duties(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the duties wait for, a row that a process holds which stands still or a slow disk, a host stays one."""
    held, renewed = threading.Event(), threading.Semaphore(0)
    monkeypatch.setattr(housekeeping, "do_duties", lambda *_: held.wait())
    monkeypatch.setattr(owning, "renew", lambda *_, **__: renewed.release())
    host = Host(bench.steering, "h1")
    with LocalBell(bench.steering.settings.data) as bell, bell.listen_as_host() as listener:
        running = threading.Thread(target=host.run, args=(listener,))
        running.start()
        are_kept = [renewed.acquire(timeout=10) for _ in range(2)]
        host.stop()
        running.join(10)
        held.set()

    assert are_kept == [True, True]
    assert not running.is_alive()


def test_a_host_that_leaves_frees_its_tasks_at_once(bench: Bench) -> None:
    """An orderly end costs nobody a wait."""
    task = bench.submit()
    owning.claim(bench.steering, "first")
    owning.leave(bench.steering, "first")

    assert [ownership.task for ownership in owning.claim(bench.steering, "second")] == [task]


def break_at_three(monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Let the random optimizer fail at its point 3, so many times."""
    suggest = UniformRandom.suggest
    left = [times]

    def raise_at_three(self: UniformRandom, number: int, seed: int) -> Parameters:
        if number == 3 and left[0]:
            left[0] -= 1
            raise ZeroDivisionError("a library's mistake")
        return suggest(self, number, seed)

    monkeypatch.setattr(UniformRandom, "suggest", raise_at_three)
    monkeypatch.setattr("gridtune_steering.host.host._SECOND_THOUGHTS", (0.0, 0.0))


def test_a_broken_optimizer_pauses_its_task_and_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again twice; then the owner reads why, and the host goes on with the rest."""
    break_at_three(monkeypatch, times=3)
    broken, fine = bench.submit(), bench.submit(algorithm="hyperopt/tpe")
    for worker in range(6):
        bench.ask(broken, f"w{worker}")
        bench.ask(fine, f"w{worker}")
    states = []
    for _ in range(3):
        bench.work()
        states.append(tasks.get(bench.steering, OPERATOR, broken).summary.state)

    summary = tasks.get(bench.steering, OPERATOR, broken).summary
    assert states == [TaskState.RUNNING, TaskState.RUNNING, TaskState.PAUSED]
    assert summary.reason == "the optimizer failed: ZeroDivisionError: a library's mistake"
    assert len(events_of(bench, broken, "optimizer.failed")) == 2
    assert tasks.get(bench.steering, OPERATOR, fine).summary.counts.ready == 6


def test_an_optimizer_that_fails_once_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its campaign is rebuilt from what is written down, and proposes what it would have."""
    untroubled = [lease.parameters for lease in leased(bench, bench.submit(), 6)]
    break_at_three(monkeypatch, times=1)
    task = bench.submit()
    for worker in range(6):
        bench.ask(task, f"w{worker}")
    bench.work()

    assert [lease.parameters for lease in leased(bench, task, 6)] == untroubled
    assert tasks.get(bench.steering, OPERATOR, task).summary.state is TaskState.RUNNING


def leased(bench: Bench, task: str, n: int) -> list[Lease]:
    """Leases for so many workers."""
    return [bench.lease(task, f"w{worker}") for worker in range(n)]


def events_of(bench: Bench, task: str, kind: str) -> list[LoggedEvent]:
    """The audit log's lines of one kind."""
    return records.event_page(bench.steering, OPERATOR, task, kind=kind, after=None, limit=100).items


def test_a_task_that_takes_its_hosts_down_is_taken_alone(bench: Bench) -> None:
    """Three hosts die of it; the other tasks go to hosts that it does not take down, and it is paused."""
    poison, *others = [bench.submit() for _ in range(3)]
    first = owning.claim(bench.steering, "h0")
    bench.clock.advance(11.0)  # h0 has died of its first task, and has begun none of the others

    taken = []
    for number in range(1, 5):
        claimed = owning.claim(bench.steering, f"h{number}")
        taken.append([ownership.task for ownership in claimed])
        for ownership in claimed:
            if ownership.task != poison:
                owning.settle(bench.steering, ownership)
        for other in others:
            with bench.steering.database.write() as connection:
                hosts.give_up(connection, f"h{number}", [other])
        bench.clock.advance(11.0)

    assert [ownership.task for ownership in first] == [poison, *others]
    assert taken[0] == [poison]
    assert all(len(names) == 1 or poison not in names for names in taken)
    found = tasks.get(bench.steering, OPERATOR, poison).summary
    while found.state is TaskState.RUNNING:
        owning.claim(bench.steering, "h9")
        bench.clock.advance(11.0)
        found = tasks.get(bench.steering, OPERATOR, poison).summary
    assert found.reason == "3 optimizer hosts in a row ended while they worked on this task"
    assert [tasks.get(bench.steering, OPERATOR, other).summary.state for other in others] == [TaskState.RUNNING] * 2


def test_what_is_known_of_a_poisoned_task_is_its_reason(bench: Bench) -> None:
    """A host that notices that it hangs says so before it ends."""
    task = bench.submit()
    for number in range(3):
        [ownership] = owning.claim(bench.steering, f"h{number}")
        if number == 0:
            owning.settle(bench.steering, ownership)
        owning.accuse(bench.steering, ownership, "its optimizer did not answer for 121 s")
        bench.clock.advance(11.0)
    owning.claim(bench.steering, "h4")

    summary = tasks.get(bench.steering, OPERATOR, task).summary
    assert summary.state is TaskState.PAUSED
    assert summary.stopped_by == "optimizer"
    assert summary.reason.endswith("worked on this task: its optimizer did not answer for 121 s")


def test_a_task_that_was_resumed_begins_without_strikes(bench: Bench) -> None:
    """Whoever resumes it has looked at it."""
    task = bench.submit()
    for number in range(4):
        owning.claim(bench.steering, f"h{number}")
        bench.clock.advance(11.0)
    tasks.change(bench.steering, OPERATOR, task, ChangeTask(new_request_id(), TaskAction.RESUME))

    assert bench.lease(task).point == 0


def test_an_idle_campaign_is_dropped_and_rebuilt_on_demand(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that nobody asks anything of costs no memory, and goes on as if nothing had been."""
    loaded: list[str] = []
    load = hosting.load

    def counted(steering: Steering, ownership: owning.Ownership) -> Campaign:
        loaded.append(ownership.task)
        return load(steering, ownership)

    monkeypatch.setattr(hosting, "load", counted)
    task = bench.submit(algorithm="hyperopt/tpe")
    bench.tell(bench.lease(task))
    assert bench.host is not None
    bench.host.drop_idle(older_than=0.0)

    lease = bench.lease(task)

    assert loaded == [task, task]
    assert lease.point == 1


def test_a_host_looks_at_what_wants_it_alone(bench: Bench) -> None:
    """Of a thousand tasks, those with waiting workers or unlearnt results are read, and no other."""
    quiet, asked, told = bench.submit(), bench.submit(), bench.submit()
    lease = bench.lease(told)
    bench.work()
    bench.tell(lease, leaving=True)
    bench.ask(asked)

    wanting = owning.wanting(bench.steering, "h1")

    assert wanting == {asked, told}
    assert quiet not in wanting


def test_workers_beyond_the_budget_are_no_need(bench: Bench) -> None:
    """Whoever waits for a point of a task that has none left to make keeps no host busy; an extension changes that."""
    task = bench.submit(points=1)
    bench.lease(task)
    bench.ask(task, "w2")
    before = owning.wanting(bench.steering, "h1")

    tasks.change(bench.steering, OPERATOR, task, ChangeTask(new_request_id(), TaskAction.EXTEND, points=1))
    bench.work()
    lease = bench.ask(task, "w2")

    assert before == set()
    assert lease is not None
    assert lease.point == 1


def test_nobody_is_rung_for_what_cannot_be_made(bench: Bench) -> None:
    """An ask rings the hosts for a point of its own, but not when all points of the task are made."""
    bell = bench.steering.bell
    assert isinstance(bell, RecordingBell)
    task = bench.submit(points=1)
    bell.hosts.clear()
    bench.ask(task)
    before = list(bell.hosts)
    bench.work()
    bell.hosts.clear()

    lease = bench.ask(task)
    late = bench.ask(task, "w2")

    assert before == [task]
    assert lease is not None
    assert late is None
    assert bell.hosts == []


def test_tasks_go_to_whoever_has_more_time() -> None:
    """The dearest that fit go first, so that both hosts end alike; nothing moves for little."""
    busy = {"a": 0.6, "b": 0.3, "c": 0.05, "d": 0.001}

    assert to_give_away(busy, [0.1]) == ["b", "c", "d"]
    assert to_give_away(busy, [0.9, 0.1]) == ["b", "c", "d"]
    assert to_give_away(busy, [0.95]) == []
    assert to_give_away(busy, []) == []
    assert to_give_away({"a": 1.0}, [0.0]) == []  # it would only be the other's burden


def test_effort_is_counted_while_it_lasts() -> None:
    """A host that hangs in one task looks as busy as it is."""
    now = [0.0]
    effort = Effort(lambda: now[0])
    effort.look(["a", "b"])
    with effort.on("a"):
        for _ in range(30):
            now[0] += 1.0
            shares = effort.look(["a", "b"])
        assert effort.current == ("a", 30.0)

    assert effort.current is None
    assert shares["a"] > 0.95
    assert shares["b"] < 0.01


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
