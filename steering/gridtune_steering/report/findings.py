"""What a task found out: the numbers that its report shows, without how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from gridtune_common.protocol import Export, Objective, Point, PointState, TaskSummary
from gridtune_steering.campaign.front import front

from .axes import is_number

ENDED = (PointState.DONE, PointState.STOPPED, PointState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The results of a task.

    Attributes:
        ended: The points that are done, stopped or failed, in the order in which they ended.
        done: Those of them that are done and have a value of the objective.
        best: The first of the done points with the best value; with several objectives, the first of the front.
        median: The median value of the done points.
        objectives: All objectives; values are those of the first.
        front: With several objectives, the done points that no other dominates, best in the first objective first.
    """

    minimize: bool
    ended: tuple[Point, ...]
    done: tuple[Point, ...]
    best: Point | None
    median: float | None
    objectives: tuple[Objective, ...]
    front: tuple[Point, ...]

    @property
    def has_front(self) -> bool:
        """Whether there are several objectives, so that no point is the best of all."""
        return len(self.objectives) > 1

    @property
    def leaders(self) -> tuple[Point, ...]:
        """The points to point out: the front or, with one objective, the best point."""
        return self.front or ((self.best,) if self.best is not None else ())

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
        """Return the done points, best first; with several objectives, the front before all others."""
        leading = {point.number for point in self.front}
        return sorted(self.done, key=lambda point: (point.number not in leading, self._loss(point)))

    def best_in(self, objective: Objective) -> Point | None:
        """Return the point of the front with the best value of one of several objectives."""
        sign = 1 if objective.goal == "minimize" else -1
        return min(self.front, key=lambda point: sign * (point.metrics[objective.metric] or 0.0), default=None)

    def _loss(self, point: Point) -> float:
        return value_of(point) if self.minimize else -value_of(point)


def findings(export: Export) -> Findings:
    """Return what the points of *export* say."""
    summary = export.task.summary
    minimize = not summary.goal.startswith("max")
    ended = tuple(sorted((p for p in export.points if p.state in ENDED), key=_end))
    done = tuple(p for p in ended if p.state is PointState.DONE and is_number(p.value))
    objectives = tuple(summary.objectives) or (Objective(summary.objective, summary.goal),)
    leading = _front(objectives, done) if len(objectives) > 1 else ()
    best = min(done, key=lambda p: (value_of(p) if minimize else -value_of(p), p.number), default=None)
    return Findings(
        minimize=minimize,
        ended=ended,
        done=done,
        best=leading[0] if leading else best,
        median=median(value_of(p) for p in done) if done else None,
        objectives=objectives,
        front=leading,
    )


def _front(objectives: Sequence[Objective], done: Sequence[Point]) -> tuple[Point, ...]:
    by_number = {point.number: point for point in done}
    numbers = front(objectives, {point.number: point.metrics for point in done})
    return tuple(by_number[number] for number in numbers)


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
