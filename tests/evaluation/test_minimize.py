"""`gridtune.minimize`: a function of this process, on the engine of the service."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import gridtune
from fake_tasks import FakeTasks
from gridtune_common.errors import GridtuneError, MissingExtra
from gridtune_common.protocol import Advice, Fail, FailureCause, Release, ReleaseCause, TaskAction, Tell
from gridtune_common.settings import Connection
from gridtune_evaluation.testing import make_lease

SPACE = {"x": {"type": "float", "low": -1, "high": 1}, "kind": ["a", "b"]}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeTasks:
    """The service that minimize reaches; it has three points."""
    fake = FakeTasks([make_lease(number, x=float(number), heartbeat_seconds=0.1) for number in range(3)])

    @contextmanager
    def connected(connection: Connection, *, retry_for: float) -> Iterator[FakeTasks]:
        assert (connection.server, connection.token.reveal()) == ("http://tune.example.org", "t0ken")
        yield fake

    monkeypatch.setattr("gridtune.minimizing.connected", connected)
    return fake


def minimize(function: Any, **changes: Any) -> gridtune.Result:
    """Minimize on the fake service."""
    given = {"points": 3, "server": "http://tune.example.org/", "token": "t0ken", "progress": False}
    return gridtune.minimize(function, SPACE, **{**given, **changes})


def test_best_point_is_found(service: FakeTasks) -> None:
    """The function is called with every point, and the best one is the result."""
    result = minimize(lambda point: (point["x"] - 1) ** 2)

    assert (result.best_params, result.best_value) == ({"x": 1.0}, 0.0)
    assert [point.value for point in result.points] == [1.0, 0.0, 1.0]


def test_document_is_a_task_without_payload(service: FakeTasks) -> None:
    """What is submitted is a task file in which nothing says how to evaluate a point."""
    minimize(lambda point: 1.0, seed=7, stop={"target": 0.1}, name="mine")

    assert service.documents == [
        {
            "name": "mine",
            "space": SPACE,
            "objective": {"metric": "loss", "goal": "minimize"},
            "algorithm": {"name": "auto", "seed": 7},
            "stop": {"points": 3, "target": 0.1},
            "retry": {"same_failure": 0},
        }
    ]


def test_maximize_differs_in_its_goal(service: FakeTasks) -> None:
    """To maximise is the same but for one word; the task is called like the function."""

    def score(point: dict[str, Any]) -> dict[str, float]:
        return {"auc": point["x"], "loss": 0}

    gridtune.maximize(
        score, SPACE, points=3, metric="auc", server="http://tune.example.org", token="t0ken", progress=False
    )

    [document] = service.documents
    assert document["objective"] == {"metric": "auc", "goal": "maximize"}
    assert document["name"] == "score"


def test_function_may_return_all_metrics(service: FakeTasks) -> None:
    """A dict of metrics is told as it is; what is not finite beside the objective is null."""
    minimize(lambda point: {"loss": point["x"], "auc": math.nan})

    assert [getattr(word, "metrics", None) for _, word in service.ends][1] == {"loss": 1.0, "auc": None}


def test_last_report_is_the_result_of_a_function_without_one(service: FakeTasks) -> None:
    """A function that only reports has a result, as a script has."""

    def function(point: dict[str, Any]) -> None:
        for step in (1, 2):
            gridtune.report(step, loss=point["x"] + step)

    result = minimize(function)

    assert result.best_value == 2.0
    assert [report.step for report in service.reported] == [1, 2] * 3


def test_session_is_the_functions_own(service: FakeTasks) -> None:
    """Inside the function the payload's calls mean its point; outside they mean nothing."""
    seen: list[Any] = []

    def function(point: dict[str, Any]) -> float:
        seen.append((gridtune.params() == point, gridtune.attempt(), gridtune.should_stop()))
        (gridtune.checkpoint_dir() / "model").touch()
        gridtune.result(loss=3)
        return float(point["x"])

    minimize(function)

    assert seen == [(True, 1, False)] * 3
    assert gridtune.params(default={"x": 0}) == {"x": 0}


@pytest.mark.parametrize(
    ("value", "cause"),
    [(math.nan, "invalid_result"), ("text", "invalid_result"), (None, "no_result"), ({"auc": 1}, "invalid_result")],
)
def test_values_that_are_no_result_fail_the_point(service: FakeTasks, value: Any, cause: str) -> None:
    """What cannot be told is a failure for good, never a made-up loss."""
    minimize(lambda point: value if point["x"] else 1.0)

    failures = [word for _, word in service.ends if isinstance(word, Fail)]
    assert [(word.cause.value, word.permanent) for word in failures] == [(cause, True)] * 2


def test_error_fails_the_point_alone(service: FakeTasks) -> None:
    """A function that raises has failed at that point, with its traceback; the search goes on."""
    result = minimize(lambda point: 1 / point["x"])

    [(_, word), *others] = service.ends
    assert isinstance(word, Fail)
    assert (word.cause, word.message) == (FailureCause.EXIT_CODE, "ZeroDivisionError: float division by zero")
    assert "1 / point" in word.output_tail
    assert len(others) == 2
    assert result.best_value == 0.5


def test_failure_of_all_points_is_an_error(service: FakeTasks) -> None:
    """When no point has a result, the error says what the last one died of."""

    def function(point: dict[str, Any]) -> float:
        raise ValueError(f"no data for {point['x']}")

    with pytest.raises(GridtuneError, match=r"all 3 points failed; point \d: ValueError: no data for"):
        minimize(function)


def test_workers_run_side_by_side(service: FakeTasks) -> None:
    """With three workers three functions meet."""
    barrier = threading.Barrier(3, timeout=5)

    def function(point: dict[str, Any]) -> float:
        barrier.wait()
        return float(point["x"])

    result = minimize(function, workers=3)

    assert len(result.points) == 3
    assert len({ask.worker for ask in service.asks}) == 3


def test_heartbeats_keep_the_lease(service: FakeTasks) -> None:
    """A function that says nothing still keeps its lease."""

    def function(point: dict[str, Any]) -> float:
        time.sleep(0.4)
        return float(point["x"])

    minimize(function)

    assert len(service.heartbeats) >= 3


@pytest.mark.parametrize("advice", [Advice.STOP, Advice.LOST])
def test_function_that_heeds_a_stop_is_released(service: FakeTasks, advice: Advice) -> None:
    """A function that ends because it was told to has no result."""

    def function(point: dict[str, Any]) -> float:
        service.advise(advice)
        while not gridtune.should_stop():
            time.sleep(0.01)
        service.advise(Advice.CONTINUE)
        return 1.0

    minimize(function)

    assert {type(word) for _, word in service.ends} == {Release}


def test_function_that_knows_of_no_stop_has_its_result(service: FakeTasks) -> None:
    """A function that does not ask whether to stop has trained to the end."""

    def function(point: dict[str, Any]) -> float:
        service.advise(Advice.LOST)
        time.sleep(0.3)
        return 1.0

    minimize(function)

    assert {type(word) for _, word in service.ends} == {Tell}


def test_interruption_cancels_the_task(service: FakeTasks) -> None:
    """Ctrl-C gives the point back, asks the other workers to stop, cancels the task, and goes on its way."""
    barrier = threading.Barrier(2, timeout=5)

    def function(point: dict[str, Any]) -> float:
        barrier.wait()
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        while not gridtune.should_stop():
            time.sleep(0.01)
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        minimize(function, workers=2)

    assert [getattr(word, "cause", None) for _, word in service.ends] == [ReleaseCause.SHUTDOWN] * 2
    assert service.changes == [TaskAction.CANCEL]


def test_refused_metrics_fail_the_point(service: FakeTasks) -> None:
    """Metrics that the service cannot use are a failure with its words."""
    service.refuse("tell", 422, "metrics.loss: too large")

    minimize(lambda point: point["x"])

    [first, *_] = [word for _, word in service.ends]
    assert isinstance(first, Fail)
    assert first.message == "metrics.loss: too large"


def test_result_shows_itself(service: FakeTasks) -> None:
    """In a notebook a result is one readable line."""
    result = minimize(lambda point: point["x"] + 0.5)

    assert repr(result) == "Result of task t1: 3 of 3 points done, best loss 0.5 at point 0: x=0"


def test_result_is_a_table(service: FakeTasks) -> None:
    """With pandas the points are a data frame."""
    pytest.importorskip("pandas")
    result = minimize(lambda point: {"loss": 1.0, "x": 2.0})

    frame = result.dataframe()

    assert list(frame["x"]) == [0.0, 1.0, 2.0]
    assert list(frame["metric_x"]) == [2.0] * 3
    assert list(frame["state"]) == ["done"] * 3


def test_table_without_pandas_names_the_cure(service: FakeTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas the error says what to install."""
    result = minimize(lambda point: 1.0)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)

    with pytest.raises(MissingExtra, match=r"gridtune\[notebook\]"):
        result.dataframe()


def test_result_does_not_change(service: FakeTasks) -> None:
    """A result is a value."""
    result = minimize(lambda point: 1.0)

    with pytest.raises(dataclasses.FrozenInstanceError):
        result.task = "t2"  # type: ignore[misc]
