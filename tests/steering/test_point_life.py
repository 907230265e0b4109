"""The life of points, whatever happens in whatever order: the services against a simple model of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from event_log import Tale
from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    Advice,
    Ask,
    ChangeTask,
    EvaluationState,
    Export,
    Fail,
    FailureCause,
    Heartbeat,
    Lease,
    Outcome,
    Point,
    PointState,
    Release,
    ReleaseCause,
    Report,
    Reports,
    TaskAction,
    TaskState,
    Tell,
)
from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.services import asking, leases, records, results, tasks
from gridtune_steering.services.errors import Conflict, RequestIdReused, TaskHasEnded, Unusable
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings
from gridtune_steering.testing import ManualClock, MemoryStore, RecordingBell
from service_bench import OPERATOR, Bench

LEASE_SECONDS = 60.0
ATTEMPTS, LOST, NODES = 3, 3, 4
RULES = {"attempts": ATTEMPTS, "lost": LOST, "infrastructure": NODES, "stalled": 100, "same_failure": 0}
#: Failures that are the node's.
NODES_FAULT = {FailureCause.INFRASTRUCTURE, FailureCause.START}
#: All workers are on one host: which host is better for a point is another matter.
HOST = "node"
WORKERS = st.sampled_from(["w1", "w2", "w3"])
#: Which of the things that there are; the newest are the likeliest.
WHICH = st.integers(0, 50)

Ending = Tell | Fail | Release


@dataclass
class ModelPoint:
    """A point as it should be."""

    state: PointState = PointState.READY
    own: int = 0
    lost: int = 0
    nodes: int = 0
    epoch: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)

    @property
    def attempts(self) -> int:
        """All tries that failed or were lost."""
        return self.own + self.lost + self.nodes

    @property
    def is_used_up(self) -> bool:
        """Whether nobody tries again."""
        return self.own >= ATTEMPTS or self.lost >= LOST or self.nodes >= NODES


@dataclass
class ModelEvaluation:
    """An evaluation as it should be."""

    point: int
    epoch: int
    expires_at: datetime
    state: EvaluationState = EvaluationState.RUNNING


@dataclass
class Model:
    """What should be, by the rules alone: no transactions, no requests, no history."""

    points: dict[int, ModelPoint] = field(default_factory=dict)
    evaluations: dict[str, ModelEvaluation] = field(default_factory=dict)
    state: TaskState = TaskState.RUNNING
    budget: int = 0
    #: Points whose failure the optimizer has learnt.
    given_up: set[int] = field(default_factory=set)

    def begin(self, lease: Lease, expires_at: datetime) -> None:
        """A worker has got a point."""
        ready = [number for number, point in self.points.items() if point.state is PointState.READY]
        assert self.state is TaskState.RUNNING
        assert lease.point in ready
        point = self.points[lease.point]
        assert point.attempts or not any(self.points[number].attempts for number in ready), "what came back goes first"
        point.state, point.epoch = PointState.RUNNING, point.epoch + 1
        assert (lease.epoch, lease.attempt) == (point.epoch, point.attempts + 1)
        assert lease.evaluation not in self.evaluations
        self.evaluations[lease.evaluation] = ModelEvaluation(lease.point, lease.epoch, expires_at)

    def hear(self, name: str, expires_at: datetime) -> Advice:
        """An evaluation gave a sign of life; what it is told."""
        evaluation = self.evaluations[name]
        point = self.points[evaluation.point]
        is_untouched = point.state is PointState.READY and point.epoch == evaluation.epoch
        if evaluation.state is EvaluationState.LOST and is_untouched:
            evaluation.state, point.state, point.lost = EvaluationState.RUNNING, PointState.RUNNING, point.lost - 1
        if evaluation.state is EvaluationState.RUNNING:
            evaluation.expires_at = expires_at
            return Advice.CONTINUE
        return Advice.LOST if evaluation.state is EvaluationState.LOST else Advice.STOP

    def told(self, name: str, metrics: dict[str, float | None]) -> bool:
        """An evaluation delivered its result; whether that counts."""
        evaluation = self.evaluations[name]
        point = self.points[evaluation.point]
        is_open = point.state in {PointState.READY, PointState.RUNNING} or (
            point.state is PointState.FAILED and evaluation.point not in self.given_up
        )
        if evaluation.state not in {EvaluationState.RUNNING, EvaluationState.LOST} or not is_open:
            return False
        for rival in self._running(evaluation.point):
            rival.state = EvaluationState.STOPPED
        evaluation.state, point.state, point.metrics = EvaluationState.DONE, PointState.DONE, metrics
        return True

    def failed(self, name: str, cause: FailureCause, *, permanent: bool) -> bool:
        """An evaluation failed; whether that counts."""
        counter = "nodes" if cause in NODES_FAULT else "own"
        return self._gives_back(name, EvaluationState.FAILED, counter, permanent=permanent)

    def released(self, name: str) -> bool:
        """An evaluation gave its point back; whether that counts."""
        return self._gives_back(name, EvaluationState.RELEASED)

    def lose_expired(self, now: datetime) -> None:
        """The silent are lost."""
        for name, evaluation in self.evaluations.items():
            if evaluation.expires_at < now:
                self.lost(name)

    def lost(self, name: str) -> None:
        """Nobody has heard of an evaluation for too long."""
        self._gives_back(name, EvaluationState.LOST, "lost")

    def end(self, state: TaskState) -> None:
        """The task has ended, and with it all that was open."""
        self.state = state
        for evaluation in self.evaluations.values():
            if evaluation.state is EvaluationState.RUNNING:
                evaluation.state = EvaluationState.STOPPED
        for point in self.points.values():
            if point.state in {PointState.READY, PointState.RUNNING}:
                point.state = PointState.CANCELLED

    def _gives_back(self, name: str, state: EvaluationState, counter: str = "", *, permanent: bool = False) -> bool:
        evaluation = self.evaluations[name]
        if evaluation.state is not EvaluationState.RUNNING:
            return False
        point = self.points[evaluation.point]
        evaluation.state = state
        if counter:
            setattr(point, counter, getattr(point, counter) + 1)
        has_failed = bool(counter) and (permanent or point.is_used_up)
        point.state = PointState.FAILED if has_failed else PointState.READY
        return True

    def _running(self, number: int) -> Iterator[ModelEvaluation]:
        for evaluation in self.evaluations.values():
            if evaluation.point == number and evaluation.state is EvaluationState.RUNNING:
                yield evaluation


@dataclass(frozen=True)
class Said:
    """A last word that was answered."""

    evaluation: str
    message: Ending
    answer: Outcome


def has_asked(machine: PointLife) -> bool:
    """Whether there is an ask to repeat."""
    return bool(machine.asks)


def has_leases(machine: PointLife) -> bool:
    """Whether some worker ever got a point."""
    return bool(machine.leases)


def has_spoken(machine: PointLife) -> bool:
    """Whether there is a last word to repeat."""
    return bool(machine.said)


class PointLife(RuleBasedStateMachine):
    """Workers, users, hosts and clocks do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=_memory())
        self.bench = Bench(_steering_in(Path(self.folder.name)), ManualClock())
        self.bench.steering = replace(self.bench.steering, clock=self.bench.clock)
        self.model = Model()
        self.task = ""
        self.asks: list[tuple[Ask, Lease | None]] = []
        self.leases: list[Lease] = []
        self.said: list[Said] = []
        self.done: dict[int, Point] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.bench.steering.database.close()
        self.folder.cleanup()

    @initialize(points=st.integers(1, 5))
    def submit(self, points: int) -> None:
        """A user submits a task."""
        self.task = self.bench.submit(points=points, retry=RULES)
        self.model.budget = points
        self._look()
        for worker in ("w1", "w2", "w3"):
            self._ask(Ask(new_request_id(), worker, host=HOST))
        self._look_around()

    # --- workers

    @rule(worker=WORKERS)
    def ask(self, worker: str) -> None:
        """A worker asks, whether or not it holds a point."""
        self._ask(Ask(new_request_id(), worker, host=HOST))

    @rule(worker=WORKERS)
    def wait_for_a_point(self, worker: str) -> None:
        """A worker's ask waits until the host had time to make a point."""
        self._ask(Ask(new_request_id(), worker, host=HOST))
        if self.asks and self.asks[-1][1] is None:
            self._look_around()
            self._ask(self.asks[-1][0], 0)

    @precondition(has_asked)
    @rule(which=WHICH, wait=st.sampled_from([0.0, 5.0]))
    def ask_again(self, which: int, wait: float) -> None:
        """An ask arrives once more, now or much later."""
        message, lease = _pick(self.asks, which)
        evaluation = self.model.evaluations[lease.evaluation] if lease else None
        if lease is None or evaluation is None or evaluation.state in {EvaluationState.LOST, EvaluationState.STOPPED}:
            self._ask(replace(message, wait=wait), which)
            return

        again = asking.ask(self.bench.steering, OPERATOR, self.task, replace(message, wait=wait))

        assert again == lease
        if evaluation.state is EvaluationState.RUNNING:
            evaluation.expires_at = self._lease_end()

    @precondition(has_leases)
    @rule(which=WHICH, steps=st.lists(st.integers(1, 4), max_size=3))
    def report(self, which: int, steps: list[int]) -> None:
        """An evaluation of any age says that it is alive, perhaps with reports, perhaps with some of them again."""
        lease = _pick(self.leases, which)
        message = Reports(lease.epoch, [Report(step, {"loss": float(step)}) for step in steps])
        verdict = leases.report(self.bench.steering, OPERATOR, lease.evaluation, message)
        assert verdict.advice is self.model.hear(lease.evaluation, self._lease_end())

    @precondition(has_leases)
    @rule(which=WHICH, loss=st.integers(0, 9), leaving=st.booleans())
    def tell(self, which: int, loss: int, leaving: bool) -> None:
        """An evaluation of any age delivers its result."""
        lease = _pick(self.leases, which)
        metrics: dict[str, float | None] = {"loss": float(loss)}
        message = Tell(new_request_id(), lease.epoch, metrics, leaving=leaving, reports=[Report(9, metrics)])
        expected = self.model.told(lease.evaluation, metrics)
        self._say(lease.evaluation, message, expected)

    @precondition(has_leases)
    @rule(
        which=WHICH,
        cause=st.sampled_from(FailureCause),
        permanent=st.sampled_from([False] * 4 + [True]),
        leaving=st.booleans(),
    )
    def fail(self, which: int, cause: FailureCause, permanent: bool, leaving: bool) -> None:
        """An evaluation of any age fails."""
        lease = _pick(self.leases, which)
        message = Fail(new_request_id(), lease.epoch, cause, permanent=permanent, leaving=leaving)
        expected = self.model.failed(lease.evaluation, cause, permanent=permanent)
        self._say(lease.evaluation, message, expected)

    @precondition(has_leases)
    @rule(which=WHICH, cause=st.sampled_from(ReleaseCause), leaving=st.booleans())
    def release(self, which: int, cause: ReleaseCause, leaving: bool) -> None:
        """An evaluation of any age gives its point back."""
        lease = _pick(self.leases, which)
        message = Release(new_request_id(), lease.epoch, cause, leaving=leaving)
        expected = self.model.released(lease.evaluation)
        self._say(lease.evaluation, message, expected)

    @precondition(has_spoken)
    @rule(which=WHICH)
    def repeat(self, which: int) -> None:
        """A last word that was answered arrives once more, now or much later."""
        said = _pick(self.said, which)
        assert self._send(said.evaluation, said.message) == said.answer

    @precondition(has_leases)
    @rule(which=WHICH, by=st.sampled_from([-1, 1]), metrics=st.sampled_from([{}, {"loss": None}, {"other": 1.0}]))
    def talk_nonsense(self, which: int, by: int, metrics: dict[str, float | None]) -> None:
        """Another lease's epoch, a result without its objective and the id of another request change nothing."""
        steering, lease = self.bench.steering, _pick(self.leases, which)
        stale = Tell(new_request_id(), lease.epoch + by, {"loss": 0.0})
        assert not results.tell(steering, OPERATOR, lease.evaluation, stale).accepted
        assert leases.heartbeat(steering, OPERATOR, lease.evaluation, Heartbeat(stale.epoch)).advice is Advice.LOST
        with pytest.raises(Unusable):
            results.tell(steering, OPERATOR, lease.evaluation, Tell(new_request_id(), lease.epoch, metrics))
        with pytest.raises(RequestIdReused):
            results.tell(steering, OPERATOR, lease.evaluation, replace(stale, metrics={"loss": 1.0}))

    # --- the service

    @rule(has_died=st.booleans())
    def work(self, has_died: bool) -> None:
        """A host looks around; or its successor, which has its name, so that it need not wait for the lease."""
        if has_died:
            self.bench.new_host()
        self._look_around()

    @rule(seconds=st.sampled_from([1.0, 61.0, 200.0]), notices=st.booleans())
    def let_time_pass(self, seconds: float, notices: bool) -> None:
        """The clock jumps, and the silent are lost if anybody notices."""
        self.bench.clock.advance(seconds)
        if notices:
            self.model.lose_expired(self.bench.clock())
            leases.reap(self.bench.steering)

    @rule(reachable=st.booleans())
    def be_silent_for_a_lease(self, reachable: bool) -> None:
        """A minute goes by for the service, with web processes there or not."""
        for _ in range(22):
            self.bench.clock.advance(3.0)
            self.bench.work(reachable=reachable)
        self._look()

    # --- users

    @precondition(lambda machine: len(machine.leases) > 3)
    @rule(action=st.sampled_from([TaskAction.PAUSE, TaskAction.RESUME, TaskAction.RESUME]))
    def hold(self, action: TaskAction) -> None:
        """A user pauses or resumes the task."""
        has_ended = self.model.state in {TaskState.FINISHED, TaskState.CANCELLED}
        self._change(action, refused=has_ended)
        if not has_ended:
            self.model.state = TaskState.PAUSED if action is TaskAction.PAUSE else TaskState.RUNNING

    @precondition(lambda machine: machine.model.budget < 6)
    @rule(points=st.integers(1, 2))
    def extend(self, points: int) -> None:
        """A user wants more points."""
        self._change(TaskAction.EXTEND, points, refused=self.model.state is TaskState.CANCELLED)
        if self.model.state is not TaskState.CANCELLED:
            self.model.budget += points
        if self.model.state is TaskState.FINISHED:
            self.model.state = TaskState.RUNNING

    @precondition(lambda machine: len(machine.leases) > 5)
    @rule()
    def cancel(self) -> None:
        """A user has seen enough."""
        self._change(TaskAction.CANCEL, refused=self.model.state is TaskState.FINISHED)
        if self.model.state is not TaskState.FINISHED:
            self.model.end(TaskState.CANCELLED)

    # --- what always holds

    @invariant()
    def all_is_well(self) -> None:
        """Whatever was done last."""
        exported = self._export()
        self._tables_are_as_the_model(exported)
        self._the_log_explains_the_tables(exported)
        self._a_point_has_one_holder(exported)
        self._no_point_is_lost(exported)
        self._what_was_acknowledged_stays(exported)

    def _tables_are_as_the_model(self, exported: Export) -> None:
        """Every state, count and result is what the rules make of it."""
        assert exported.task.summary.state is self.model.state
        assert {row.number: _seen(row) for row in exported.points} == {
            number: (point.state, point.attempts, point.metrics) for number, point in self.model.points.items()
        }
        assert {row.id: (row.point, row.epoch, row.state) for row in exported.evaluations} == {
            name: (told.point, told.epoch, told.state) for name, told in self.model.evaluations.items()
        }

    def _the_log_explains_the_tables(self, exported: Export) -> None:
        """The events alone give every state."""
        assert Tale.of(exported.events).differences(exported) == []

    def _a_point_has_one_holder(self, exported: Export) -> None:
        """At most one evaluation runs a point, and its epoch is the point's."""
        running = [row for row in exported.evaluations if row.state is EvaluationState.RUNNING]
        assert sorted(row.point for row in running) == [
            row.number for row in exported.points if row.state is PointState.RUNNING
        ]
        newest = {row.point: row.epoch for row in exported.evaluations}
        assert all(row.epoch == newest[row.point] for row in running)

    def _no_point_is_lost(self, exported: Export) -> None:
        """Points are numbered without gaps, within the budget, and open until they or the task end."""
        assert [row.number for row in exported.points] == list(range(len(exported.points)))
        assert len(exported.points) <= self.model.budget
        if self.model.state is TaskState.FINISHED:
            assert len(exported.points) == self.model.budget

    def _what_was_acknowledged_stays(self, exported: Export) -> None:
        """A result that was accepted is its point's, once; a done point never changes again."""
        points = {row.number: row for row in exported.points}
        accepted = [said for said in self.said if isinstance(said.message, Tell) and said.answer.accepted]
        told = {self.model.evaluations[said.evaluation].point: said for said in accepted}
        assert len(told) == len(accepted)
        assert set(told) == {row.number for row in exported.points if row.state is PointState.DONE}
        for number, said in told.items():
            assert isinstance(said.message, Tell)
            assert points[number].metrics == said.message.metrics
            frozen = self.done.setdefault(number, points[number])
            assert replace(points[number], observed=None) == replace(frozen, observed=None)

    # --- plumbing

    def _ask(self, message: Ask, which: int | None = None) -> None:
        has_ended = self.model.state in {TaskState.FINISHED, TaskState.CANCELLED}
        if has_ended:
            with pytest.raises(TaskHasEnded):
                asking.ask(self.bench.steering, OPERATOR, self.task, message)
            return
        found = asking.ask(self.bench.steering, OPERATOR, self.task, message)
        lease = found if isinstance(found, Lease) else None
        if which is None:
            self.asks.append((message, lease))
        else:
            self.asks[_place(self.asks, which)] = (message, lease)
        if lease is not None:
            self.model.begin(lease, self._lease_end())
            self.leases.append(lease)
        elif self.model.state is TaskState.RUNNING:
            assert PointState.READY not in {point.state for point in self.model.points.values()}

    def _lease_end(self) -> datetime:
        return self.bench.clock() + timedelta(seconds=LEASE_SECONDS)

    def _say(self, evaluation: str, message: Ending, expected: bool) -> None:
        answer = self._send(evaluation, message)
        self.said.append(Said(evaluation, message, answer))
        assert answer.accepted is expected, answer.reason

    def _send(self, evaluation: str, message: Ending) -> Outcome:
        calls: dict[type, Callable[..., Outcome]] = {
            Tell: results.tell,
            Fail: results.fail,
            Release: results.release,
        }
        return calls[type(message)](self.bench.steering, OPERATOR, evaluation, message)

    def _change(self, action: TaskAction, points: int = 0, *, refused: bool) -> None:
        message = ChangeTask(new_request_id(), action, points)
        if refused:
            with pytest.raises(Conflict):
                tasks.change(self.bench.steering, OPERATOR, self.task, message)
            return
        tasks.change(self.bench.steering, OPERATOR, self.task, message)
        tasks.change(self.bench.steering, OPERATOR, self.task, message)

    def _look_around(self, *, reachable: bool = True) -> None:
        self.bench.work(reachable=reachable)
        self._look()

    def _look(self) -> None:
        """Take over what only a host decides, as far as it may: new points, losses, the end of the task."""
        exported = self._export()
        self._see_losses(exported)
        for row in exported.points[len(self.model.points) :]:
            assert self.model.state is TaskState.RUNNING
            self.model.points[row.number] = ModelPoint()
        for row in exported.points:
            if row.state is PointState.FAILED and row.observed is not None:
                self.model.given_up.add(row.number)
        if exported.task.summary.state is TaskState.FINISHED and self.model.state is TaskState.RUNNING:
            open_states = {PointState.READY, PointState.RUNNING}
            assert not open_states & {point.state for point in self.model.points.values()}
            self.model.end(TaskState.FINISHED)

    def _see_losses(self, exported: Export) -> None:
        """The reaper may wait, but takes nobody's lease before it is over."""
        lost = {row.id for row in exported.evaluations if row.state is EvaluationState.LOST}
        fresh = [name for name in lost if self.model.evaluations[name].state is EvaluationState.RUNNING]
        for name in fresh:
            assert self.model.evaluations[name].expires_at < self.bench.clock()
            self.model.lost(name)

    def _export(self) -> Export:
        return records.export(self.bench.steering, OPERATOR, self.task)


def _seen(row: Point) -> tuple[PointState, int, Any]:
    return row.state, row.attempts, row.metrics


def _place(things: list[Any], which: int) -> int:
    return -1 - which % len(things)


def _pick(things: list[Any], which: int) -> Any:
    return things[_place(things, which)]


def _memory() -> str | None:
    """A folder that needs no disk, if there is one: thousands of small transactions wait for theirs otherwise."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - each run has a folder of its own there


_TEMPLATE: list[bytes] = []


def _steering_in(folder: Path) -> Steering:
    """A service on a fresh database; the migrations run once for all."""
    known = Settings.from_environment({}, data=folder, lease_seconds=LEASE_SECONDS)
    file = folder / "gridtune.db"
    database = Database(known.database_url)
    if not _TEMPLATE:
        database.migrate()
        database.close()
        _TEMPLATE.append(file.read_bytes())
        database = Database(known.database_url)
    else:
        file.write_bytes(_TEMPLATE[0])
    clock = ManualClock()
    store = MemoryStore(clock)
    return Steering(database=database, store=store, bell=RecordingBell(), clock=clock, settings=known)


@pytest.mark.parametrize("n_lives", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_points_live_by_the_rules(n_lives: int) -> None:
    """In any order of asks, signs of life, last words, repetitions, silence, crashes and changes of mind."""
    checks = settings(
        max_examples=n_lives,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(PointLife, settings=checks)
