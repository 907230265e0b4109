"""A scrambled Sobol sequence: points that fill the space more evenly than chance (Sobol 1967; scrambling by Owen 1995).

Each point is a function of the task's seed and its number alone. Parameters that a point's conditions switch off are
left out, which thins their own coverage but nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.axes import axis_of
from gridtune_steering.optimizers.port import Option

#: Points drawn at first, as a power of two: the sequence is balanced over such blocks only.
_FIRST_BLOCK = 6


class Sobol:
    """Walks through a Sobol sequence; learns nothing."""

    options: ClassVar[Mapping[str, Option]] = {}
    several_objectives: ClassVar[bool] = True
    finite_spaces_only: ClassVar[bool] = False
    libraries: ClassVar[Sequence[str]] = ("scipy", "numpy")

    def __init__(self, space: SearchSpace, options: dict[str, Any], *, n_objectives: int, seed: int) -> None:
        import numpy as np
        from scipy.stats import qmc

        self._space = space
        self._axes = [axis_of(parameter) for parameter in space]
        self._engine = qmc.Sobol(len(self._axes), scramble=True, rng=np.random.default_rng(seed))
        self._rows: list[list[float]] = self._engine.random_base2(_FIRST_BLOCK).tolist()

    def suggest(self, number: int, seed: int) -> Parameters:
        """The sequence's point of this number."""
        while number >= len(self._rows):
            doubling = len(self._rows).bit_length() - 1  # as many again as there are
            self._rows += self._engine.random_base2(doubling).tolist()
        row = self._rows[number]
        values = {axis.parameter.name: axis.from_unit(u) for axis, u in zip(self._axes, row, strict=True)}
        return {name: values[name] for name in self._space.active(values)}

    def pend(self, number: int, parameters: Parameters) -> None:
        """Nothing to keep."""

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Nothing to learn."""
