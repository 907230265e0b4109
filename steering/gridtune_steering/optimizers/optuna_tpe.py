"""Optuna's Tree-structured Parzen Estimator behind the optimizer port.

Optuna 5 models parameters together (Falkner et al., ICML 2018) and counts pending points as bad ones (constant liar),
both unless the options say otherwise. Its sampler is a function of the trials in a study and a seed, which makes replay
exact. Optuna samples by running trials, so each suggestion is a trial of its own, failed at once and so left out of the
model; a point becomes a trial when it is pending, in the same way whether it was suggested a moment ago or comes from
history.

Conditional parameters are asked for only where they are active, parents first, as Optuna's define-by-run style would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.axes import Axis, Choice, Real, axis_of
from gridtune_steering.optimizers.grid import parents_first
from gridtune_steering.optimizers.port import Option


class OptunaTpe:
    """Tree-structured Parzen Estimator for one or several objectives; failed points are left out of the model."""

    options: ClassVar[Mapping[str, Option]] = {
        "multivariate": Option(kind=bool),
        "constant_liar": Option(kind=bool),
        "n_startup_trials": Option(kind=int),
        "n_ei_candidates": Option(kind=int, low=1, high=10_000),
    }
    several_objectives: ClassVar[bool] = True
    finite_spaces_only: ClassVar[bool] = False
    libraries: ClassVar[Sequence[str]] = ("optuna", "numpy")

    def __init__(self, space: SearchSpace, options: dict[str, Any], *, n_objectives: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._space = space
        self._options = options
        self._axes = {parameter.name: axis_of(parameter) for parameter in parents_first(space)}
        self._distributions = {name: self._distribution(axis) for name, axis in self._axes.items()}
        self._study: Any = optuna.create_study(directions=["minimize"] * n_objectives)
        self._trials: dict[int, int] = {}

    def suggest(self, number: int, seed: int) -> Parameters:
        """Sample the active parameters, jointly where Optuna models them so."""
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, **self._options)
        trial = self._study.ask()
        values: Parameters = {}
        for name, axis in self._axes.items():
            if all(condition.holds(values) for condition in axis.parameter.conditions):
                values[name] = axis.decode(self._ask(trial, name, axis))
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return {name: values[name] for name in self._space.names if name in values}

    def pend(self, number: int, parameters: Parameters) -> None:
        """Make the point a running trial."""
        self._trials[number] = len(self._study.get_trials(deepcopy=False))
        coordinates = {name: self._axes[name].encode(value) for name, value in parameters.items()}
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=self._optuna.trial.TrialState.RUNNING,
                params=coordinates,
                distributions={name: self._distributions[name] for name in coordinates},
            )
        )

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Complete the trial, or let it fail."""
        trial = self._trials[number]
        if losses is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, list(losses))

    def _ask(self, trial: Any, name: str, axis: Axis) -> float:
        if isinstance(axis, Real):
            return float(trial.suggest_float(name, 0.0, 1.0))
        if isinstance(axis, Choice):
            return float(trial.suggest_categorical(name, range(axis.n)))
        return float(trial.suggest_int(name, 0, axis.n - 1))

    def _distribution(self, axis: Axis) -> Any:
        distributions = self._optuna.distributions
        if isinstance(axis, Real):
            return distributions.FloatDistribution(0.0, 1.0)
        if isinstance(axis, Choice):
            return distributions.CategoricalDistribution(range(axis.n))
        return distributions.IntDistribution(0, axis.n - 1)
