"""Random search: every point drawn from the space on its own (Bergstra & Bengio, JMLR 13, 2012)."""

from __future__ import annotations

import random
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.port import Optimizer, Problem


class UniformRandom(Optimizer):
    """Draws each point by its own seed, so nothing that happened before matters."""

    several_objectives: ClassVar[bool] = True

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self._problem = problem

    def suggest(self, number: int, seed: int) -> Parameters:
        """Draw a point."""
        return self._problem.constraints.sample(self._problem.space, random.Random(seed))  # noqa: S311 - no secret
