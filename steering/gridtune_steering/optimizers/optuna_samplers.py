"""Optuna's samplers behind the optimizer port.

Optuna samples by running trials in a study. A suggestion opens a trial; when the point pends, the trial that proposed
it becomes the point's own, and other open ones are failed, which leaves them out of every model. Points that come from
elsewhere (users, history) become trials of their own. Each suggestion has a sampler of its own, seeded for it, so that
what it draws does not depend on what was drawn before.

TPE is a function of the trials and a seed, so replay is a matter of telling. The evolutionary samplers and the
quasi-random one write their state into the trials that they open: for them, a replay asks again.

TPE asks for conditional parameters only where they are active, parents first, as Optuna's define-by-run style would.
The others need the same parameters in every trial, so they are asked for all, and those that are inactive are dropped.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.axes import Axis, Choice, Real, axis_of, middle
from gridtune_steering.optimizers.grid import parents_first
from gridtune_steering.optimizers.port import Optimizer, Option, Problem

#: Beyond it, the square of a loss is infinite.
_LARGEST = 1e150


class _Optuna(Optimizer):
    """What all of Optuna's samplers share; failed points are left out of their models."""

    libraries: ClassVar[Sequence[str]] = ("optuna", "numpy")
    extra: ClassVar[str] = "optuna"
    sampler: ClassVar[str]  #: The sampler's class in ``optuna.samplers``.
    settings: ClassVar[Mapping[str, Any]] = {}  #: Arguments that are not the user's to choose.
    only_active: ClassVar[bool] = False  #: Whether trials hold active parameters only.

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._space = problem.space
        self._options = options
        self._axes = {parameter.name: axis_of(parameter) for parameter in parents_first(problem.space)}
        self._distributions = {name: self._distribution(axis) for name, axis in self._axes.items()}
        self._study: Any = optuna.create_study(directions=["minimize"] * problem.n_objectives)
        self._open: list[tuple[Any, Parameters]] = []
        self._trials: dict[int, int] = {}

    def suggest(self, number: int, seed: int) -> Parameters:
        """Open a trial and sample its parameters, jointly where Optuna models them so."""
        if not self.asking_matters:
            self._fail_open_trials()
        self._study.sampler = self._sampler(seed)
        trial = self._study.ask()
        values: Parameters = {}
        for name, axis in self._axes.items():
            if not self.only_active or all(condition.holds(values) for condition in axis.parameter.conditions):
                values[name] = axis.decode(self._ask(trial, name, axis))
        point = {name: values[name] for name in self._space.active(values)}
        self._open.append((trial, point))
        return point

    def pend(self, number: int, parameters: Parameters) -> None:
        """Make the point a running trial: the very one that proposed it, if what it holds matters."""
        trial = next((trial for trial, point in self._open if point == parameters and self.asking_matters), None)
        self._fail_open_trials(but=trial)
        self._trials[number] = self._add(parameters) if trial is None else trial.number

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Complete the trial, or let it fail."""
        trial = self._trials[number]
        if losses is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, [min(max(loss, -_LARGEST), _LARGEST) for loss in losses])

    def _sampler(self, seed: int) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            return getattr(self._optuna.samplers, self.sampler)(seed=seed, **{**self.settings, **self._options})

    def _fail_open_trials(self, but: Any = None) -> None:
        for trial, _ in self._open:
            if trial is not but:
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        self._open.clear()

    def _add(self, parameters: Parameters) -> int:
        coordinates = {} if self.only_active else {name: middle(axis) for name, axis in self._axes.items()}
        coordinates.update({name: self._axes[name].encode(value) for name, value in parameters.items()})
        number = len(self._study.get_trials(deepcopy=False))
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=self._optuna.trial.TrialState.RUNNING,
                params=coordinates,
                distributions={name: self._distributions[name] for name in coordinates},
            )
        )
        return number

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


class OptunaTpe(_Optuna):
    """Tree-structured Parzen Estimator for one or several objectives.

    Optuna 5 models parameters together (Falkner et al., ICML 2018) and counts pending points as bad ones (constant
    liar), both unless the options say otherwise.
    """

    sampler: ClassVar[str] = "TPESampler"
    several_objectives: ClassVar[bool] = True
    only_active: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {
        "multivariate": Option(kind=bool),
        "group": Option(kind=bool),
        "constant_liar": Option(kind=bool),
        "n_startup_trials": Option(kind=int),
        "n_ei_candidates": Option(kind=int, low=1, high=10_000),
        "prior_weight": Option(kind=float, low=1e-9),
    }

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        super().__init__(problem, options)
        self._common = self._optuna.search_space.IntersectionSearchSpace(include_pruned=True)

    def _sampler(self, seed: int) -> Any:
        """A new sampler that need not go through all trials again to see which parameters they have in common."""
        sampler = super()._sampler(seed)
        sampler._search_space = self._common  # noqa: SLF001 - only there can it be handed over
        return sampler


class OptunaCmaEs(_Optuna):
    """Covariance Matrix Adaptation (Hansen & Ostermeier 2001); categorical parameters are drawn at random."""

    sampler: ClassVar[str] = "CmaEsSampler"
    settings: ClassVar[Mapping[str, Any]] = {"warn_independent_sampling": False}
    asking_matters: ClassVar[bool] = True
    libraries: ClassVar[Sequence[str]] = ("optuna", "cmaes", "numpy")
    options: ClassVar[Mapping[str, Option]] = {
        "sigma0": Option(kind=float, low=1e-6, high=1.0),
        "popsize": Option(kind=int, low=2, high=10_000),
        "n_startup_trials": Option(kind=int, low=1),
        "use_separable_cma": Option(kind=bool),
        "with_margin": Option(kind=bool),
        "lr_adapt": Option(kind=bool),
    }


class OptunaGp(_Optuna):
    """Gaussian process with expected improvement, fitted to no more than ``max_observations`` results.

    Beyond that many, which would cost their cube, the better half of those that it sees are the best ones, and the
    others a sample of the rest.
    """

    sampler: ClassVar[str] = "GPSampler"
    settings: ClassVar[Mapping[str, Any]] = {"warn_independent_sampling": False}
    libraries: ClassVar[Sequence[str]] = ("optuna", "torch", "scipy", "numpy")
    extra: ClassVar[str] = "optuna-gp"
    options: ClassVar[Mapping[str, Option]] = {
        "n_startup_trials": Option(kind=int),
        "deterministic_objective": Option(kind=bool),
        "max_observations": Option(kind=int, low=10, high=100_000),
    }

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self._most = options.pop("max_observations", 200)
        super().__init__(problem, options)

    def suggest(self, number: int, seed: int) -> Parameters:
        """Sample from a model of the whole study, or of a part that is not too large."""
        whole, self._study = self._study, self._part(random.Random(seed))  # noqa: S311 - no secret
        try:
            return super().suggest(number, seed)
        finally:
            self._fail_open_trials()
            self._study = whole

    def _part(self, rng: random.Random) -> Any:
        state = self._optuna.trial.TrialState
        done = self._study.get_trials(deepcopy=False, states=(state.COMPLETE,))
        if len(done) <= self._most:
            return self._study
        ranked = sorted(done, key=lambda trial: trial.value)
        kept = ranked[: self._most // 2] + rng.sample(ranked[self._most // 2 :], self._most - self._most // 2)
        part = self._optuna.create_study(direction="minimize")
        running = self._study.get_trials(deepcopy=False, states=(state.RUNNING,))
        part.add_trials([*sorted(kept, key=lambda trial: trial.number), *running])
        return part


class OptunaNsga2(_Optuna):
    """Non-dominated sorting genetic algorithm II (Deb et al. 2002), for one or several objectives."""

    sampler: ClassVar[str] = "NSGAIISampler"
    several_objectives: ClassVar[bool] = True
    asking_matters: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {
        "population_size": Option(kind=int, low=2, high=100_000),
        "mutation_prob": Option(kind=float, high=1.0),
        "crossover_prob": Option(kind=float, high=1.0),
        "swapping_prob": Option(kind=float, high=1.0),
    }


class OptunaNsga3(OptunaNsga2):
    """Non-dominated sorting genetic algorithm III (Deb & Jain 2014), for many objectives."""

    sampler: ClassVar[str] = "NSGAIIISampler"
    options: ClassVar[Mapping[str, Option]] = {
        **OptunaNsga2.options,
        "dividing_parameter": Option(kind=int, low=1, high=100),
    }


class OptunaQmc(_Optuna):
    """Quasi-random points: a scrambled Sobol or Halton sequence; categorical parameters are drawn at random."""

    sampler: ClassVar[str] = "QMCSampler"
    settings: ClassVar[Mapping[str, Any]] = {"scramble": True, "warn_independent_sampling": False}
    several_objectives: ClassVar[bool] = True
    asking_matters: ClassVar[bool] = True
    libraries: ClassVar[Sequence[str]] = ("optuna", "scipy", "numpy")
    options: ClassVar[Mapping[str, Option]] = {
        "qmc_type": Option(kind=str, choices=("sobol", "halton")),
        "scramble": Option(kind=bool),
    }
