"""Slices: the objective against each parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gridtune_common.protocol import Point

from .axes import Axis, axes, show
from .figure import Chart, Figure, cut, dots, figure, left_out, literal, shift, short, value_axis, x_axis
from .findings import Findings, chosen, value_of

_SLICE_DOTS = 400


def slices(found: Findings, space: Mapping[str, Any], objective: str) -> list[Chart]:
    """Return the objective against each parameter."""
    drawn = chosen(found.done, found.ranked(), _SLICE_DOTS)
    columns = axes(space, (p.parameters for p in found.done))
    return [
        _slice(number, axis, drawn, found, objective)
        for number, axis in enumerate(columns)
        if any(axis.name in p.parameters for p in drawn)
    ]


def slices_note(found: Findings, space: Mapping[str, Any]) -> str:
    """Return what the slices leave out."""
    never = [name for name in space if not any(name in p.parameters for p in found.done)]
    return " ".join(
        filter(
            None,
            [
                f"Inactive in all points: {', '.join(never)}." if never else "",
                left_out(min(len(found.done), _SLICE_DOTS), len(found.done)),
            ],
        )
    )


def _slice(number: int, axis: Axis, drawn: Sequence[Point], found: Findings, objective: str) -> Chart:
    active = [p for p in drawn if axis.name in p.parameters]
    leading = {p.number for p in found.leaders}
    leaders = [p for p in active if p.number in leading]
    others = [p for p in active if p.number not in leading]
    data = [_slice_dots("points", axis, others, objective, color="var(--blue)", opacity=0.6, size=6)]
    if leaders:
        size = 8 if found.has_front else 11
        data.append(_slice_dots("best", axis, leaders, objective, color="var(--orange)", size=size))
    layout = {
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 52, "r": 14, "t": 8, "b": 36},
        "xaxis": _slice_x(axis),
        "yaxis": {**value_axis("", [value_of(p) for p in drawn]), "nticks": 5},
    }
    inactive = len(drawn) - len(active)
    return Chart(
        key=f"slice-{number}",
        title=axis.name,
        figure=figure(data, layout, height=210, bar=False),
        note=f"inactive in {inactive} of {len(drawn)} points" if inactive else "",
    )


def _slice_dots(name: str, axis: Axis, points: Sequence[Point], objective: str, **looks: Any) -> Figure:
    if axis.named:
        x: list[float | None] = [(axis.index(p.parameters[axis.name]) or 0) + shift(p.number) for p in points]
    else:
        x = [short(p.parameters[axis.name]) for p in points]
    found = dots(name, x, points, objective, **looks)
    found["text"] = [
        f"{label}<br>{literal(cut(axis.name, 40))} {literal(cut(show(p.parameters[axis.name], 5), 40))}"
        for label, p in zip(found["text"], points, strict=True)
    ]
    return found


def _slice_x(axis: Axis) -> Figure:
    if axis.named:
        return {
            **x_axis(title=""),
            "range": [-0.6, len(axis.choices) - 0.4],
            "tickvals": list(range(len(axis.choices))),
            "ticktext": [literal(cut(show(choice), 14)) for choice in axis.choices],
            "showgrid": False,
        }
    ticks = axis.ticks(most=5)
    pad = 0.05
    return {
        **x_axis(title=""),
        "type": "log" if axis.log else "linear",
        "range": [_at(axis, -pad), _at(axis, 1 + pad)],
        "tickvals": [10 ** _at(axis, position) if axis.log else _at(axis, position) for position, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }


def _at(axis: Axis, position: float) -> float:
    """Return the coordinate of a position on *axis*, in decades on a log axis."""
    low, high = (math.log10(axis.low), math.log10(axis.high)) if axis.log else (axis.low, axis.high)
    return low + position * ((high - low) or 1.0) - (0.0 if high > low else 0.5)
