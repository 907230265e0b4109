"""The user's own points: wishes, results from elsewhere, and tasks that start warm."""

from __future__ import annotations

import json
import random
import statistics
from typing import Any

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    AddedPoints,
    AddPoints,
    ChangeTask,
    Event,
    ImportedResults,
    ImportResults,
    KnownResult,
    OwnPoint,
    Parameters,
    Point,
    PointOrigin,
    Scope,
    TaskAction,
    TaskState,
)
from gridtune_common.space import SearchSpace
from gridtune_steering.services import imports, records, tasks, wishes
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import Conflict, NotFound, Unusable
from service_bench import OPERATOR, Bench, document, loss_of, on_sqlite

POINT: Parameters = {"x": 1.0, "rate": 0.01, "drop": 0.1, "width": 64, "layers": 1, "kind": "adam", "batch": 16}
SPACE = SearchSpace.parse(document()["space"])
ANN = Caller(user="ann", scope=Scope.USER, token="t1")


def at(x: float, **more: Any) -> dict[str, Any]:
    """A point of the bench's space."""
    return {**POINT, "x": x, **more}


def some_points(n: int, seed: int = 0) -> list[Parameters]:
    """Points drawn at random."""
    rng = random.Random(seed)
    return [SPACE.sample(rng) for _ in range(n)]


def points_of(bench: Bench, task: str) -> list[Point]:
    """All points of a task."""
    return records.export(bench.steering, OPERATOR, task).points


def events_of(bench: Bench, task: str, kind: str) -> list[Event]:
    """The lines of one kind in a task's log."""
    return records.event_page(bench.steering, OPERATOR, task, kind=kind, after=None, limit=100).items


def change(bench: Bench, task: str, action: TaskAction, points: int = 0) -> None:
    """Pause, resume, cancel or extend a task."""
    tasks.change(bench.steering, OPERATOR, task, ChangeTask(new_request_id(), action, points))


def paths_and_words(refusal: Unusable) -> str:
    """All flaws as text."""
    return "\n".join(str(flaw) for flaw in refusal.flaws)


# --- wishes ---------------------------------------------------------------------------------------------------------


def test_a_wish_is_evaluated_next(bench: Bench) -> None:
    """Ahead of what the optimizer would propose, in the order of the wishes, with who wished it in the log."""
    task = bench.submit()
    bench.tell(bench.lease(task), leaving=True)

    added = bench.wish(task, at(2.0), at(3.0))
    leases = [bench.lease(task, f"w{number}") for number in range(3)]

    assert added == AddedPoints(added=2, waiting=2)
    assert [lease.parameters for lease in leases[:2]] == [at(2.0), at(3.0)]
    origins = [point.origin for point in points_of(bench, task)]
    assert origins == [PointOrigin.ALGORITHM, PointOrigin.USER, PointOrigin.USER, PointOrigin.ALGORITHM]
    assert [event.actor for event in events_of(bench, task, "point.wished")] == ["operator", "operator"]
    made = events_of(bench, task, "point.suggested")[1]
    assert (made.point, made.details) == (1, {"informed_by": 1, "origin": "user", "wish": 1})


def test_a_wish_wakes_the_tasks_host(bench: Bench) -> None:
    """Nobody has to wait for it to look around."""
    task = bench.submit()
    bell: Any = bench.steering.bell
    bell.hosts.clear()

    bench.wish(task, at(2.0))
    bench.bring(task, at(3.0))

    assert bell.hosts == [task, task]


def test_a_host_that_dies_keeps_no_wish_to_itself(bench: Bench) -> None:
    """Wishes that were handed over but not made are made by the next host, each once."""
    task = bench.submit()
    bench.wish(task, *(at(float(number)) for number in range(4)))
    first = bench.lease(task)
    bench.new_host("h2")
    bench.clock.advance(11.0)

    rest = [bench.lease(task, f"w{number}") for number in range(4)]

    assert [lease.parameters["x"] for lease in [first, *rest[:3]]] == [0.0, 1.0, 2.0, 3.0]
    assert rest[3].parameters["x"] not in {0.0, 1.0, 2.0, 3.0}


def test_the_same_request_again_adds_nothing(bench: Bench) -> None:
    """Also when the service was restarted, and the point was made, in between."""
    task = bench.submit()
    points = AddPoints("r1", [OwnPoint(at(2.0))])
    results = ImportResults("r2", [KnownResult(at(3.0), {"loss": 1.0})])

    first = wishes.add(bench.steering, OPERATOR, task, points), imports.take(bench.steering, OPERATOR, task, results)
    bench.lease(task)
    bench.new_host("h2")
    bench.clock.advance(11.0)
    again = wishes.add(bench.steering, OPERATOR, task, points), imports.take(bench.steering, OPERATOR, task, results)

    exported = records.export(bench.steering, OPERATOR, task)
    assert first == again == (AddedPoints(1, 1), ImportedResults(1))
    assert (len(exported.wishes), len(exported.known)) == (1, 1)


def test_points_are_refused_with_every_flaw(bench: Bench) -> None:
    """All at once, each with its place; none is queued."""
    task = bench.submit(constraints=["width * layers <= 128"], initial_points=[at(5.0)])
    bench.wish(task, at(0.0))
    bench.lease(task)
    wanted = [at(0.5), at(2.0, width=600), at(2.0, layers=6), at(0.5), at(0.0), at(5.0), at(3.0, momentum=0.6)]

    with pytest.raises(Unusable) as wrong:
        bench.wish(task, *wanted)
    with pytest.raises(Unusable) as repeated:
        bench.wish(task, at(0.5), at(0.5), at(0.0), at(5))

    assert paths_and_words(wrong.value).splitlines() == [
        "points[1].parameters: width: 600 is not possible; give an int from 16 to 512",
        "points[2].parameters: breaks the constraint width * layers <= 128",
        'points[6].parameters: momentum: is not used in this point, for it needs kind to be "sgd"; leave it out',
    ]
    assert paths_and_words(repeated.value).splitlines() == [
        "points[1].parameters: is there already, as points[0] of this request; no point is tried twice",
        "points[2].parameters: is there already, as one that waits to be made; no point is tried twice",
        "points[3].parameters: is there already, as point 0; no point is tried twice",
    ]
    assert tasks.get(bench.steering, OPERATOR, task).wished == 1


def test_numbers_take_the_types_of_their_parameters(bench: Bench) -> None:
    """64.0 is a whole number, 2 is also a float, and neither makes a second point of the same."""
    task = bench.submit()

    bench.wish(task, at(2, width=64.0, batch=32.0))

    assert json.dumps(bench.lease(task).parameters) == json.dumps(at(2.0, width=64, batch=32))
    with pytest.raises(Unusable, match="cannot be used"):
        bench.wish(task, at(2.0, batch=32))


def test_a_budget_has_room_for_wishes_or_none(bench: Bench) -> None:
    """What waits takes its place in the budget; beyond it there is a cure."""
    task = bench.submit(points=3)
    bench.lease(task)
    bench.wish(task, at(2.0))

    with pytest.raises(Conflict) as refusal:
        bench.wish(task, at(3.0), at(4.0), at(5.0))
    change(bench, task, TaskAction.EXTEND, 2)
    bench.wish(task, at(3.0), at(4.0), at(5.0))
    made = [bench.lease(task, f"w{number}").parameters["x"] for number in range(4)]

    assert str(refusal.value) == (
        f"the task's budget of 3 points has room for 1 more, not for 3; extend the task first: gridtune extend {task} 2"
    )
    assert made == [2.0, 3.0, 4.0, 5.0]
    assert bench.ask(task, "late") is None


def test_ended_tasks_take_nothing(bench: Bench) -> None:
    """Whoever wants more extends it first."""
    task = bench.submit(points=1)
    bench.tell(bench.lease(task))
    bench.work()

    with pytest.raises(Conflict, match=r"has ended \(all 1 points have ended\); extend it, or submit it again"):
        bench.wish(task, at(2.0))
    with pytest.raises(Conflict, match="has ended"):
        bench.bring(task, at(2.0))


def test_a_paused_task_takes_points_for_later(bench: Bench) -> None:
    """They are made when it goes on."""
    task = bench.submit()
    change(bench, task, TaskAction.PAUSE)

    bench.wish(task, at(2.0))
    bench.bring(task, at(3.0))
    change(bench, task, TaskAction.RESUME)

    assert bench.lease(task).parameters == at(2.0)
    assert points_of(bench, task)[0].informed_by == 1


def test_others_tasks_are_not_there(bench: Bench) -> None:
    """Owners and operators alone."""
    task = bench.submit()

    with pytest.raises(NotFound):
        wishes.add(bench.steering, ANN, task, AddPoints("r", [OwnPoint(at(2.0))]))
    with pytest.raises(NotFound):
        imports.take(bench.steering, ANN, task, ImportResults("r", [KnownResult(at(2.0), {"loss": 1.0})]))


# --- results from elsewhere -----------------------------------------------------------------------------------------


def test_imported_results_are_learnt_before_anything_else(bench: Bench) -> None:
    """They inform the next point, and are neither points nor the best, and end nothing."""
    task = bench.submit(points=2, algorithm="hyperopt/tpe", stop={"points": 2, "target": 0.2, "patience": 1})

    imported = bench.bring(task, at(1.0), at(2.0), source="notebook")
    lease = bench.lease(task)
    bench.tell(lease, 5.0)
    bench.work()

    found = tasks.get(bench.steering, OPERATOR, task)
    exported = records.export(bench.steering, OPERATOR, task)
    assert imported == ImportedResults(2)
    assert (found.known, found.summary.best, found.summary.counts.done) == (2, 5.0, 1)
    assert found.summary.state is TaskState.RUNNING
    assert exported.points[0].informed_by == 2
    assert [(known.number, known.observed, known.source) for known in exported.known] == [
        (1, 0, "notebook"),
        (2, 1, "notebook"),
    ]
    assert exported.points[0].observed == 2
    [event] = events_of(bench, task, "results.imported")
    assert (event.actor, event.details) == ("operator", {"source": "notebook", "taken": 2, "skipped": 0})


def test_what_is_known_already_is_skipped_and_counted(bench: Bench) -> None:
    """Points of the task, wishes, earlier imports and repetitions within one."""
    task = bench.submit()
    point = bench.lease(task).parameters
    bench.wish(task, at(2.0))
    bench.bring(task, at(3.0))

    assert bench.bring(task, point, at(2.0), at(3.0), at(4.0), at(4)) == ImportedResults(1, {"known already": 4})
    why = events_of(bench, task, "results.imported")[1].details["why"]
    assert why == "4 known already"


def test_results_are_refused_with_every_flaw(bench: Bench) -> None:
    """A result without a finite objective is none."""
    task = bench.submit(constraints=["width * layers <= 128"])
    results = [
        KnownResult(at(1.0), {"loss": 1.0, "accuracy": None}),
        KnownResult(at(2.0), {"accuracy": 0.9}),
        KnownResult(at(3.0), {"loss": None}),
        KnownResult(at(4.0), {"loss": float("nan")}),
        KnownResult(at(9.0), {"loss": 1.0}),
        KnownResult(at(1.0, layers=6), {"loss": 1.0}),
    ]

    with pytest.raises(Unusable) as refusal:
        imports.take(bench.steering, OPERATOR, task, ImportResults("r", results))

    assert [flaw.path for flaw in refusal.value.flaws] == [
        "results[1].metrics.loss",
        "results[2].metrics.loss",
        "results[3].metrics.loss",
        "results[4].parameters",
        "results[5].parameters",
    ]
    assert tasks.get(bench.steering, OPERATOR, task).known == 0


@pytest.mark.parametrize("n", [0, 10_001])
@on_sqlite
def test_a_message_holds_a_bounded_number(bench: Bench, n: int) -> None:
    """Nothing, or too much, is refused before it is looked at."""
    task = bench.submit()

    with pytest.raises(Unusable) as results:
        bench.bring(task, *[at(1.0)] * n)
    with pytest.raises(Unusable) as points:
        bench.wish(task, *[at(1.0)] * n)

    assert paths_and_words(results.value) == f"results: there are {n}; send 1 to 10000 at a time"
    assert paths_and_words(points.value) == f"points: there are {n}; send 1 to 1000 at a time"


@pytest.mark.parametrize("name", ["optuna/tpe", "hyperopt/tpe"])
@on_sqlite
def test_known_results_spare_the_optimizer_its_first_steps(bench: Bench, name: str) -> None:
    """With 40 results from elsewhere the first ten points are far better than without."""

    def first_ten(*known: Parameters) -> float:
        task = bench.submit(points=10, algorithm=name)
        if known:
            bench.bring(task, *known)
        losses = []
        for _ in range(10):
            lease = bench.lease(task)
            losses.append(loss_of(lease.parameters))
            bench.tell(lease)
        assert not any(point.parameters in known for point in points_of(bench, task))
        return statistics.median(losses)

    assert first_ten(*some_points(40)) < first_ten() / 3


@pytest.mark.parametrize("name", ["hyperopt/tpe", "nevergrad/OnePlusOne", "optuna/cmaes", "sobol"])
@on_sqlite
def test_a_host_rebuilt_among_wishes_and_imports_changes_nothing(bench: Bench, name: str) -> None:
    """The same calls by the user give the same points, however often the host dies."""

    def search(rebuild_every: int) -> list[Parameters]:
        task = bench.submit(points=30, algorithm=name)
        for step in range(24):
            if step % rebuild_every == rebuild_every - 1:
                bench.new_host(f"h{bench.clock.now}")
                bench.clock.advance(11.0)  # the predecessor's lease on the task has to run out
            if step % 5 == 2:
                bench.wish(task, *some_points(2, seed=step))
            if step % 6 == 3:
                bench.bring(task, *some_points(3, seed=100 + step))
            bench.tell(bench.lease(task))
        return [point.parameters for point in points_of(bench, task)]

    assert search(rebuild_every=3) == search(rebuild_every=100)


# --- warm start -----------------------------------------------------------------------------------------------------


def finished(bench: Bench, n: int = 4, **more: Any) -> str:
    """A task that has made *n* points; returns its id."""
    task = bench.submit(points=n, **more)
    for _ in range(n):
        bench.tell(bench.lease(task))
    bench.work()
    return task


def test_a_warm_start_brings_what_another_task_found(bench: Bench) -> None:
    """The results are known before the first point is made, and their origin is in the log."""
    source = finished(bench)

    task = bench.submit(warm_start=source)
    bench.lease(task)

    exported = records.export(bench.steering, OPERATOR, task)
    found = points_of(bench, source)
    assert exported.task.document["warm_start"] == [source]
    assert exported.task.known == 4
    assert [(known.parameters, known.metrics) for known in exported.known] == [
        (point.parameters, point.metrics) for point in found
    ]
    assert exported.points[0].informed_by == 4
    [event] = events_of(bench, task, "results.imported")
    assert event.details == {"source": f"task {source}", "taken": 4, "skipped": 0}


def test_a_warm_start_takes_what_fits(bench: Bench) -> None:
    """A constant there can be a parameter here and the reverse; what cannot be had is skipped, and counted."""
    source = bench.submit(constants={"seed": 3})
    bench.wish(source, at(1.0), at(2.0), at(3.0, width=128), at(4.5), at(4.0, layers=3), at(1.0, batch=32))
    for _ in range(6):
        bench.tell(bench.lease(source))
    bench.work()
    space = document()["space"]
    space["seed"] = {"type": "int", "low": 1, "high": 5}
    space["x"]["high"] = 4.0
    del space["width"], space["batch"]

    task = bench.submit(
        space=space, constants={"width": 64}, constraints=["layers + seed <= 5"], warm_start=[source], points=5
    )

    known = records.export(bench.steering, OPERATOR, task).known
    assert [(result.parameters["x"], result.parameters["seed"]) for result in known] == [(1.0, 3), (2.0, 3)]
    assert "width" not in known[0].parameters
    [event] = events_of(bench, task, "results.imported")
    assert event.details == {
        "source": f"task {source}",
        "taken": 2,
        "skipped": 4,
        "why": "1 another width than the constant here, 1 outside of the space, 1 breaks a constraint, 1 known already",
    }


def test_of_several_sources_the_first_wins(bench: Bench) -> None:
    """The same point counts once; each source has its line."""
    first, second = (bench.submit() for _ in range(2))
    for task, loss in ((first, 1.0), (second, 2.0)):
        bench.wish(task, at(1.0))
        bench.tell(bench.lease(task), loss)
        bench.work()

    task = bench.submit(warm_start=[first, second])

    [known] = records.export(bench.steering, OPERATOR, task).known
    assert known.metrics == {"loss": 1.0}
    assert [event.details["taken"] for event in events_of(bench, task, "results.imported")] == [1, 0]


def test_results_without_the_objective_are_skipped(bench: Bench) -> None:
    """Another metric cannot stand for it."""
    source = finished(bench, n=2)

    task = bench.submit(warm_start=source, objective={"metric": "accuracy", "goal": "maximize"})

    [event] = events_of(bench, task, "results.imported")
    assert (event.details["taken"], event.details["why"]) == (0, "2 without an objective's metric")


def test_a_warm_start_needs_a_task_that_the_caller_may_read(bench: Bench) -> None:
    """Otherwise nothing is submitted, and the problem names the entry."""
    from gridtune_common.protocol import SubmitTask
    from gridtune_steering.services import submission

    source = finished(bench, n=1)

    with pytest.raises(Unusable) as refusal:
        submission.submit(bench.steering, ANN, SubmitTask("r", document(warm_start=[source])))

    assert paths_and_words(refusal.value) == (
        f"warm_start[0]: there is no task {source!r} that you may read; write the id of one"
    )
    assert tasks.listing(bench.steering, ANN, state=None, name=None, owner=None, after=None, limit=9).items == []
