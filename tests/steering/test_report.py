"""The HTML report of a task."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from gridtune_common.protocol import (
    Evaluation,
    EvaluationState,
    Export,
    Objective,
    Point,
    PointCounts,
    PointState,
    StoredReport,
    Task,
    TaskState,
    TaskSummary,
    Usage,
    Value,
)
from gridtune_steering.report import importance, render
from gridtune_steering.report.axes import Axis, axes
from gridtune_steering.report.findings import chosen, findings

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DIGITS: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 0.1, "scale": "log"},
    "alpha": {"type": "float", "low": 1e-6, "high": 0.1, "scale": "log"},
    "layers": {"type": "int", "low": 1, "high": 4},
    "width": {"type": "int", "low": 16, "high": 512, "scale": "log"},
    "noise": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.05},
    "activation": {"type": "categorical", "choices": ["relu", "tanh", "logistic"]},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": "sgd"}},
    "batch_size": {"type": "ordinal", "choices": [16, 32, 64, 128]},
}


def flat_space(n: int) -> dict[str, Any]:
    """Return a space of *n* real parameters."""
    return {f"parameter_{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(n)}


def sample(space: dict[str, Any], rng: random.Random) -> dict[str, Value]:
    """Return a random point of *space*."""
    values: dict[str, Value] = {}
    for name, spec in space.items():
        if any(values.get(other) != choice for other, choice in spec.get("when", {}).items()):
            continue
        if "choices" in spec:
            values[name] = rng.choice(spec["choices"])
        elif "mean" in spec:
            drawn = rng.gauss(spec["mean"], spec["std"])
            values[name] = math.exp(drawn) if spec["type"] == "lognormal" else drawn
        elif spec.get("scale") == "log":
            drawn = math.exp(rng.uniform(math.log(spec["low"]), math.log(spec["high"])))
            values[name] = round(drawn) if spec["type"] == "int" else drawn
        else:
            drawn = rng.uniform(spec["low"], spec["high"])
            values[name] = round(drawn) if spec["type"] == "int" else drawn
    return values


def error_of(parameters: dict[str, Value], rng: random.Random) -> float:
    """Return an error that depends on the first parameter most, and on none but the first three."""
    weights = (2.0, 0.6, 0.2)
    first = [value for value in parameters.values() if isinstance(value, (int, float))][:3]
    at = [math.log10(value) + 2.2 if 0 < value < 0.2 else float(value) - 0.3 for value in first]
    return 0.03 * math.exp(sum(w * x * x for w, x in zip(weights, at, strict=False)) / 2 + 0.1 * rng.random())


def export(
    n: int = 30,
    *,
    space: dict[str, Any] | None = None,
    goal: str = "minimize",
    failing: float = 0.07,
    name: str = "digits-mlp",
    message: str = "exit code 1: ValueError: Solver produced non-finite parameter weights",
    epochs: int = 12,
) -> Export:
    """Return a finished task with *n* points, a share of which failed."""
    rng = random.Random(3)
    space = DIGITS if space is None else space
    points, evaluations, reports = [], [], []
    for number in range(n):
        parameters = sample(space, rng)
        failed = (number * failing) % 1.0 + failing >= 1.0 - 1e-9
        error = error_of(parameters, rng)
        value = error if goal == "minimize" else 1.0 - error
        worker, site = f"node{number % 4:02}-{number % 2}", ("tier2", "cloud")[number % 2]
        began = (START + timedelta(seconds=7 * number)).isoformat()
        ended = (START + timedelta(seconds=7 * number + 6 + rng.random())).isoformat()
        evaluation = f"e{number}"
        state = EvaluationState.FAILED if failed else EvaluationState.DONE
        evaluations.append(
            Evaluation(evaluation, number, 1, 1, state, worker, site, worker[:6], "0.1.0", began, ended, ended)
        )
        points.append(
            Point(
                number,
                PointState.FAILED if failed else PointState.DONE,
                parameters,
                {} if failed else {"val_error": value, "train_loss": value / 3},
                1,
                began,
                value=None if failed else value,
                started_at=began,
                ended_at=ended,
                message=message if failed else "",
                worker=worker,
                site=site,
            )
        )
        for step in range(1, 5 if failed else epochs + 1):
            curve = value + (0.6 if goal == "minimize" else -0.6) * math.exp(-step / 3)
            reports.append(StoredReport(evaluation, step, {"val_error": None if failed else curve}, ended))
    document = {"name": name, "space": space, "constants": {"epochs": epochs}}
    summary = TaskSummary(
        "t-8f3kq2",
        name,
        "ada",
        TaskState.FINISHED,
        "hyperopt/tpe",
        START.isoformat(),
        PointCounts(done=n),
        "val_error",
        goal,
        reason=f"stop.points: {n} points ended",
        points=n,
        ended_at=(START + timedelta(seconds=7 * n + 9)).isoformat(),
    )
    task = Task(summary, document, f"name: {name}\n# as written\n", 7, {"gridtune": "0.1.0", "hyperopt": "0.3.0"})
    return Export(1, (START + timedelta(hours=1)).isoformat(), task, points, evaluations, reports, [])


def several(it: Export, *more: Objective) -> Export:
    """Return the task with a small training loss, and *more*, as further objectives; it falls as the error grows."""
    for point in it.points:
        if point.value is not None:
            point.metrics["train_loss"] = 0.01 / point.value
    objectives = [Objective("val_error", "minimize"), Objective("train_loss", "minimize"), *more]
    return replace(it, task=replace(it.task, summary=replace(it.task.summary, objectives=objectives)))


def figures(html: str) -> dict[str, Any]:
    """Return the figures in a report; fails on what is no strict JSON."""
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.DOTALL)
    assert found

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    parsed: dict[str, Any] = json.loads(found[1], parse_constant=refuse)
    return parsed


def text_of(html: str) -> str:
    """Return the words of a report without scripts, styles and tags."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def outside(url: str) -> list[str]:
    """Return the address in a list, unless it lies within the file itself."""
    return [] if url.startswith(("file:", "data:", "blob:")) else [url]


@contextmanager
def opened(path: Path, html: str, **looks: Any) -> Iterator[tuple[Page, list[str]]]:
    """Open a report in Chromium, off line; yields the page and everything it did that it should not."""
    path.write_text(html, encoding="utf-8")
    wrong: list[str] = []
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        context = browser.new_context(offline=True, **looks)
        page = context.new_page()
        page.on("request", lambda it: wrong.extend(outside(it.url)))
        page.on("console", lambda it: wrong.extend([it.text] * (it.type in ("error", "warning"))))
        page.on("pageerror", lambda it: wrong.append(str(it)))
        page.goto(path.as_uri())
        yield page, wrong
        browser.close()


# --- the page ---------------------------------------------------------------------------------------------------------


def test_report_names_the_task_and_its_best_point() -> None:
    """Name, algorithm, seed, versions, best value and task file are all there."""
    html = render(export())

    text = text_of(html)
    best = findings(export()).best
    assert best is not None
    for words in (
        "digits-mlp",
        "t-8f3kq2",
        "hyperopt/tpe",
        "0.3.0",
        "ada",
        "# as written",
        "stop.points: 30 points",
    ):
        assert words in text
    assert f"Best point number {best.number}" in text


@pytest.mark.parametrize(
    "it",
    [
        pytest.param(export(0), id="no point"),
        pytest.param(export(1), id="one point"),
        pytest.param(export(12, failing=1.0), id="all failed"),
        pytest.param(export(40, goal="maximize"), id="maximise"),
        pytest.param(export(40, space=flat_space(1)), id="one parameter"),
        pytest.param(export(40, space=flat_space(20)), id="twenty parameters"),
        pytest.param(export(12, epochs=0), id="no reports"),
        pytest.param(export(12, space={}), id="no parameter"),
        pytest.param(several(export(0)), id="several objectives, no point"),
        pytest.param(several(export(12, failing=1.0)), id="several objectives, all failed"),
        pytest.param(several(export(1, failing=0)), id="several objectives, one point"),
        pytest.param(several(export(12, space={})), id="several objectives, no parameter"),
    ],
)
def test_report_can_be_made_of_any_task(it: Export) -> None:
    """Whatever has happened so far, there is a report, and its charts are strict JSON."""
    html = render(it)

    assert html.startswith("<!DOCTYPE html>")
    if any(point.state in (PointState.DONE, PointState.FAILED) for point in it.points):
        assert "progress" in figures(html)


def test_report_shows_unbounded_distributions() -> None:
    """Normal and lognormal parameters without bounds are on the charts with their values, the latter by logarithm."""
    space = {
        "shift": {"type": "normal", "mean": 3.0, "std": 2.0},
        "rate": {"type": "lognormal", "mean": -3.0, "std": 1.0},
    }
    it = export(40, space=space)

    drawn = figures(render(it))

    shift, rate = (drawn[f"slice-{number}"] for number in range(2))
    assert [chart["layout"]["xaxis"]["type"] for chart in (shift, rate)] == ["linear", "log"]
    for chart, name in ((shift, "shift"), (rate, "rate")):
        done = [float(p.parameters[name] or 0) for p in it.points if p.state is PointState.DONE]
        assert sorted(x for trace in chart["data"] for x in trace["x"]) == pytest.approx(sorted(done), rel=1e-3)
    low, high = shift["layout"]["xaxis"]["range"]
    assert low < 3 - 3 * 2
    assert high > 3 + 3 * 2
    headers = [note["hovertext"] for note in drawn["parallel"]["layout"]["annotations"] if "hovertext" in note]
    assert headers[:2] == ["shift", "rate"]
    assert dict(importance(it.task.document, it.points)).keys() == space.keys()


def test_report_of_several_objectives_shows_the_front() -> None:
    """The front is drawn as steps, listed and marked, and nothing is called the best point of all."""
    it = several(export())
    it.points[0].metrics["train_loss"] = 99.0

    html = render(it)

    front = findings(it).front
    drawn = figures(html)["front-0"]["data"]
    assert [len(trace["x"]) for trace in drawn] == [len(findings(it).done) - len(front), len(front)]
    assert drawn[1]["line"]["shape"] == "hv"
    assert f"point {front[0].number}</b>" in drawn[1]["text"][0]
    assert "learning_rate" in drawn[1]["text"][0]
    text = text_of(html)
    assert f"Pareto front {len(front)} of {len(findings(it).done)} points" in text
    assert "minimize val_error , minimize train_loss" in text
    assert "Best point" not in text
    assert html.count("<td>yes</td>") == len(front)


def test_three_objectives_are_drawn_in_pairs() -> None:
    """A shadow of the front has no steps; with four objectives the first three pairs are drawn, and said to be."""
    third, fourth = Objective("speed", "maximize"), Objective("memory", "minimize")
    it = export()
    for point in it.points:
        point.metrics.update({"speed": 1.0 + point.number, "memory": 2.0} if point.value is not None else {})

    of_three = figures(render(several(it, third)))
    of_four = render(several(it, third, fourth))

    assert [key for key in of_three if key.startswith("front")] == ["front-0", "front-1", "front-2"]
    assert of_three["front-1"]["layout"]["yaxis"]["title"]["text"] == "speed (maximize)"
    assert of_three["front-0"]["data"][1]["mode"] == "markers"
    assert "Drawn are 3 of 6 pairs of objectives." in text_of(of_four)


def test_every_metric_is_a_column_of_the_points() -> None:
    """The objective comes first, then what trainings told besides, then the parameters."""
    headings = re.findall(r'<button type="button">(.*?)</button>', render(export()))

    assert headings[:5] == ["point", "state", "val_error", "train_loss", "learning_rate"]


def test_what_points_used_is_told_if_it_is_known() -> None:
    """CPU time and peak memory of all tries together; no columns if no agent said anything."""
    it = export()
    usage = Usage(cpu_seconds=75.0, peak_memory_bytes=3 * 2**30)
    known = [replace(evaluation, usage=usage) for evaluation in it.evaluations[:2]]

    html = render(replace(it, evaluations=[*known, *it.evaluations[2:]]))

    assert re.findall(r'<button type="button">(.*?)</button>', html)[-4:-1] == ["duration", "cpu time", "peak memory"]
    assert html.count('data-key="75.0">1m15s</td>') == html.count(">3 GiB</td>") == 2
    assert "peak memory" not in render(it)


def test_names_and_messages_are_only_ever_text() -> None:
    """Markup in a task's name, a parameter, a choice or a message stays text everywhere, also in the charts."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    space = {
        evil: {"type": "categorical", "choices": [evil, "b"]},
        "x": {"type": "float", "low": 0.0, "high": 1.0},
    }

    html = render(export(20, space=space, name=evil, message=evil, failing=0.3))

    assert evil not in html
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "alert(1)" in text_of(html)
    assert "<img" not in json.dumps(figures(html))


def test_report_needs_little_of_the_document() -> None:
    """A document without space, constants and source, and times that cannot be read, still give a report."""
    it = export(12)
    it.task.document.clear()
    it.points[3] = replace(it.points[3], started_at="yesterday", ended_at=None)

    text = text_of(render(replace(it, task=replace(it.task, source=""))))

    assert "Task document" in text


def test_failures_come_with_their_message_and_output() -> None:
    """Failures are grouped by message, with the end of what a payload printed."""
    it = export(12, failing=0.5)
    it.evaluations[:] = [replace(e, output_tail=f"printed by {e.point}") for e in it.evaluations]

    text = text_of(render(it))

    failed = [p.number for p in it.points if p.state is PointState.FAILED]
    assert f"{len(failed)} points: {', '.join(map(str, failed))}" in text
    assert f"printed by {failed[-1]}" in text


def test_numbers_that_are_none_leave_gaps() -> None:
    """Metrics that are missing or no finite numbers reach no chart."""
    it = export(12)
    it.points[3].metrics["train_loss"] = None
    it.reports.append(StoredReport("e4", 99, {"val_error": math.nan, "other": math.inf}, ""))

    drawn = figures(render(it))

    assert None in drawn["curves"]["data"][0]["y"]


def test_curves_fall_back_to_another_metric() -> None:
    """When trainings do not report the objective, the first metric that they report is drawn, and said to be."""
    it = export(12)
    it.reports[:] = [StoredReport(r.evaluation, r.step, {"loss": 0.5 / r.step}, r.at) for r in it.reports]

    html = render(it)

    assert "this is loss" in text_of(html)
    assert figures(html)["curves"]["layout"]["yaxis"]["title"]["text"] == "loss"


def test_large_task_gives_a_report_soon_and_of_sane_size() -> None:
    """2,000 points with 20 parameters: seconds, and a few megabytes beside the chart library."""
    it = export(2000, space=flat_space(20))
    render(export(12))  # imports

    began = time.perf_counter()
    html = render(it)

    assert time.perf_counter() - began < 20  # 3 s on an idle core
    assert len(html) < 9_000_000
    assert "of 2000 points" in text_of(html)


def test_importing_the_report_is_free() -> None:
    """The web process imports the package, and neither plotly nor scikit-learn with it."""
    check = (
        "import sys, gridtune_steering.report.page as p; sys.exit(any(m in sys.modules for m in ('plotly', 'sklearn')))"
    )

    subprocess.run([sys.executable, "-c", check], check=True, env={"PYTHONPATH": ":".join(sys.path)})


# --- findings ---------------------------------------------------------------------------------------------------------


def test_importance_finds_what_matters() -> None:
    """The parameter that the value hangs on comes first, and the shares add up to one."""
    it = export(120, space=flat_space(8))

    shares = importance(it.task.document, it.points)

    assert shares[0][0] == "parameter_0"
    assert shares[0][1] > 0.5
    assert sum(share for _, share in shares) == pytest.approx(1.0)
    assert importance(it.task.document, it.points) == shares


def test_importance_says_nothing_without_ground() -> None:
    """Too few points, or values that are all the same, give no importance."""
    it = export(9, failing=0)
    same = [Point(n, PointState.DONE, {"x": n}, {}, 1, "", value=1.0) for n in range(20)]

    assert importance(it.task.document, it.points) == []
    assert importance({"space": {"x": {"type": "int", "low": 0, "high": 20}}}, same) == []


@pytest.mark.parametrize(("goal", "best"), [("minimize", 1), ("maximize", 2)])
def test_best_follows_the_goal(goal: str, best: int) -> None:
    """The best point has the least or the largest value, whichever the task asks for."""
    it = export(3, failing=0, goal=goal)
    it.points[:] = [
        Point(n, PointState.DONE, {}, {}, 1, "", value=value, ended_at=f"2026-01-0{n + 1}T00:00:00Z")
        for n, value in enumerate([0.5, 0.2, 0.9])
    ]

    found = findings(it)

    assert found.best is not None
    assert found.best.number == best
    assert found.median == 0.5


def test_stopped_points_are_no_candidates_for_the_best() -> None:
    """A point that the scheduler ended early is not compared with those trained to their end."""
    it = export(2, failing=0)
    it.points.append(Point(9, PointState.STOPPED, {}, {}, 1, "", value=0.0))

    found = findings(it)

    assert found.best is not None
    assert found.best.number != 9


def test_sample_keeps_the_best() -> None:
    """Of too many points, the best are kept, and an even sample of the others in their order."""
    found = findings(export(500, failing=0))

    kept = chosen(found.done, found.ranked(), 100)

    assert len(kept) == 100
    assert {p.number for p in found.ranked()[:50]} <= {p.number for p in kept}
    assert [p.number for p in kept] == sorted(p.number for p in kept)


# --- axes -------------------------------------------------------------------------------------------------------------


def test_log_axis_is_even_in_decades() -> None:
    """The middle decade lies in the middle, and whole powers are the ticks."""
    axis = Axis(name="learning_rate", low=1e-4, high=1e-2, log=True)

    assert axis.position(1e-3) == pytest.approx(0.5)
    assert [label for _, label in axis.ticks()] == ["0.0001", "0.001", "0.01"]


def test_choices_keep_their_order_and_kind() -> None:
    """1 and true are two choices."""
    axis = axes({"x": {"type": "ordinal", "choices": [1, True, "b"]}}, [])[0]

    assert [axis.index(value) for value in (1, True, "b", "c")] == [0, 1, 2, None]
    assert [label for _, label in axis.ticks()] == ["1", "true", "b"]


def test_axis_is_wide_enough_for_points_outside_of_the_space() -> None:
    """Points that a user added may lie outside; they are on the axis all the same."""
    number, choice = axes(
        {"x": {"type": "int", "low": 0, "high": 10}, "y": {"type": "categorical", "choices": ["a"]}},
        [{"x": 20, "y": "b"}],
    )

    assert number.position(20) == 1.0
    assert choice.choices == ("a", "b")


@pytest.mark.parametrize(
    ("spec", "seen", "low", "high", "log"),
    [
        ({"type": "normal", "mean": 5, "std": 2}, [4.0], -1.18, 11.18, False),
        ({"type": "normal", "mean": 5, "std": 2}, [-7.5, 4.0], -7.5, 11.18, False),
        ({"type": "normal", "mean": 5, "std": 2, "low": 5}, [30], 5.0, 30.0, False),
        ({"type": "lognormal", "mean": 0, "std": 1, "when": {"o": ["a"]}}, [1.0], 0.0455, 21.98, True),
        ({"type": "normal", "mean": 5}, [1.0, 2.0], 1.0, 2.0, False),
    ],
    ids=["usual values", "a value far out", "bounds", "lognormal", "an unreadable one"],
)
def test_axis_of_a_distribution_is_as_wide_as_usual_values(
    spec: dict[str, Any], seen: list[float], low: float, high: float, log: bool
) -> None:
    """Without bounds, an axis goes over all but two values in a thousand, and over all that there are."""
    [axis] = axes({"x": spec}, [{"x": value} for value in seen])

    assert (axis.low, axis.high) == pytest.approx((low, high), rel=0.01)
    assert axis.log is log
    assert all(0 <= (axis.position(value) or 0.0) <= 1 for value in seen)
    assert len(axis.ticks()) > 1


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_draws_every_chart_off_line(tmp_path: Path, scheme: str) -> None:
    """With no network at all, every chart is drawn, nothing is asked for, and the console stays silent."""
    with opened(tmp_path / "report.html", render(export()), color_scheme=scheme) as (page, wrong):
        page.wait_for_function("document.querySelectorAll('.chart .main-svg').length > 0")
        charts = page.locator(".chart").count()
        drawn = page.locator(".chart:has(.trace.scatter)").count()

        assert charts == 3 + len(DIGITS)
        assert drawn == charts
        assert wrong == []


def test_browser_draws_the_front(tmp_path: Path) -> None:
    """Its steps and points are there, its table sorts, and nothing is wrong."""
    it = several(export())

    with opened(tmp_path / "report.html", render(it)) as (page, wrong):
        page.wait_for_selector("#chart-front-0 .scatterlayer .trace")

        assert page.locator("#chart-front-0 .scatterlayer .trace .lines path").count() == 1
        assert page.locator(".front tbody tr").count() == len(findings(it).front)
        page.locator(".front").get_by_role("button", name="point").click()
        numbers = page.locator(".front tbody tr td:first-child").all_inner_texts()
        assert numbers == sorted(numbers, key=int)
        assert wrong == []


def test_browser_runs_nothing_that_a_name_brings(tmp_path: Path) -> None:
    """Markup from outside runs nothing, loads nothing, links nowhere and breaks no chart."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)><a href='http://example.org'>b</a>"
    space = {
        evil: {"type": "categorical", "choices": [evil, "b"]},
        "x": {"type": "float", "low": 0.0, "high": 1.0},
    }
    html = render(export(20, space=space, name=evil, message=evil, failing=0.3))

    with opened(tmp_path / "report.html", html) as (page, wrong):
        page.wait_for_function("document.querySelectorAll('.chart .main-svg').length > 0")

        assert page.locator("h1").inner_text().startswith(evil)
        assert page.locator("a").count() == 0
        assert wrong == []


def test_browser_sorts_the_points(tmp_path: Path) -> None:
    """A click on a column sorts by it, another turns it round; points without a value stay last."""
    it = export()
    values = sorted(p.value for p in it.points if p.value is not None)

    with opened(tmp_path / "report.html", render(it)) as (page, _):
        column = page.get_by_role("button", name="val_error")
        cells = page.locator("table.listing tbody tr td:nth-child(3)")

        column.click()
        assert cells.first.inner_text() == f"{values[0]:.5g}"
        assert cells.last.inner_text() == ""

        column.click()
        assert cells.first.inner_text() == f"{values[-1]:.5g}"
        assert cells.last.inner_text() == ""
