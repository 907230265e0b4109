"""A scrambled Sobol sequence: points that fill the space more evenly than chance (Sobol 1967; scrambling by Owen 1995).

Each point is a function of the task's seed and its number alone. Parameters that a point's conditions switch off are
left out, which thins their own coverage but nobody else's; points that break a constraint are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.axes import axis_of
from gridtune_steering.optimizers.port import Optimizer, Problem

#: Points drawn at first, as a power of two: the sequence is balanced over such blocks only.
_FIRST_BLOCK = 6
#: The sequence ends there: it has no more than 2**30 points.
_LAST_BLOCK = 29


class Sobol(Optimizer):
    """Walks through a Sobol sequence; learns nothing."""

    several_objectives: ClassVar[bool] = True
    libraries: ClassVar[Sequence[str]] = ("scipy", "numpy")
    extra: ClassVar[str] = "sobol"

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self._space = problem.space
        self._constraints = problem.constraints
        self._axes = [axis_of(parameter) for parameter in problem.space]
        self._rest = self._sequence(problem.seed)
        self._points: list[Parameters] = []

    def suggest(self, number: int, seed: int) -> Parameters:
        """The sequence's point of this number."""
        self._points += islice(self._rest, max(number + 1 - len(self._points), 0))
        return self._points[number]

    def _sequence(self, seed: int) -> Iterator[Parameters]:
        import numpy as np
        from scipy.stats import qmc

        engine = qmc.Sobol(len(self._axes), scramble=True, rng=np.random.default_rng(seed))
        for block in range(_FIRST_BLOCK, _LAST_BLOCK):
            exponent = block if block == _FIRST_BLOCK else block - 1  # as many again as there are
            yield from filter(self._constraints.hold, map(self._point, engine.random_base2(exponent).tolist()))

    def _point(self, row: Sequence[float]) -> Parameters:
        values = {axis.parameter.name: axis.from_unit(u) for axis, u in zip(self._axes, row, strict=True)}
        return {name: values[name] for name in self._space.active(values)}
