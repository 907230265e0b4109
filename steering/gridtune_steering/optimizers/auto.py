"""The default: chooses among the others by the task, and as results come in.

It starts on a Sobol sequence, which tells more about a space than random points do. Then, for one objective, a Gaussian
process proposes three points of four, and Optuna's TPE the fourth: the first is the strongest model of what a few
hundred points can tell, the second models something else, goes on when the first is mistaken, and sees the whole
history when the first has to leave most of it out. For several objectives TPE takes over alone.

All of them learn from all points, whoever proposed them, and who proposes a point depends on its number and on how much
is known. So it leaves no trace in what it suggests, and a rebuild is a matter of telling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.gaussian_process import GaussianProcess
from gridtune_steering.optimizers.optuna_samplers import OptunaTpe
from gridtune_steering.optimizers.port import Optimizer, Option, Problem
from gridtune_steering.optimizers.sobol import Sobol


class Auto(Optimizer):
    """Sobol points, then a Gaussian process with some TPE."""

    several_objectives: ClassVar[bool] = True
    libraries: ClassVar[Sequence[str]] = ("optuna", "scikit-learn", "scipy", "numpy")
    options: ClassVar[Mapping[str, Option]] = {
        "n_initial_points": Option(kind=int, low=1),
        "tpe_every": Option(kind=int, low=0),
    }

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self._problem = problem
        self._n_initial = options.get("n_initial_points", _n_initial(problem))
        self._every = options.get("tpe_every", 4)
        self._sobol = Sobol(problem, {})
        self._tpe = OptunaTpe(problem, {"n_startup_trials": 0})
        self._gp = GaussianProcess(problem, {"n_initial_points": 2}) if problem.n_objectives == 1 else None
        self._n_points = 0
        self._n_done = 0

    def suggest(self, number: int, seed: int) -> Parameters:
        """Let whoever's turn it is propose the point."""
        return self._turn(number).suggest(number, seed)

    def pend(self, number: int, parameters: Parameters) -> None:
        """Tell all."""
        self._n_points += 1
        self._tpe.pend(number, parameters)
        if self._gp is not None:
            self._gp.pend(number, parameters)

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Tell all."""
        self._n_done += losses is not None
        self._tpe.observe(number, losses)
        if self._gp is not None:
            self._gp.observe(number, losses)

    def _turn(self, number: int) -> Optimizer:
        if self._n_points < self._n_initial or self._n_done < 3:
            return self._sobol
        if self._gp is None or (self._every and number % self._every == 0):
            return self._tpe
        return self._gp

    @property
    def rationale(self) -> str:
        """What it does now."""
        return ""


def _n_initial(problem: Problem) -> int:
    """Enough to begin with, and no more than a fifth of the budget."""
    wanted = 4 + len(problem.space)
    return max(4, min(wanted, 16, (problem.budget or 100) // 5))
