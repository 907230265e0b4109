"""Points of a search space as rows of an array: for models and searches that work on many points at once.

A row has a coordinate for each parameter in declared order: a number in the unit interval for a `Real` axis, the place
for an `Index` or a `Choice`, and NaN for a parameter that is not active.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.axes import Axis, Choice, Real, axis_of
from gridtune_steering.optimizers.grid import parents_first


class Coordinates:
    """Between points, rows of coordinates, and rows of features.

    Args:
        space: The search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        import numpy as np

        self._numpy = np
        self._space = space
        self._axes = [axis_of(parameter) for parameter in space]
        self._places = {axis.parameter.name: place for place, axis in enumerate(self._axes)}
        self._conditional = [self._places[each.name] for each in parents_first(space) if each.conditions]

    def encode(self, points: Sequence[Parameters]) -> Any:
        """Rows ``(n, axes)`` for points."""
        rows = self._numpy.full((len(points), len(self._axes)), self._numpy.nan)
        for row, point in zip(rows, points, strict=True):
            for name, value in point.items():
                row[self._places[name]] = self._axes[self._places[name]].encode(value)
        return rows

    def decode(self, row: Any) -> Parameters:
        """The point of a row."""
        np = self._numpy
        return {
            axis.parameter.name: axis.decode(float(coordinate))
            for axis, coordinate in zip(self._axes, row, strict=True)
            if not np.isnan(coordinate)
        }

    def features(self, rows: Any) -> Any:
        """Features ``(n, d)`` in the unit cube: one for an ordered parameter, one a choice for a categorical one."""
        np = self._numpy
        columns = []
        for axis, column in zip(self._axes, rows.T, strict=True):
            if isinstance(axis, Choice):
                columns += [np.where(column == choice, 1.0, 0.0) for choice in range(axis.n)]
            else:
                length = 1.0 if isinstance(axis, Real) else max(axis.n - 1.0, 1.0)
                columns.append(np.nan_to_num(column / length, nan=0.5))
        return np.stack(columns, axis=1)

    def random(self, n: int, rng: Any) -> Any:
        """*n* rows drawn evenly."""
        columns = [
            rng.random(n) if isinstance(axis, Real) else rng.integers(0, axis.n, n).astype(float) for axis in self._axes
        ]
        return self._without_inactive(self._numpy.stack(columns, axis=1))

    def mutate(self, rows: Any, scale: float, rng: Any) -> Any:
        """The rows with some coordinates changed, one at least.

        Args:
            rows: ``(n, axes)``.
            scale: The standard deviation of the changes, as a share of an axis.
            rng: NumPy's generator.
        """
        np = self._numpy
        n, n_axes = rows.shape
        is_changed = rng.random((n, n_axes)) < max(1.5 / n_axes, 0.2)
        is_changed[np.arange(n), rng.integers(0, n_axes, n)] = True
        fresh = self._full(rows, rng)
        changed = [self._changed(axis, column, scale, rng) for axis, column in zip(self._axes, fresh.T, strict=True)]
        return self._without_inactive(np.where(is_changed, np.stack(changed, axis=1), fresh))

    def _full(self, rows: Any, rng: Any) -> Any:
        """The rows with inactive coordinates drawn, in case that they become active."""
        np = self._numpy
        drawn = [rng.random(len(rows)) if isinstance(a, Real) else rng.integers(0, a.n, len(rows)) for a in self._axes]
        return np.where(np.isnan(rows), np.stack(drawn, axis=1), rows)

    def _changed(self, axis: Axis, column: Any, scale: float, rng: Any) -> Any:
        np, n = self._numpy, len(column)
        if isinstance(axis, Real):
            return np.clip(column + rng.normal(0.0, scale, n), 0.0, 1.0)
        if isinstance(axis, Choice):
            return rng.integers(0, axis.n, n).astype(float)
        step = np.maximum(np.round(np.abs(rng.normal(0.0, scale * axis.n, n))), 1.0) * rng.choice([-1.0, 1.0], n)
        return np.clip(column + step, 0.0, axis.n - 1.0)

    def _without_inactive(self, rows: Any) -> Any:
        np = self._numpy
        for place in self._conditional:
            is_active = np.ones(len(rows), dtype=bool)
            for condition in self._axes[place].parameter.conditions:
                parent = self._places[condition.parent]
                is_active &= self._holds(condition, self._axes[parent], rows[:, parent])
            rows[~is_active, place] = np.nan
        return rows

    def _holds(self, condition: Any, parent: Axis, column: Any) -> Any:
        np = self._numpy
        holding = {
            coordinate: condition.holds({condition.parent: parent.decode(float(coordinate))})
            for coordinate in np.unique(column[~np.isnan(column)])
        }
        return np.array([holding.get(coordinate, False) for coordinate in column], dtype=bool)
