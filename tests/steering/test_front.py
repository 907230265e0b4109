"""The Pareto front: what it is, that it is found, and what the service says of it."""

from __future__ import annotations

import csv
import io
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_common.client import new_request_id
from gridtune_common.protocol import Best, Metrics, Objective, PointState, Tell
from gridtune_steering.bookkeeping import points
from gridtune_steering.campaign.front import Front, front
from gridtune_steering.services import records, results, tasks
from service_bench import OPERATOR, Bench

GOALS = st.lists(st.sampled_from(["minimize", "maximize"]), min_size=1, max_size=4)
#: Few values, so that points often are equal or share a value; some are missing.
VALUES = st.one_of(st.integers(0, 4).map(float), st.none())
TWO = [{"metric": "loss", "goal": "minimize"}, {"metric": "score", "goal": "maximize"}]


def objectives_of(goals: list[str]) -> list[Objective]:
    """Objectives called a, b, c ..."""
    return [Objective(name, goal) for name, goal in zip("abcd", goals, strict=False)]


def losses(metrics: Metrics, objectives: list[Objective]) -> list[float] | None:
    """A point's values, smaller the better; None if one is missing."""
    found = []
    for objective in objectives:
        value = metrics.get(objective.metric)
        if value is None:
            return None
        found.append(value if objective.goal == "minimize" else -value)
    return found


def dominates(one: list[float], other: list[float]) -> bool:
    """Whether *one* is at least as good in everything, and better in something."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


@given(
    goals=GOALS,
    table=st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys("abcd", VALUES)), max_size=40),
)
def test_the_front_is_what_nothing_dominates(goals: list[str], table: list[Metrics]) -> None:
    """No point on the front is dominated, and each other point is dominated by one on it, or incomplete."""
    objectives = objectives_of(goals)
    known = {number: losses(metrics, objectives) for number, metrics in enumerate(table)}
    complete = {number: values for number, values in known.items() if values is not None}

    found = front(objectives, dict(enumerate(table)))

    assert set(found) <= set(complete)
    for number, values in complete.items():
        assert any(dominates(complete[member], values) for member in found) == (number not in found)


@given(
    goals=GOALS,
    table=st.lists(st.fixed_dictionaries(dict.fromkeys("abcd", VALUES)), max_size=40),
)
def test_the_best_in_the_first_objective_comes_first(goals: list[str], table: list[Metrics]) -> None:
    """The front goes from the best to the worst in the first objective, equal points by number."""
    objectives = objectives_of(goals)

    found = front(objectives, dict(enumerate(table)))

    order = [(losses(table[number], objectives), number) for number in found]
    assert order == sorted(order, key=lambda entry: (entry[0] or [], entry[1]))


@given(
    n_objectives=st.integers(1, 4),
    table=st.lists(st.lists(st.integers(0, 4).map(float), min_size=4, max_size=4), max_size=40),
)
def test_a_point_is_new_on_the_front_unless_one_before_is_as_good(n_objectives: int, table: list[list[float]]) -> None:
    """Grown point by point, the front says of each whether it brings anything new."""
    rows = [tuple(row[:n_objectives]) for row in table]
    grown = Front()

    said = [grown.add(row) for row in rows]

    for at, row in enumerate(rows):
        as_good = any(all(a <= b for a, b in zip(before, row, strict=True)) for before in rows[:at])
        assert said[at] == (not as_good)


def test_equal_points_are_all_on_the_front() -> None:
    """Two trainings with the same result are two answers; a number that is not finite is none."""
    objectives = [Objective("a", "minimize"), Objective("b", "maximize")]
    table: dict[int, Metrics] = {
        4: {"a": 1.0, "b": 2.0},
        2: {"a": 1.0, "b": 2.0},
        1: {"a": 1.0, "b": 1.0},
        0: {"a": float("nan"), "b": 9.0},
        3: {"a": 0.0},
    }

    assert front(objectives, table) == [2, 4]


@pytest.mark.parametrize("shape", ["scattered", "all on the front"])
def test_the_front_of_ten_thousand_points_is_found_soon(shape: str) -> None:
    """Three objectives, with few points on the front and with all of them."""
    rng = random.Random(1)
    table: dict[int, Metrics] = {}
    for number in range(10_000):
        a, b = rng.random(), rng.random()
        table[number] = {"a": a, "b": b, "c": rng.random() if shape == "scattered" else -a - b}
    began = time.perf_counter()

    found = front(objectives_of(["minimize"] * 3), table)

    assert time.perf_counter() - began < 5  # 0.1 s on an idle core
    assert (len(found) == 10_000) == (shape == "all on the front")


# --- what the service says --------------------------------------------------------------------------------------------


def told(bench: Bench, rows: list[tuple[float, float]], **more: Any) -> str:
    """Submit a task with two objectives and tell these results; returns its id."""
    task = bench.submit(objective=TWO, **more)
    for loss, score in rows:
        lease = bench.lease(task)
        metrics: Metrics = {"loss": loss, "score": score, "epochs": 3.0}
        results.tell(bench.steering, OPERATOR, lease.evaluation, Tell(new_request_id(), lease.epoch, metrics))
        bench.work()
    return task


def best(bench: Bench, task: str) -> Best:
    """What a user gets for best."""
    return records.best(bench.steering, OPERATOR, task)


ROWS = [(3.0, 9.0), (1.0, 2.0), (2.0, 2.0), (1.0, 5.0), (4.0, 9.0)]


def test_best_of_several_objectives_is_the_front(bench: Bench) -> None:
    """Whole points, the best in the first objective first; a point that merely ties in it is left out."""
    task = told(bench, ROWS)

    found = best(bench, task)

    assert found.front is not None
    assert [(point.number, point.metrics["score"], point.worker) for point in found.front] == [
        (3, 5.0, "w"),
        (0, 9.0, "w"),
    ]
    assert found.point == found.front[0]
    assert (found.objective, found.goal, found.median, found.n_done) == ("loss", "minimize", 2.0, 5)
    assert found.objectives == [Objective("loss", "minimize"), Objective("score", "maximize")]


def test_best_of_one_objective_is_a_point(bench: Bench) -> None:
    """There is no front to speak of."""
    task = bench.submit()
    bench.tell(bench.lease(task), 1.5)

    found = best(bench, task)

    assert found.point is not None
    assert (found.point.number, found.front, found.objectives) == (0, None, [Objective("loss", "minimize")])


def test_a_front_without_points_is_empty(bench: Bench) -> None:
    """It is a front all the same."""
    found = best(bench, bench.submit(objective=TWO))

    assert (found.point, found.front, found.median) == (None, [], None)


def test_a_summary_tells_the_size_of_the_front(bench: Bench) -> None:
    """Beside the best of the first objective, which is a point of the front; with one objective there is none."""
    several = tasks.get(bench.steering, OPERATOR, told(bench, ROWS)).summary
    one = tasks.get(bench.steering, OPERATOR, bench.submit()).summary

    assert (several.n_front, several.best, several.best_point) == (2, 1.0, 3)
    assert one.n_front is None


def test_a_front_of_very_many_points_is_answered_whole(bench: Bench) -> None:
    """More points than one query can name come in order all the same."""
    n = 1100
    task = bench.submit(objective=TWO, points=n)
    with bench.steering.database.write() as connection:
        rows = [
            {
                "task_id": task,
                "number": number,
                "state": PointState.DONE.value,
                "parameters": {},
                "metrics": {"loss": -number, "score": -number},
                "value": -number,
                "informed_by": 0,
                "created_at": bench.clock(),
            }
            for number in range(n)
        ]
        points.insert(connection, rows)

    found = best(bench, task)

    assert [point.number for point in found.front or []] == list(reversed(range(n)))


def test_a_csv_says_who_is_on_the_front(bench: Bench) -> None:
    """Only where there is one; other metrics have their columns too."""
    several = records.as_csv(records.export(bench.steering, OPERATOR, told(bench, ROWS)))
    one = records.as_csv(records.export(bench.steering, OPERATOR, bench.submit()))

    rows = list(csv.DictReader(io.StringIO(several)))
    assert [row["on_front"] for row in rows if row["state"] == "done"] == ["True", "False", "False", "True", "False"]
    assert rows[0]["metric.epochs"] == "3.0"
    assert "on_front" not in one


def test_a_rebuilt_campaign_keeps_its_patience(bench: Bench) -> None:
    """The front is part of what a host learns again after a crash."""
    task = told(bench, ROWS[:1], stop={"points": 20, "patience": 2})

    bench.new_host("h2")
    bench.clock.advance(30.0)
    for loss, score in [(4.0, 9.0), (5.0, 5.0)]:
        lease = bench.lease(task)
        message = Tell(new_request_id(), lease.epoch, {"loss": loss, "score": score})
        results.tell(bench.steering, OPERATOR, lease.evaluation, message)
        bench.work()

    assert tasks.get(bench.steering, OPERATOR, task).summary.reason == "patience: no new point on the front in 2 points"
