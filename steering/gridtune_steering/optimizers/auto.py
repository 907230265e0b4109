"""The default: chooses among the others by the task, and as results come in.

It starts in the middle of the space and goes on with a Sobol sequence, which tells more about a space than random
points do. Then, for one objective, a Gaussian process proposes three points of four, and Optuna's TPE the fourth: the
first is the strongest model of what a few hundred points can tell, the second models something else, goes on when the
first is mistaken, and sees the whole history when the first has to leave most of it out. For several objectives TPE
takes over alone.

All of them learn from all points, whoever proposed them, and who proposes a point depends on its number and on how much
is known. So it leaves no trace in what it suggests, and a rebuild is a matter of telling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.axes import axis_of
from gridtune_steering.optimizers.gaussian_process import GaussianProcess
from gridtune_steering.optimizers.optuna_samplers import OptunaTpe
from gridtune_steering.optimizers.port import Optimizer, Option, Problem
from gridtune_steering.optimizers.sobol import Sobol

#: One point in so many is TPE's.
_TPE_EVERY = 4
#: Results that a model cannot do without.
_FEWEST = 3


class Auto(Optimizer):
    """Sobol points, then a Gaussian process with some TPE; or TPE alone."""

    several_objectives: ClassVar[bool] = True
    libraries: ClassVar[Sequence[str]] = ("optuna", "scikit-learn", "scipy", "numpy")
    options: ClassVar[Mapping[str, Option]] = {"n_initial_points": Option(kind=int, low=1)}

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self._problem = problem
        self._n_initial = options.get("n_initial_points", _n_initial(problem))
        self._sobol = Sobol(problem, {})
        self._tpe = OptunaTpe(problem, {"n_startup_trials": 0})
        self._process = GaussianProcess(problem, {"n_initial_points": 2}) if problem.n_objectives == 1 else None
        self._models = [self._tpe] if self._process is None else [self._tpe, self._process]
        self._n_points = 0
        self._n_done = 0

    def suggest(self, number: int, seed: int) -> Parameters:
        """Let whoever's turn it is propose the point; the very first is the middle of the space."""
        if self._n_points == 0 and self._is_starting:
            centre = self._centre()
            if self._problem.constraints.hold(centre):
                return centre
        return self._turn(number).suggest(number, seed)

    def pend(self, number: int, parameters: Parameters) -> None:
        """Tell all models."""
        self._n_points += number >= 0
        for model in self._models:
            model.pend(number, parameters)

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Tell all models."""
        self._n_done += losses is not None
        for model in self._models:
            model.observe(number, losses)

    @property
    def rationale(self) -> str:
        """What it does now, and why."""
        if self._is_starting:
            return f"Sobol sequence: {self._n_initial} points that fill the space evenly, the first in its middle"
        if self._process is None:
            return f"optuna/tpe: it models {self._problem.n_objectives} objectives at once"
        return (
            f"gp: a Gaussian process makes most of few results; every {_TPE_EVERY}th point by optuna/tpe,"
            " which sees the whole history and makes no assumption of smoothness"
        )

    def _centre(self) -> Parameters:
        """Where people put the values that they believe in, when they choose the bounds."""
        values = {parameter.name: axis_of(parameter).from_unit(0.5) for parameter in self._problem.space}
        return {name: values[name] for name in self._problem.space.active(values)}

    @property
    def _is_starting(self) -> bool:
        """Whether too little is known: users' own results shorten the start, failures lengthen it."""
        n_known = max(self._n_points, self._n_done)
        return n_known < self._n_initial or self._n_done < _FEWEST

    def _turn(self, number: int) -> Optimizer:
        if self._is_starting:
            return self._sobol
        return self._tpe if self._process is None or number % _TPE_EVERY == 0 else self._process


def _n_initial(problem: Problem) -> int:
    """Enough to begin with, and no more than a fifth of the budget."""
    wanted = 4 + len(problem.space)
    return max(4, min(wanted, 16, (problem.budget or 100) // 5))
