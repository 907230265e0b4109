"""The report's charts, as the plain objects that plotly.js draws.

Everything is drawn as SVG scatter traces: plotly's own parallel coordinates need WebGL, which remote desktops
and virtual machines often lack. A colour is the name of a CSS variable, ``var(--ink)``, which the script
replaces by its value in the light or dark palette. All text from outside passes through `literal`, because
plotly.js reads tags in labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from gridtune_common.protocol import Point, PointState, StoredReport, Value

from .axes import INACTIVE, Axis, axes, is_number, show, spread, wide
from .findings import Findings, chosen, value_of

#: A figure: ``data``, ``layout`` and ``config`` of plotly.js.
Figure = dict[str, Any]

_DOTS, _LINES, _CURVES, _STEPS, _SLICE_DOTS = 4000, 400, 200, 200, 400
_SHADES = 8  # --shade-0 for the best eighth of the points to --shade-7 for the worst
_BELOW = -0.12  # where a parameter that is inactive lies on a parallel axis
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


def progress(found: Findings, objective: str) -> Chart:
    """Return every point's value in the order in which the points ended, and the best so far."""
    order = {point.number: place for place, point in enumerate(found.ended, start=1)}
    dots = chosen(found.done, found.ranked(), _DOTS)
    stopped = [p for p in found.ended if p.state is PointState.STOPPED and is_number(p.value)]
    failed = [p for p in found.ended if p.state is PointState.FAILED]
    steps = _improvements(found, order)

    data = [
        _dots("done", [order[p.number] for p in dots], dots, objective, color="var(--blue)", opacity=0.65),
        {
            "type": "scatter",
            "name": "best so far",
            "mode": "lines",
            "line": {"shape": "hv", "width": 2.5, "color": "var(--orange)"},
            "x": [x for x, _ in steps],
            "y": [_short(y) for _, y in steps],
            "hovertemplate": "best so far: %{y}<extra></extra>",
        },
    ]
    if stopped:
        xs = [order[p.number] for p in stopped]
        data.append(_dots("stopped early", xs, stopped, objective, color="var(--blue)", symbol="circle-open"))
    if failed:
        data.append(
            {
                **_dots(
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
        "xaxis": _x(title="points ended", range=[0.5 - 0.01 * len(order), len(order) * 1.01 + 0.5]),
        "yaxis": _y(literal(objective), values, room=0.1 if failed else 0.0),
        "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
    }
    return Chart(
        key="progress",
        title="Progress",
        figure=_figure(data, layout, height=380),
        note=_left_out(len(dots), len(found.done)),
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
        data.append({**bold, "name": f"best point ({best})", "line": {"width": 2.5, "color": "var(--orange)"}})
    values = [v for line in lines.values() for v in line.values() if v is not None]
    return Chart(
        key="curves",
        title="Learning curves",
        figure=_figure(data, {"xaxis": _x(title="step"), "yaxis": _y(literal(metric), values)}, height=380),
        note=" ".join(
            filter(
                None,
                [
                    "" if metric == objective else f"The objective is not among the reports; this is {metric}.",
                    _left_out(len(drawn), len(known)),
                ],
            )
        ),
    )


def parallel(found: Findings, space: Mapping[str, Any], objective: str) -> Chart:
    """Return each done point as a line through its parameters to its value, darker the better."""
    ranked = found.ranked()
    drawn = chosen(ranked, ranked, _LINES)
    columns = axes(space, (p.parameters for p in drawn))
    goal = spread(objective, [value_of(p) for p in drawn])
    partly = [any(axis.name not in p.parameters for p in drawn) for axis in columns]

    data = []
    size = -(-len(drawn) // _SHADES)
    for shade in reversed(range(_SHADES)):
        band = drawn[shade * size : (shade + 1) * size]
        band = [p for p in band if p is not found.best]
        if band:
            line = {"width": 1.2, "color": f"var(--shade-{shade})"}
            opacity = 0.75 if len(drawn) < 150 else 0.4
            data.append({**_parallel_trace(band, columns, goal), "line": line, "opacity": opacity})
    if found.best is not None:
        line = {"width": 3, "color": "var(--orange)"}
        data.append({**_parallel_trace([found.best], columns, goal), "line": line})

    names = [*(axis.name for axis in columns), objective]
    layout = {
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 64, "r": 76, "t": 42, "b": 14},
        "xaxis": {"visible": False, "range": [-0.05, len(columns) + 0.05], "fixedrange": True},
        "yaxis": {
            "visible": False,
            "range": [_BELOW - 0.1 if any(partly) else -0.06, 1.06],
            "fixedrange": True,
        },
        "shapes": [_parallel_line(x) for x in range(len(names))],
        "annotations": [
            *(_header(x, name, bold=x == len(columns)) for x, name in enumerate(names)),
            *(_tick(x, at, text) for x, axis in enumerate([*columns, goal]) for at, text in axis.ticks()),
            *(_inactive_tick(x) for x, missing in enumerate(partly) if missing),
        ],
    }
    note = [
        "One line a point, from its parameters to its value. The best is orange; the others stand out more "
        "the better they rank."
    ]
    note.append(_left_out(len(drawn), len(found.done)))
    return Chart(
        key="parallel",
        title="Parallel coordinates",
        figure=_figure(data, layout, height=420),
        note=" ".join(filter(None, note)),
        min_width=104 * len(names) + 60,
    )


def slices(found: Findings, space: Mapping[str, Any], objective: str) -> list[Chart]:
    """Return the objective against each parameter."""
    drawn = chosen(found.done, found.ranked(), _SLICE_DOTS)
    columns = axes(space, (p.parameters for p in found.done))
    return [
        _slice(number, axis, drawn, found.best, objective)
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
                _left_out(min(len(found.done), _SLICE_DOTS), len(found.done)),
            ],
        )
    )


# --- progress ---------------------------------------------------------------------------------------------------------


def _improvements(found: Findings, order: Mapping[int, int]) -> list[tuple[int, float]]:
    steps: list[tuple[int, float]] = []
    for point in found.done:
        if not steps or found.better(value_of(point), steps[-1][1]):
            steps.append((order[point.number], value_of(point)))
    if steps:
        steps.append((len(order), steps[-1][1]))
    return steps


def _dots(
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
    return {
        "type": "scatter",
        "name": name,
        "mode": "markers",
        "marker": {"color": color, "symbol": symbol, "opacity": opacity, "size": size},
        "x": list(x),
        "y": [_short(p.value) for p in points],
        "text": [_label(p, objective) for p in points],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _label(point: Point, objective: str) -> str:
    if point.state is PointState.FAILED:
        return f"point {point.number} failed<br>{literal(_cut(point.message, 80))}"
    return f"point {point.number}<br>{literal(objective)} {show(point.value, 5)}"


# --- learning curves --------------------------------------------------------------------------------------------------


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
            y.append(_short(lines[number][step]))
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


# --- parallel coordinates ---------------------------------------------------------------------------------------------


def _parallel_trace(points: Iterable[Point], columns: Sequence[Axis], goal: Axis) -> Figure:
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for point in points:
        for at, axis in enumerate(columns):
            position = axis.position(point.parameters[axis.name]) if axis.name in point.parameters else None
            shift = _shift(point.number) if axis.named and position is not None else 0.0
            x.append(at)
            y.append(_BELOW if position is None else round(position + shift / len(axis.choices or (0,)), 4))
            text.append(_hover(point, axis, point.parameters.get(axis.name, INACTIVE)))
        x.append(len(columns))
        y.append(round(goal.position(value_of(point)) or 0.0, 4))
        text.append(_hover(point, goal, value_of(point)))
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
    return f"point {point.number}<br>{literal(_cut(axis.name, 40))} {literal(_cut(show(value, 5), 40))}"


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
    text = literal(_cut(name, 14))
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
        "text": literal(_cut(text, 12)),
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


# --- slices -----------------------------------------------------------------------------------------------------------


def _slice(number: int, axis: Axis, drawn: Sequence[Point], best: Point | None, objective: str) -> Chart:
    active = [p for p in drawn if axis.name in p.parameters]
    others = [p for p in active if p is not best]
    data = [_slice_dots("points", axis, others, objective, color="var(--blue)", opacity=0.6, size=6)]
    if best is not None and best in active:
        data.append(_slice_dots("best", axis, [best], objective, color="var(--orange)", size=11))
    layout = {
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 52, "r": 14, "t": 8, "b": 36},
        "xaxis": _slice_x(axis),
        "yaxis": {**_y("", [value_of(p) for p in drawn]), "nticks": 5},
    }
    inactive = len(drawn) - len(active)
    return Chart(
        key=f"slice-{number}",
        title=axis.name,
        figure=_figure(data, layout, height=210, bar=False),
        note=f"inactive in {inactive} of {len(drawn)} points" if inactive else "",
    )


def _slice_dots(name: str, axis: Axis, points: Sequence[Point], objective: str, **looks: Any) -> Figure:
    if axis.named:
        x: list[float | None] = [(axis.index(p.parameters[axis.name]) or 0) + _shift(p.number) for p in points]
    else:
        x = [_short(p.parameters[axis.name]) for p in points]
    figure = _dots(name, x, points, objective, **looks)
    figure["text"] = [
        f"{label}<br>{literal(_cut(axis.name, 40))} {literal(_cut(show(p.parameters[axis.name], 5), 40))}"
        for label, p in zip(figure["text"], points, strict=True)
    ]
    return figure


def _slice_x(axis: Axis) -> Figure:
    if axis.named:
        return {
            **_x(title=""),
            "range": [-0.6, len(axis.choices) - 0.4],
            "tickvals": list(range(len(axis.choices))),
            "ticktext": [literal(_cut(show(choice), 14)) for choice in axis.choices],
            "showgrid": False,
        }
    ticks = axis.ticks(most=5)
    pad = 0.05
    return {
        **_x(title=""),
        "type": "log" if axis.log else "linear",
        "range": [_at(axis, -pad), _at(axis, 1 + pad)],
        "tickvals": [10 ** _at(axis, position) if axis.log else _at(axis, position) for position, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }


def _at(axis: Axis, position: float) -> float:
    """Return the coordinate of a position on *axis*, in decades on a log axis."""
    low, high = (math.log10(axis.low), math.log10(axis.high)) if axis.log else (axis.low, axis.high)
    return low + position * ((high - low) or 1.0) - (0.0 if high > low else 0.5)


# --- what all charts share --------------------------------------------------------------------------------------------


def _figure(data: list[Figure], layout: Figure, *, height: int, bar: bool = True) -> Figure:
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


def _x(*, title: str, **looks: Any) -> Figure:
    return {
        "title": {"text": title},
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "linecolor": "var(--axis)",
    } | looks


def _y(title: str, values: Sequence[float], *, room: float = 0.0) -> Figure:
    """Return the axis of *values*, with *room* below them as a share of their span."""
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


def _short(value: Value) -> float | None:
    return float(f"{value:.6g}") if is_number(value) else None


def _shift(number: int) -> float:
    """Return a small shift, always the same for a point, so that dots of a choice do not hide each other."""
    return ((number * 0.618034) % 1.0 - 0.5) * 2 * _SPREAD


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _left_out(drawn: int, of: int) -> str:
    return "" if drawn == of else f"Drawn are {drawn} of {of} points: the best ones and an even sample of the others."
