"""Parallel coordinates: one line a point, through all its parameters to its objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gridtune_common.protocol import Objective, Point, Value

from .axes import INACTIVE, Axis, axes, is_number, show, spread
from .figure import Chart, Figure, cut, figure, left_out, literal, shift
from .findings import Findings, chosen, value_of

_LINES = 400
_SHADES = 8  # --shade-0 for the best eighth of the points to --shade-7 for the worst
_BELOW = -0.12  # where a parameter that is inactive lies on a parallel axis


def parallel(found: Findings, space: Mapping[str, Any]) -> Chart:
    """Return each done point as a line through its parameters to its objectives, darker the better."""
    ranked = found.ranked()
    drawn = chosen(ranked, ranked, _LINES)
    columns = axes(space, (p.parameters for p in drawn))
    goals = [_goal(objective, found, drawn) for objective in found.objectives]
    leading = {p.number for p in found.leaders}
    partly = [any(axis.name not in p.parameters for p in drawn) for axis in columns]

    data = []
    size = -(-len(drawn) // _SHADES)
    for shade in reversed(range(_SHADES)):
        band = drawn[shade * size : (shade + 1) * size]
        band = [p for p in band if p.number not in leading]
        if band:
            line = {"width": 1.2, "color": f"var(--shade-{shade})"}
            opacity = 0.75 if len(drawn) < 150 else 0.4
            data.append({**_parallel_trace(band, columns, goals, found), "line": line, "opacity": opacity})
    leaders = [p for p in drawn if p.number in leading]
    if leaders:
        line = {"width": 3 if len(leaders) == 1 else 1.8, "color": "var(--orange)"}
        data.append({**_parallel_trace(leaders, columns, goals, found), "line": line})

    names = [axis.name for axis in (*columns, *goals)]
    layout = {
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 64, "r": 76, "t": 42, "b": 14},
        "xaxis": {"visible": False, "range": [-0.05, len(names) - 0.95], "fixedrange": True},
        "yaxis": {
            "visible": False,
            "range": [_BELOW - 0.1 if any(partly) else -0.06, 1.06],
            "fixedrange": True,
        },
        "shapes": [_parallel_line(x) for x in range(len(names))],
        "annotations": [
            *(_header(x, name, bold=x >= len(columns)) for x, name in enumerate(names)),
            *(_tick(x, at, text) for x, axis in enumerate([*columns, *goals]) for at, text in axis.ticks()),
            *(_inactive_tick(x) for x, missing in enumerate(partly) if missing),
        ],
    }
    note = [
        f"One line a point, from its parameters to its objectives. The front is orange; the others stand out more the "
        f"better they rank in {found.objectives[0].metric}."
        if found.has_front
        else "One line a point, from its parameters to its value. The best is orange; the others stand out more "
        "the better they rank."
    ]
    note.append(left_out(len(drawn), len(found.done)))
    return Chart(
        key="parallel",
        title="Parallel coordinates",
        figure=figure(data, layout, height=420),
        note=" ".join(filter(None, note)),
        min_width=104 * len(names) + 60,
    )


def _goal(objective: Objective, found: Findings, drawn: Sequence[Point]) -> Axis:
    values = [value for p in drawn if (value := _value(p, objective, found)) is not None]
    return spread(objective.metric, values or [0.0])


def _value(point: Point, objective: Objective, found: Findings) -> float | None:
    if objective is found.objectives[0]:
        return value_of(point)
    value = point.metrics.get(objective.metric)
    return value if is_number(value) else None


def _parallel_trace(points: Iterable[Point], columns: Sequence[Axis], goals: Sequence[Axis], found: Findings) -> Figure:
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for point in points:
        for at, axis in enumerate(columns):
            position = axis.position(point.parameters[axis.name]) if axis.name in point.parameters else None
            aside = shift(point.number) if axis.named and position is not None else 0.0
            x.append(at)
            y.append(_BELOW if position is None else round(position + aside / len(axis.choices or (0,)), 4))
            text.append(_hover(point, axis, point.parameters.get(axis.name, INACTIVE)))
        for at, (goal, objective) in enumerate(zip(goals, found.objectives, strict=True), start=len(columns)):
            value = _value(point, objective, found)
            x.append(at)
            y.append(None if value is None else round(goal.position(value) or 0.0, 4))
            text.append(_hover(point, goal, value))
        x.append(None)
        y.append(None)
        text.append("")
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "text": text,
        "hovertemplate": "%{text}<extra></extra>",
    }


def _hover(point: Point, axis: Axis, value: Value) -> str:
    return f"point {point.number}<br>{literal(cut(axis.name, 40))} {literal(cut(show(value, 5), 40))}"


def _parallel_line(x: int) -> Figure:
    return {
        "type": "line",
        "layer": "below",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "line": {"color": "var(--axis)", "width": 1},
    }


def _header(x: int, name: str, *, bold: bool) -> Figure:
    text = literal(cut(name, 14))
    return {
        "x": x,
        "y": 1.0,
        "yref": "paper",
        "yanchor": "bottom",
        "yshift": 8,
        "showarrow": False,
        "text": f"<b>{text}</b>" if bold else text,
        "hovertext": literal(name),
        "font": {"size": 12, "color": "var(--ink)"},
    }


def _tick(x: int, at: float, text: str) -> Figure:
    return {
        "x": x,
        "y": at,
        "xanchor": "left",
        "xshift": 3,
        "showarrow": False,
        "text": literal(cut(text, 12)),
        "font": {"size": 10, "color": "var(--soft-ink)"},
        "bgcolor": "var(--veil)",
        "borderpad": 1,
    }


def _inactive_tick(x: int) -> Figure:
    return _tick(x, _BELOW, f"{INACTIVE} inactive") | {
        "xanchor": "center",
        "xshift": 0,
        "yanchor": "top",
        "yshift": -3,
    }
