"""Hyperopt behind the optimizer port.

Hyperopt's algorithms are functions of the trials and a seed, which makes replay exact: the trials are rebuilt from
history and the seed belongs to the point's number. Annealing and random search do not know of pending points; the
campaign sees to it that none is proposed twice. TPE, which does, has a module of its own.

Hyperopt models every parameter on its own, so a conditional parameter needs no nested space: a trial in which it was
inactive holds no value for it, and what is suggested for an inactive one is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.axes import Axis, Index, Real, axis_of
from gridtune_steering.optimizers.port import Optimizer, Option, Problem


class HyperoptAlgorithm(Optimizer):
    """What all of Hyperopt's algorithms share: the search space."""

    libraries: ClassVar[Sequence[str]] = ("hyperopt", "numpy")
    extra: ClassVar[str] = "hyperopt"

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        import hyperopt  # takes a second: web processes read this class's tables and must not pay for it

        self._hyperopt = hyperopt
        self._space = problem.space
        self._options = options
        self._axes = {parameter.name: axis_of(parameter) for parameter in problem.space}
        distributions = {name: self._distribution(name, axis) for name, axis in self._axes.items()}
        self._domain = hyperopt.Domain(None, distributions)

    def _let_suggest(self, algorithm: str, number: int, seed: int, trials: Sequence[Any] = (), **options: Any) -> Any:
        """What a module of Hyperopt proposes after these trials."""
        known = self._hyperopt.trials_from_docs(list(trials), validate=False)
        suggest = import_module(f"hyperopt.{algorithm}").suggest
        [trial] = suggest([number], self._domain, known, seed, **options)
        return self._point({name: values[0] for name, values in trial["misc"]["vals"].items()})

    def _point(self, coordinates: Mapping[str, float]) -> Parameters:
        everything = {name: axis.decode(float(coordinates[name])) for name, axis in self._axes.items()}
        active = self._space.active(everything)
        return {name: value for name, value in everything.items() if name in active}

    def _distribution(self, name: str, axis: Axis) -> Any:
        hp = self._hyperopt.hp
        if isinstance(axis, Real):
            return hp.uniform(name, 0.0, 1.0)
        if isinstance(axis, Index):
            # half a place beyond both ends, or the ends would be drawn half as often as the others
            return hp.quniform(name, -0.5, axis.n - 0.5, 1)
        return hp.randint(name, axis.n)


class HyperoptRandom(HyperoptAlgorithm):
    """Hyperopt's random search."""

    def suggest(self, number: int, seed: int) -> Parameters:
        """Let Hyperopt draw a point."""
        point: Parameters = self._let_suggest("rand", number, seed)
        return point


class OfTrials(HyperoptAlgorithm):
    """An algorithm of Hyperopt's that learns, asked by way of Hyperopt's own trials."""

    algorithm: ClassVar[str]  #: The module of Hyperopt that suggests.

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        super().__init__(problem, options)
        self._trials: dict[int, dict[str, Any]] = {}

    def suggest(self, number: int, seed: int) -> Parameters:
        """Hand all trials to the algorithm, and translate what it proposes."""
        trials = list(self._trials.values())
        point: Parameters = self._let_suggest(self.algorithm, number, seed, trials, **self._options)
        return point

    def pend(self, number: int, parameters: Parameters) -> None:
        """Make the point a trial without a loss."""
        present = {name: [self._axes[name].encode(value)] for name, value in parameters.items()}
        misc = {
            "tid": number,
            "cmd": None,
            "idxs": {name: [number] if name in present else [] for name in self._axes},
            "vals": {name: present.get(name, []) for name in self._axes},
        }
        self._trials[number] = {
            "tid": number,
            "state": self._hyperopt.JOB_STATE_DONE,
            "spec": None,
            "result": {"status": self._hyperopt.STATUS_NEW},
            "misc": misc,
            "exp_key": None,
            "owner": None,
            "version": 0,
            "book_time": None,
            "refresh_time": None,
        }

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Give the trial its loss; a failed one stays without."""
        if losses is None:
            self._trials[number]["result"] = {"status": self._hyperopt.STATUS_FAIL}
        else:
            self._trials[number]["result"] = {"status": self._hyperopt.STATUS_OK, "loss": losses[0]}


class HyperoptAnneal(OfTrials):
    """Annealing: draws near one of the best points, nearer and nearer as points come in."""

    algorithm: ClassVar[str] = "anneal"
    options: ClassVar[Mapping[str, Option]] = {
        "avg_best_idx": Option(kind=float, low=1.0, high=1000),
        "shrink_coef": Option(kind=float, low=0.0, high=1000),
    }
