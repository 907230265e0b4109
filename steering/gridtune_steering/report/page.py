"""The report's page: what the template is given, and the policy that keeps it from fetching anything."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeVar

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from gridtune_common.protocol import EvaluationState, Export, Point, PointState, Usage
from gridtune_common.units import show_bytes, show_seconds
from gridtune_common.usage import by_point

from .axes import INACTIVE, show
from .charts import curves, progress
from .findings import Findings, findings, moment, run_seconds, seconds_between
from .fronts import fronts, fronts_note
from .importance import LEAST_POINTS, study
from .parallel import parallel
from .slices import slices, slices_note

N = TypeVar("N", int, float)

_MOST_ROWS = 1000
_MOST_FAILED_ROWS = 200
_MOST_REASONS = 20
_MOST_MEMBERS = 200  # rows of the front's table
_MOST_TILES = 3  # objectives with a tile of their own
_TAIL = 2000  # characters of a failed payload's output


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A number worth knowing at a glance."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why points failed: a message, whose points, and what the last of them printed."""

    message: str
    points: tuple[int, ...]
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of the table of points: what it shows, and by what it is sorted."""

    text: str
    key: str | float = ""
    number: bool = False


#: Columns that are there if it is known what points used.
_USED = ("cpu time", "peak memory")
_ON_FRONT, _NOT_ON_FRONT = Cell(text="yes", key="yes"), Cell(text="")


def page(export: Export) -> str:
    """Return the report of a task as one HTML document."""
    task = export.task
    found = findings(export)
    objective = task.summary.objective
    space = task.document.get("space") or {}
    owners = {evaluation.id: evaluation.point for evaluation in export.evaluations}

    over_time = progress(found, objective) if found.ended else None
    learning = curves(found, export.points, export.reports, owners, objective)
    trades = fronts(found) if found.done else []
    lines = parallel(found, space) if found.done and space else None
    small = slices(found, space, objective) if found.done else []
    metrics = _metrics(found, export)
    rows, rows_note = _rows(found, export, metrics, list(space))
    members = [_member(point, metrics, list(space)) for point in found.front[:_MOST_MEMBERS]]

    script, style = _asset("report.js"), _asset("report.css")
    charts = [chart for chart in (*trades, over_time, learning, lines, *small) if chart is not None]
    library = _plotly_js() if charts else ""
    return _template().render(
        task=task,
        summary=task.summary,
        found=found,
        objective=objective,
        trade=_trade(found),
        fronts=trades,
        fronts_note=fronts_note(found),
        member_columns=_columns(["point", *metrics, *space], members),
        members=members,
        most_members=_MOST_MEMBERS,
        tiles=_tiles(found, export),
        times=_times(export),
        progress=over_time,
        curves=learning,
        parallel=lines,
        slices=small,
        slices_note=slices_note(found, space),
        importance=study(task.document, export.points),
        least_points=LEAST_POINTS,
        reasons=_reasons(export),
        most_reasons=_MOST_REASONS,
        columns=_columns(_headings(found, export, metrics, list(space)), rows),
        rows=rows,
        rows_note=rows_note,
        source=task.source or json.dumps(task.document, indent=2),
        figures={chart.key: chart.figure for chart in charts},
        library=Markup(library),  # noqa: S704 - our own files, read from the installation
        script=Markup(script),  # noqa: S704
        style=Markup(style),  # noqa: S704
        policy=_policy(library, script),
        show=show,
    )


# --- what is shown ----------------------------------------------------------------------------------------------------


def _tiles(found: Findings, export: Export) -> list[Tile]:
    counts = Counter(point.state for point in export.points)
    budget = export.task.summary.points
    of = f"of {budget} asked for" if budget else ""
    others = [
        f"{counts[state]} {state.value}" for state in PointState if counts[state] and state is not PointState.DONE
    ]
    tiles = [
        Tile(
            label="points done",
            value=str(counts[PointState.DONE]),
            detail=", ".join(filter(None, [of, *others])),
        )
    ]
    if found.has_front and found.front:
        tiles += _front_tiles(found)
    elif found.best is not None and found.median is not None:
        tiles.append(
            Tile(label="best value", value=show(found.best.value, 5), detail=f"point {found.best.number}"),
        )
    if found.gain is not None and len(found.done) > 1 and not found.has_front:
        tiles.append(Tile(label="median value", value=show(found.median, 5), detail="of the points done"))
        percent = f"{found.gain_percent:.1f} %" if found.gain_percent is not None else show(found.gain)
        detail = f"{show(found.gain)} better" if found.gain_percent is not None else ""
        tiles.append(Tile(label="best against median", value=percent, detail=detail))
    workers = {e.worker for e in export.evaluations} | {p.worker for p in export.points if p.worker}
    sites = sorted({e.site for e in export.evaluations if e.site} | {p.site for p in export.points if p.site})
    at = f"at {', '.join(sites)}" if len(sites) <= 3 else f"at {len(sites)} sites"
    tiles.append(Tile(label="workers", value=str(len(workers)), detail=at if sites else ""))
    seconds = run_seconds(export.task.summary, export.exported_at)
    if seconds is not None:
        spent = sum(seconds_between(e.started_at, e.ended_at) or 0.0 for e in export.evaluations)
        detail = f"{show_seconds(spent)} of training" if spent else ""
        tiles.append(Tile(label="duration", value=show_seconds(seconds), detail=detail))
    return tiles


def _front_tiles(found: Findings) -> list[Tile]:
    tiles = [Tile(label="on the front", value=str(len(found.front)), detail=f"of {len(found.done)} points done")]
    for objective in found.objectives[:_MOST_TILES]:
        best = found.best_in(objective)
        if best is not None:
            value = show(best.metrics[objective.metric], 5)
            tiles.append(Tile(label=f"best {objective.metric}", value=value, detail=f"point {best.number}"))
    return tiles


def _trade(found: Findings) -> str:
    """Return what the front says, in a sentence."""
    if len(found.front) < 2:
        return "This point is at least as good as every other in every objective."
    ends = []
    for objective in found.objectives:
        values = [point.metrics[objective.metric] or 0.0 for point in found.front]
        ends.append(f"{objective.metric} {show(min(values), 4)} to {show(max(values), 4)}")
    return (
        "No other point is at least as good as one of these in every objective and better in one. "
        f"They span {', '.join(ends)}."
    )


def _times(export: Export) -> list[tuple[str, str]]:
    times = [
        ("submitted", export.task.summary.created_at),
        ("ended", export.task.summary.ended_at),
        ("this report", export.exported_at),
    ]
    return [(label, _time(text)) for label, text in times if text]


def _time(text: str) -> str:
    at = moment(text)
    return text if at is None else f"{at:%Y-%m-%d %H:%M:%S} {at.tzname() or ''}".rstrip()


def _reasons(export: Export) -> list[Reason]:
    last = {e.point: e for e in export.evaluations if e.state is not EvaluationState.RUNNING}
    groups: dict[str, list[int]] = {}
    for point in export.points:
        if point.state is PointState.FAILED:
            groups.setdefault(point.message or "no message", []).append(point.number)
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [
        Reason(
            message=message,
            points=tuple(numbers),
            output=last[numbers[-1]].output_tail[-_TAIL:] if numbers[-1] in last else "",
        )
        for message, numbers in largest
    ]


def _metrics(found: Findings, export: Export) -> list[str]:
    """Return the names of all metrics, the objectives first."""
    first = [objective.metric for objective in found.objectives]
    others = (name for point in export.points for name in point.metrics if name not in first)
    return [*first, *dict.fromkeys(others)]


def _headings(found: Findings, export: Export, metrics: list[str], names: list[str]) -> list[str]:
    mark = ["front"] if found.has_front else []
    used = _USED if any(evaluation.usage is not None for evaluation in export.evaluations) else ()
    return ["point", "state", *mark, *metrics, *names, "failures", "worker", "duration", *used, "message"]


def _rows(found: Findings, export: Export, metrics: list[str], names: list[str]) -> tuple[list[list[Cell]], str]:
    kept = _kept(found, export.points)
    leading = {point.number for point in found.front} if found.has_front else None
    used = by_point(export.evaluations)
    rows = [
        _row(point, leading, metrics, names, _used(used.get(point.number, Usage())) if used else [])
        for point in sorted(kept, key=lambda point: point.number)
    ]
    note = (
        f"Shown are {len(kept)} of {len(export.points)} points: failures and the best."
        if len(kept) < len(export.points)
        else ""
    )
    return rows, note


def _columns(names: list[str], rows: list[list[Cell]]) -> list[tuple[str, bool]]:
    """Return each column's name, and whether it holds numbers."""
    return [(name, any(row[at].number for row in rows)) for at, name in enumerate(names)]


def _kept(found: Findings, points: list[Point]) -> list[Point]:
    if len(points) <= _MOST_ROWS:
        return points
    failed = [point for point in points if point.state is PointState.FAILED][-_MOST_FAILED_ROWS:]
    return [*failed, *found.ranked()[: _MOST_ROWS - len(failed)]]


def _member(point: Point, metrics: list[str], names: list[str]) -> list[Cell]:
    """Return the row of a point in the table of the front."""
    return [_cell(point.number), *_results(point, metrics), *_settings(point, names)]


def _row(point: Point, leading: set[int] | None, metrics: list[str], names: list[str], used: list[Cell]) -> list[Cell]:
    mark = [] if leading is None else [_ON_FRONT if point.number in leading else _NOT_ON_FRONT]
    seconds = seconds_between(point.started_at, point.ended_at)
    return [
        _cell(point.number),
        Cell(text=point.state.value, key=point.state.value),
        *mark,
        *_results(point, metrics),
        *_settings(point, names),
        _cell(point.attempts),
        Cell(text=point.worker, key=point.worker),
        _amount(seconds, show_seconds),
        *used,
        Cell(text=point.message, key=point.message),
    ]


def _results(point: Point, metrics: list[str]) -> list[Cell]:
    """Return a point's metrics; the first objective is known also of points that have no final metrics."""
    known = {metrics[0]: point.value, **point.metrics}
    return [Cell(text="") if known.get(name) is None else _cell(known[name], 5) for name in metrics]


def _settings(point: Point, names: list[str]) -> list[Cell]:
    return [_cell(point.parameters[name]) if name in point.parameters else Cell(text=INACTIVE) for name in names]


def _used(usage: Usage) -> list[Cell]:
    """Return what all tries of a point used."""
    return [_amount(usage.cpu_seconds, show_seconds), _amount(usage.peak_memory_bytes, show_bytes)]


def _amount(value: N | None, write: Callable[[N], str]) -> Cell:
    return Cell(text="") if value is None else Cell(text=write(value), key=value, number=True)


def _cell(value: str | float | None, digits: int = 4) -> Cell:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Cell(text=show(value, digits), key=value, number=True)
    return Cell(text=show(value), key=show(value))


# --- how it is put together -------------------------------------------------------------------------------------------


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.from_string(_asset("report.html"))


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _policy(*scripts: str) -> str:
    """Return a content security policy: these scripts run and no other; nothing is fetched from anywhere."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    rules = ["default-src 'none'", f"script-src {hashes}", "style-src 'unsafe-inline'", "img-src data: blob:"]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])
