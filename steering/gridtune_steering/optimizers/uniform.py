"""Random search: every point drawn from the space on its own (Bergstra & Bengio, JMLR 13, 2012)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.port import Option


class UniformRandom:
    """Draws each point by its own seed, so nothing that happened before matters."""

    options: ClassVar[Mapping[str, Option]] = {}
    several_objectives: ClassVar[bool] = True
    finite_spaces_only: ClassVar[bool] = False
    libraries: ClassVar[Sequence[str]] = ()

    def __init__(self, space: SearchSpace, options: dict[str, Any], *, n_objectives: int, seed: int) -> None:
        self._space = space

    def suggest(self, number: int, seed: int) -> Parameters:
        """Draw a point."""
        return self._space.sample(random.Random(seed))  # noqa: S311 - a search, not a secret

    def pend(self, number: int, parameters: Parameters) -> None:
        """Nothing to keep."""

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Nothing to learn."""
