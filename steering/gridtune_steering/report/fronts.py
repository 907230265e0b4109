"""The Pareto front: the objectives of a task against each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from gridtune_common.protocol import Objective, Point

from .axes import is_number, show
from .figure import Chart, Figure, cut, figure, left_out, literal, short, value_axis
from .findings import Findings, chosen

_DOTS = 2000
_MOST_CHARTS = 3
_MOST_IN_LABEL = 12


def fronts(found: Findings) -> list[Chart]:
    """Return the objectives against each other, two by two, the first ones first; none for a single objective."""
    drawn = chosen(found.done, found.ranked(), _DOTS)
    pairs = list(combinations(found.objectives, 2))[:_MOST_CHARTS]
    return [_chart(number, x, y, found, drawn) for number, (x, y) in enumerate(pairs)]


def fronts_note(found: Findings) -> str:
    """Return how to read the charts, and what they leave out."""
    n = len(found.objectives)
    n_pairs = n * (n - 1) // 2
    return " ".join(
        filter(
            None,
            [
                "" if n == 2 else "A point may be on the front for an objective that its chart does not show.",
                f"Drawn are {_MOST_CHARTS} of {n_pairs} pairs of objectives." if n_pairs > _MOST_CHARTS else "",
                left_out(min(len(found.done), _DOTS), len(found.done)),
            ],
        )
    )


def _chart(number: int, x: Objective, y: Objective, found: Findings, drawn: Sequence[Point]) -> Chart:
    known = [p for p in drawn if is_number(p.metrics.get(x.metric)) and is_number(p.metrics.get(y.metric))]
    leading = {p.number for p in found.front}
    others = [p for p in known if p.number not in leading]
    shown = {p.number for p in known}
    members = [p for p in found.front if p.number in shown]
    data = [
        _dots("points", others, x, y, found, mode="markers", marker=_marker("var(--blue)", 0.55, 7)),
        _dots("front", members, x, y, found, **_line(found), marker=_marker("var(--orange)", 1.0, 9)),
    ]
    layout = {
        "xaxis": value_axis(_title(x), [p.metrics[x.metric] or 0.0 for p in known]),
        "yaxis": value_axis(_title(y), [p.metrics[y.metric] or 0.0 for p in known]),
    }
    is_alone = len(found.objectives) == 2
    return Chart(
        key=f"front-{number}",
        title=f"{y.metric} against {x.metric}",
        figure=figure(data, layout, height=420 if is_alone else 340, bar=is_alone),
    )


def _line(found: Findings) -> Figure:
    """Two objectives have a border, on which a step says what the front dominates; of more, this is but a shadow."""
    if len(found.objectives) > 2:
        return {"mode": "markers"}
    return {"mode": "lines+markers", "line": {"shape": "hv", "width": 2, "color": "var(--orange)"}}


def _dots(name: str, points: Sequence[Point], x: Objective, y: Objective, found: Findings, **looks: Any) -> Figure:
    return {
        "type": "scatter",
        "name": name,
        "x": [short(p.metrics[x.metric]) for p in points],
        "y": [short(p.metrics[y.metric]) for p in points],
        "text": [_label(p, found) for p in points],
        "hovertemplate": "%{text}<extra></extra>",
        **looks,
    }


def _marker(color: str, opacity: float, size: int) -> Figure:
    return {"color": color, "opacity": opacity, "size": size}


def _title(objective: Objective) -> str:
    return literal(f"{cut(objective.metric, 60)} ({objective.goal})")


def _label(point: Point, found: Findings) -> str:
    goals = [(objective.metric, point.metrics.get(objective.metric)) for objective in found.objectives]
    parameters = list(point.parameters.items())
    lines = [f"<b>point {point.number}</b>"]
    lines += [f"<b>{literal(cut(name, 40))} {show(value, 5)}</b>" for name, value in goals]
    lines += [f"{literal(cut(name, 40))} {literal(cut(show(v, 5), 40))}" for name, v in parameters[:_MOST_IN_LABEL]]
    hidden = len(parameters) - _MOST_IN_LABEL
    return "<br>".join([*lines, *([f"and {hidden} more"] if hidden > 0 else [])])
