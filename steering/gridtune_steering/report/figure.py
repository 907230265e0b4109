"""What the report's charts are made of: the plain objects that plotly.js draws.

Everything is drawn as SVG scatter traces: plotly's own parallel coordinates need WebGL, which remote desktops and
virtual machines often lack. A colour is the name of a CSS variable, ``var(--ink)``, which the script replaces by its
value in the light or dark palette. All text from outside passes through `literal`, because plotly.js reads tags in
labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from gridtune_common.protocol import Point, PointState, Value

from .axes import is_number, show, wide

#: A figure: ``data``, ``layout`` and ``config`` of plotly.js.
Figure = dict[str, Any]

_SPREAD = 0.12  # of the room of a choice, to either side: so far apart are its dots, not to hide each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure with its title, what it leaves out, and the least width in pixels at which it can be read."""

    key: str
    title: str
    figure: Figure
    note: str = ""
    min_width: int = 0


def literal(text: str) -> str:
    """Return *text* so that plotly.js shows it as it is."""
    return escape(text, quote=False)


def figure(data: list[Figure], layout: Figure, *, height: int, bar: bool = True) -> Figure:
    """Return a figure with the looks that all charts share."""
    shared = {
        "height": height,
        "margin": {"l": 64, "r": 20, "t": 28, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--soft-ink)"},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.0,
            "yanchor": "bottom",
            "font": {"color": "var(--ink)"},
        },
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": "var(--axis)",
            "font": {"color": "var(--ink)"},
            "align": "left",
        },
        "hovermode": "closest",
        "dragmode": "zoom" if bar else False,
    }
    config = {
        "displaylogo": False,
        "displayModeBar": "hover" if bar else False,
        "responsive": True,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    }
    return {"data": data, "layout": shared | layout, "config": config}


def x_axis(*, title: str, **looks: Any) -> Figure:
    """Return a horizontal axis."""
    return {
        "title": {"text": title},
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "linecolor": "var(--axis)",
    } | looks


def value_axis(title: str, values: Sequence[float], *, room: float = 0.0) -> Figure:
    """Return the axis of the *values* of a metric, with *room* below them as a share of their span."""
    looks: Figure = {
        "title": {"text": title},
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "automargin": True,
        "tickformat": "~g",
        "showticklabels": bool(values),
        "nticks": 7,
    }
    log = wide(values)
    if values:
        low, high = (math.log10(x) if log else x for x in (min(values), max(values)))
        span = (high - low) or abs(high) or 1.0
        if log and span < 3:
            looks["dtick"] = "D2"  # 1, 2 and 5: left alone, plotly.js crowds the axis with every digit
        looks["range"] = [low - span * (0.06 + room), high + span * 0.06]
    return looks | {"type": "log" if log else "linear"}


def dots(
    name: str,
    x: Sequence[Any],
    points: Sequence[Point],
    objective: str,
    *,
    color: str,
    symbol: str = "circle",
    opacity: float = 1.0,
    size: int = 7,
) -> Figure:
    """Return points as dots that tell their number and value."""
    return {
        "type": "scatter",
        "name": name,
        "mode": "markers",
        "marker": {"color": color, "symbol": symbol, "opacity": opacity, "size": size},
        "x": list(x),
        "y": [short(p.value) for p in points],
        "text": [_label(p, objective) for p in points],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _label(point: Point, objective: str) -> str:
    if point.state is PointState.FAILED:
        return f"point {point.number} failed<br>{literal(cut(point.message, 80))}"
    return f"point {point.number}<br>{literal(objective)} {show(point.value, 5)}"


def short(value: Value) -> float | None:
    """Return a number with as many digits as a picture shows; None for what is no number."""
    return float(f"{value:.6g}") if is_number(value) else None


def cut(text: str, length: int) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def left_out(drawn: int, of: int) -> str:
    """Return what to say of points that are not drawn."""
    return "" if drawn == of else f"Drawn are {drawn} of {of} points: the best ones and an even sample of the others."


def shift(number: int) -> float:
    """Return a small shift, always the same for a point, so that dots of a choice do not hide each other."""
    return ((number * 0.618034) % 1.0 - 0.5) * 2 * _SPREAD
