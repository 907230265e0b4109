"""Objectives in words, and the metrics of points as columns of a table. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gridtune_common.cli import text
from gridtune_common.protocol import Best, Objective, Point, TaskSummary

#: So many metrics beside the objectives have a column of their own.
MOST_OTHERS: Final = 6


def objectives(of: TaskSummary | Best) -> list[Objective]:
    """All objectives; a service that does not tell them all tells the first."""
    return list(of.objectives) or [Objective(of.objective, of.goal)]


def in_words(of: TaskSummary | Best) -> str:
    """What to optimise, for people.

    >>> in_words(Best("minimize", "loss", objectives=[Objective("loss", "minimize"), Objective("size", "minimize")]))
    'minimize loss, minimize size'
    """
    return ", ".join(f"{objective.goal} {text.one_line(objective.metric)}" for objective in objectives(of))


def names(points: Iterable[Point], of: TaskSummary | Best) -> list[str]:
    """The metrics of some points: the objectives first, then the others in the order in which they come."""
    first = [objective.metric for objective in objectives(of)]
    others = (name for point in points for name in point.metrics if name not in first)
    return [*first, *dict.fromkeys(others)]


def shown(metrics: Sequence[str], of: TaskSummary | Best) -> list[str]:
    """Those of the metrics that get a column."""
    return list(metrics[: len(objectives(of)) + MOST_OTHERS])


def cells(point: Point, columns: Sequence[str], of: TaskSummary | Best) -> list[str]:
    """A point's metrics; the first objective is known also of points that have no final metrics."""
    known = {of.objective: point.value, **point.metrics}
    return [text.value(known.get(name)) for name in columns]


def left_out(metrics: Sequence[str], of: TaskSummary | Best) -> str:
    """What to say of metrics without a column; empty if there are none."""
    hidden = metrics[len(objectives(of)) + MOST_OTHERS :]
    return f"not shown: {', '.join(map(text.one_line, hidden))} (--json has all)" if hidden else ""
