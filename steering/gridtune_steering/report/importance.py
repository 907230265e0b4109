"""Which parameters matter: permutation importance in a random forest.

The forest (Breiman 2001) learns the rank of a point from its parameters; then each parameter is shuffled among the
points, and its importance is what the forest's predictions lose by that (section 10 of the paper). How far to trust it
is told by the points that a tree did not learn from. Ranks, not values: one diverged training would outweigh all else.

L. Breiman, Random Forests, Machine Learning 45 (2001) 5-32, https://doi.org/10.1023/A:1010933404324
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridtune_common.protocol import Point, PointState

from .axes import Axis, axes, is_number

#: With fewer done points than this, a forest finds patterns in noise.
LEAST_POINTS = 10
_MOST_POINTS = 600
_TREES = 200
_SHUFFLES = 10
_INACTIVE = -1.0  # below every position: one split of a tree tells it from the active values


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The importance of each parameter, and how far to trust it.

    Attributes:
        shares: Names with their shares, which add up to 1, largest first.
        explained: The share of the ranks' variance that the forest explains in points that it has not seen.
    """

    shares: list[tuple[str, float]]
    explained: float


def importance(document: Mapping[str, Any], points: Sequence[Point]) -> list[tuple[str, float]]:
    """Return the importance of each parameter, largest first; the shares add up to 1.

    Empty when nothing can be said: fewer than ten done points, values that do not vary, or a forest that sees
    no connection between parameters and values.
    """
    found = study(document, points)
    return found.shares if found else []


def study(document: Mapping[str, Any], points: Sequence[Point]) -> Study | None:
    """Return the importance of the parameters of a task, or None when nothing can be said."""
    done = [point for point in points if point.state is PointState.DONE and is_number(point.value)]
    space = document.get("space") or {}
    if len(done) < LEAST_POINTS or len({point.value for point in done}) < 2 or not space:
        return None
    return _study(space, done[:: -(-len(done) // _MOST_POINTS)])


def _study(space: Mapping[str, Any], done: Sequence[Point]) -> Study | None:
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    columns = axes(space, (p.parameters for p in done))
    table = np.array([[_encoded(axis, p) for axis in columns] for p in done])
    values = np.array([p.value for p in done], dtype=float)
    ranks = (np.searchsorted(np.sort(values), values) / len(values)).astype(float)
    forest = RandomForestRegressor(n_estimators=_TREES, min_samples_leaf=2, oob_score=True, random_state=0)
    forest.fit(table, ranks)
    growth = permutation_importance(forest, table, ranks, n_repeats=_SHUFFLES, random_state=0).importances_mean
    growth = np.maximum(growth, 0.0)
    if growth.sum() <= 0:
        return None
    pairs = [(axis.name, float(share)) for axis, share in zip(columns, growth / growth.sum(), strict=True)]
    return Study(shares=sorted(pairs, key=lambda pair: -pair[1]), explained=max(0.0, float(forest.oob_score_)))


def _encoded(axis: Axis, point: Point) -> float:
    position = axis.position(point.parameters[axis.name]) if axis.name in point.parameters else None
    return _INACTIVE if position is None else position
