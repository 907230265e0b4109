"""What a task found out: the numbers that its report shows, without how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from gridtune_common.protocol import Export, Point, PointState, TaskSummary

from .axes import is_number

ENDED = (PointState.DONE, PointState.STOPPED, PointState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The results of a task.

    Attributes:
        ended: The points that are done, stopped or failed, in the order in which they ended.
        done: Those of them that are done and have a value of the objective.
        best: The first of the done points with the best value.
        median: The median value of the done points.
    """

    minimize: bool
    ended: tuple[Point, ...]
    done: tuple[Point, ...]
    best: Point | None
    median: float | None

    @property
    def gain(self) -> float | None:
        """By how much the best value is better than the median, in the metric's unit."""
        if self.best is None or self.median is None:
            return None
        return abs(self.median - value_of(self.best))

    @property
    def gain_percent(self) -> float | None:
        """The gain in percent of the median, or None if the median is zero."""
        return 100 * self.gain / abs(self.median) if self.gain is not None and self.median else None

    def better(self, one: float, other: float) -> bool:
        """Whether the value *one* is better than *other*."""
        return one < other if self.minimize else one > other

    def ranked(self) -> list[Point]:
        """Return the done points, best first."""
        return sorted(self.done, key=lambda point: value_of(point) if self.minimize else -value_of(point))


def findings(export: Export) -> Findings:
    """Return what the points of *export* say."""
    minimize = not export.task.summary.goal.startswith("max")
    ended = tuple(sorted((p for p in export.points if p.state in ENDED), key=_end))
    done = tuple(p for p in ended if p.state is PointState.DONE and is_number(p.value))
    best = min(done, key=lambda p: (value_of(p) if minimize else -value_of(p), p.number), default=None)
    middle = median(value_of(p) for p in done) if done else None
    return Findings(minimize=minimize, ended=ended, done=done, best=best, median=middle)


def value_of(point: Point) -> float:
    """Return the objective of a done point."""
    if point.value is None:
        raise ValueError(f"point {point.number} has no value")
    return float(point.value)


def chosen(points: Sequence[Point], ranked: Sequence[Point], limit: int) -> list[Point]:
    """Return at most *limit* of *points* in their order: the best half, and an even sample of all others."""
    if len(points) <= limit:
        return list(points)
    best = {point.number for point in ranked[: limit // 2]}
    others = [point.number for point in points if point.number not in best]
    n_others = limit - len(best)
    sample = {others[i * len(others) // n_others] for i in range(n_others)}
    return [point for point in points if point.number in best or point.number in sample]


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds from one ISO 8601 time to another, or None if one is missing or unreadable."""
    one, other = moment(start), moment(end)
    if one is None or other is None or (one.tzinfo is None) != (other.tzinfo is None):
        return None
    return max(0.0, (other - one).total_seconds())


def moment(text: str | None) -> datetime | None:
    """Read an ISO 8601 time."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def run_seconds(summary: TaskSummary, now: str) -> float | None:
    """Return how long a task ran, to its end or until *now*."""
    return seconds_between(summary.created_at, summary.ended_at or now)


def _end(point: Point) -> tuple[str, int]:
    return (point.ended_at or "~", point.number)  # "~" sorts after every time
