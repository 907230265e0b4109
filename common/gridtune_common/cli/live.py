"""The live view of a task as lines of text. Pure: a view goes in, lines come out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gridtune_common.cli import text
from gridtune_common.cli.output import Style
from gridtune_common.protocol import PointCounts, TaskState

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS: Final = "_.-=+*%#"
_BAR_WIDTH: Final = 40

#: A piece of a line with its colour.
Span = tuple[str, str]


@dataclass(frozen=True)
class RunningPoint:
    """A point that a worker evaluates; *latest* is the newest report in words."""

    number: int
    worker: str
    seconds: float | None
    latest: str = ""


@dataclass(frozen=True)
class FailedPoint:
    """A point that failed, and why."""

    number: int
    message: str


@dataclass(frozen=True)
class View:
    """What there is to see of a task at one moment.

    Attributes:
        budget: How many points the task may make; None without such a rule.
        eta_seconds: What is left at the present pace; None if that cannot be told.
        n_front: With several objectives, how many points are on the front.
        curve: Best-so-far values of the first objective, oldest first.
        running: Some of the running points; ``counts`` has their number.
        unfit: Why the task fits no worker that was seen lately.
        notice: What is wrong with the view itself.
    """

    name: str
    id: str
    state: TaskState
    counts: PointCounts
    objective: str
    goal: str
    reason: str = ""
    budget: int | None = None
    elapsed_seconds: float | None = None
    eta_seconds: float | None = None
    best: float | None = None
    best_point: int | None = None
    n_front: int | None = None
    best_parameters: dict[str, Any] = field(default_factory=dict)
    curve: tuple[float, ...] = ()
    running: tuple[RunningPoint, ...] = ()
    failures: tuple[FailedPoint, ...] = ()
    unfit: str = ""
    notice: str = ""


def render(view: View, width: int, style: Style | None = None) -> list[str]:
    """The view as lines of at most *width* columns."""
    style = style or Style()
    lines = [
        _head(view, style),
        _progress(view, width, style),
        _times(view, style),
        *_best(view, width, style),
        *_running(view),
        *_failures(view),
    ]
    if view.unfit:
        lines.append([(text.one_line(view.unfit), "yellow")])
    if view.notice:
        lines.append([(view.notice, "yellow")])
    return [_fit(spans, width, style) for spans in lines]


def one_line(view: View, style: Style | None = None) -> str:
    """The view on one line, for logs."""
    style = style or Style(unicode=False)
    parts = [_tally(view, style)]
    if view.best is not None:
        parts += [front] if (front := _front(view)) else []
        parts.append(f"best {view.objective} {text.value(view.best)} at point {view.best_point}")
    if view.eta_seconds is not None and view.state is TaskState.RUNNING:
        parts.append(f"about {text.duration(view.eta_seconds)} left")
    parts += filter(None, [text.one_line(view.unfit), view.notice])
    return f"{text.one_line(view.name)} {view.state.value}: " + ", ".join(parts)


def _head(view: View, style: Style) -> list[Span]:
    state = view.state.value
    spans = [
        (text.one_line(view.name), "bold"),
        (f"  {view.id}  ", "dim"),
        (state, text.STATE_COLOURS.get(state, "")),
    ]
    return [*spans, (f"  {text.one_line(view.reason)}", "")] if view.reason else spans


def _progress(view: View, width: int, style: Style) -> list[Span]:
    tally = _tally(view, style)
    room = min(_BAR_WIDTH, width // 3, width - text.cells(tally) - 2)  # as steady as the width allows
    if not view.budget or room < 5:
        return [(tally, "")]
    over = view.counts.done + view.counts.stopped + view.counts.failed
    filled = min(room, room * over // view.budget)
    full, empty = ("█", "░") if style.unicode else ("#", ".")
    return [(full * filled, "green"), (empty * (room - filled), "dim"), (f"  {tally}", "")]


def _tally(view: View, style: Style) -> str:
    counts = view.counts
    done = f"{counts.done}/{view.budget} done" if view.budget else f"{counts.done} done"
    others = ("running", "ready", "paused", "stopped", "failed")
    return ", ".join([done, *(f"{getattr(counts, name)} {name}" for name in others if getattr(counts, name))])


def _times(view: View, style: Style) -> list[Span]:
    words = f"{text.duration(view.elapsed_seconds)} elapsed"
    if view.eta_seconds is not None and view.state is TaskState.RUNNING:
        words += f", about {text.duration(view.eta_seconds)} left"
    return [(words, "dim")]


def _best(view: View, width: int, style: Style) -> list[list[Span]]:
    if view.best is None:
        return [[(f"no value of {text.one_line(view.objective)} yet", "dim")]]
    first: list[Span] = [
        (f"{front}, best " if (front := _front(view)) else "best ", ""),
        (f"{text.one_line(view.objective)} {text.value(view.best)}", "bold"),
        (f" at point {view.best_point}", ""),
        *([(f"  {text.pairs(view.best_parameters)}", "dim")] if view.best_parameters else []),
    ]
    if len(view.curve) < 2:
        return [first]
    arrow = "→" if style.unicode else "->"
    ends = f"{text.value(view.curve[0])} {arrow} {text.value(view.curve[-1])}"
    room = min(_BAR_WIDTH, width // 3, width - text.cells(ends) - 2)
    return [first, [(sparkline(view.curve, room, style), "cyan"), (f"  {ends}", "")]] if room >= 5 else [first]


def _front(view: View) -> str:
    """The front of a task with several objectives in words; empty with one."""
    if not view.n_front:
        return ""
    return "front of 1 point" if view.n_front == 1 else f"front of {view.n_front} points"


def _running(view: View) -> list[list[Span]]:
    if not view.running:
        return []
    rows = [
        [f"  point {point.number}", text.one_line(point.worker), text.duration(point.seconds), point.latest]
        for point in view.running
    ]
    lines: list[list[Span]] = [[(line, "")] for line in text.table(["  running", "worker", "time", "latest"], rows)]
    more = view.counts.running - len(view.running)
    lines = [[(lines[0][0][0], "dim")], *lines[1:]]
    return [*lines, [(f"  and {more} more", "dim")]] if more > 0 else lines


def _failures(view: View) -> list[list[Span]]:
    return [
        [(f"  point {failure.number} failed: ", "red"), (text.one_line(failure.message) or "no message", "")]
        for failure in view.failures
    ]


def sparkline(values: Sequence[float], width: int, style: Style | None = None) -> str:
    """Values as blocks of different heights, the lowest value lowest; on a log scale if they span more than a decade.

    >>> sparkline([4.0, 3.0, 1.0, 1.0], 40)
    '█▆▁▁'
    >>> sparkline([4.0, 3.0, 1.0, 1.0], 40, Style(unicode=False))
    '#*__'
    """
    blocks = _BLOCKS if (style or Style()).unicode else _ASCII_BLOCKS
    shown = _thinned(values, width)
    if 0 < 10 * min(shown) < max(shown):
        shown = [math.log(value) for value in shown]
    low, high = min(shown), max(shown)
    if low == high:
        return blocks[0] * len(shown)
    top = len(blocks) - 1
    return "".join(blocks[round((value - low) / (high - low) * top)] for value in shown)


def _thinned(values: Sequence[float], width: int) -> list[float]:
    """At most *width* of the values, evenly, with the first and the last among them."""
    if len(values) <= width:
        return list(values)
    return [values[round(index * (len(values) - 1) / (width - 1))] for index in range(width)]


def _fit(spans: Sequence[Span], width: int, style: Style) -> str:
    shown, room = "", width
    for content, colour in spans:
        kept = text.clip(content, room, style) if room > 0 else ""
        room -= text.cells(kept)
        shown += style.paint(kept, colour) if kept else ""
        if kept != content:
            break
    return shown
