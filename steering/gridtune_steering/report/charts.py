"""How the search went: the best value so far, and the learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gridtune_common.protocol import Point, PointState, StoredReport

from .axes import is_number
from .figure import Chart, Figure, dots, figure, left_out, literal, short, value_axis, x_axis
from .findings import Findings, chosen, value_of

_DOTS, _CURVES, _STEPS = 4000, 200, 200


def progress(found: Findings, objective: str) -> Chart:
    """Return every point's value in the order in which the points ended, and the best so far."""
    order = {point.number: place for place, point in enumerate(found.ended, start=1)}
    drawn = chosen(found.done, found.ranked(), _DOTS)
    stopped = [p for p in found.ended if p.state is PointState.STOPPED and is_number(p.value)]
    failed = [p for p in found.ended if p.state is PointState.FAILED]
    steps = _improvements(found, order)

    data = [
        dots("done", [order[p.number] for p in drawn], drawn, objective, color="var(--blue)", opacity=0.65),
        {
            "type": "scatter",
            "name": "best so far",
            "mode": "lines",
            "line": {"shape": "hv", "width": 2.5, "color": "var(--orange)"},
            "x": [x for x, _ in steps],
            "y": [short(y) for _, y in steps],
            "hovertemplate": "best so far: %{y}<extra></extra>",
        },
    ]
    if stopped:
        xs = [order[p.number] for p in stopped]
        data.append(dots("stopped early", xs, stopped, objective, color="var(--blue)", symbol="circle-open"))
    if failed:
        data.append(
            {
                **dots(
                    "failed",
                    [order[p.number] for p in failed],
                    failed,
                    objective,
                    color="var(--red)",
                    symbol="x",
                ),
                "y": [0.03] * len(failed),
                "yaxis": "y2",
            }
        )
    values = [value_of(p) for p in (*found.done, *stopped)]
    layout = {
        "xaxis": x_axis(title="points ended", range=[0.5 - 0.01 * len(order), len(order) * 1.01 + 0.5]),
        "yaxis": value_axis(literal(objective), values, room=0.1 if failed else 0.0),
        "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    }
    return Chart(
        key="progress",
        title="Progress",
        figure=figure(data, layout, height=380),
        note=left_out(len(drawn), len(found.done)),
    )


def curves(
    found: Findings,
    points: Sequence[Point],
    reports: Sequence[StoredReport],
    owners: Mapping[str, int],
    objective: str,
) -> Chart | None:
    """Return the objective by step, one line a point, or None without reports.

    *owners* has the point that each evaluation trained.
    """
    metric = _curve_metric(reports, objective)
    if metric is None:
        return None
    lines: dict[int, dict[int, float | None]] = {}
    for report in reports:
        if metric in report.metrics and report.evaluation in owners:
            lines.setdefault(owners[report.evaluation], {})[report.step] = report.metrics[metric]
    known = [p for p in points if p.number in lines]
    drawn = chosen(known, [p for p in found.ranked() if p.number in lines], _CURVES)

    best = found.best.number if found.best else -1
    faint = _curve_trace([p.number for p in drawn if p.number != best], lines)
    data = [{**faint, "name": "other points", "line": {"width": 1, "color": "var(--faint-line)"}}]
    if best in lines:
        bold = _curve_trace([best], lines)
        name = f"best {literal(objective)} (point {best})" if found.has_front else f"best point ({best})"
        data.append({**bold, "name": name, "line": {"width": 2.5, "color": "var(--orange)"}})
    values = [v for line in lines.values() for v in line.values() if v is not None]
    return Chart(
        key="curves",
        title="Learning curves",
        figure=figure(data, {"xaxis": x_axis(title="step"), "yaxis": value_axis(literal(metric), values)}, height=380),
        note=" ".join(
            filter(
                None,
                [
                    "" if metric == objective else f"The objective is not among the reports; this is {metric}.",
                    left_out(len(drawn), len(known)),
                ],
            )
        ),
    )


def _improvements(found: Findings, order: Mapping[int, int]) -> list[tuple[int, float]]:
    steps: list[tuple[int, float]] = []
    for point in found.done:
        if not steps or found.better(value_of(point), steps[-1][1]):
            steps.append((order[point.number], value_of(point)))
    if steps:
        steps.append((len(order), steps[-1][1]))
    return steps


def _curve_metric(reports: Iterable[StoredReport], objective: str) -> str | None:
    first = None
    for report in reports:
        for name, value in report.metrics.items():
            if is_number(value) and name == objective:
                return name
            if is_number(value) and first is None:
                first = name
    return first


def _curve_trace(numbers: Iterable[int], lines: Mapping[int, Mapping[int, float | None]]) -> Figure:
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for number in numbers:
        steps = sorted(lines[number])
        every = -(-len(steps) // _STEPS)
        for step in [s for i, s in enumerate(steps) if i % every == 0 or s == steps[-1]]:
            x.append(step)
            y.append(short(lines[number][step]))
            text.append(f"point {number}, step {step}")
        x.append(None)
        y.append(None)
        text.append("")
    return {
        "type": "scatter",
        "mode": "lines+markers" if all(len(lines[n]) == 1 for n in numbers) else "lines",
        "x": x,
        "y": y,
        "text": text,
        "hovertemplate": "%{text}: %{y}<extra></extra>",
        "connectgaps": False,
    }
