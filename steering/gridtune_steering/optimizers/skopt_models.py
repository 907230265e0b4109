"""Scikit-optimize behind the optimizer port: a model of the loss, and the point that it expects most of.

The model is fitted anew for every suggestion, to what is known then: so suggestions leave no trace and replay is a
matter of telling. Scikit-optimize knows no pending points: they are told with the worst loss known (constant liar,
Ginsbourger et al. 2010), which keeps workers that ask at the same time apart, and so are failed ones, which keeps the
search away from where trainings crash. Losses that are out of all proportion are cut, or they would be all that a model
sees.

A Gaussian process costs the cube of the number of points it is fitted to, a forest somewhat more than that number. So a
model sees no more than ``max_observations`` results: the better half of them the best, the other half a sample of the
rest.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.axes import Axis, Choice, Real, axis_of, middle
from gridtune_steering.optimizers.losses import tame
from gridtune_steering.optimizers.port import Optimizer, Option, Problem

#: Points drawn at random before there is a model: scikit-optimize's default.
_N_INITIAL = 10
#: A pending point beyond so many, the newest first, is not lied about: a thousand lies would drown the truth.
_MOST_LIES = 100

_OPTIONS: Mapping[str, Option] = {
    "n_initial_points": Option(kind=int, low=1),
    "acq_func": Option(kind=str, choices=("EI", "PI", "LCB")),
    "xi": Option(kind=float),
    "kappa": Option(kind=float),
    "n_points": Option(kind=int, low=10, high=100_000),
    "max_observations": Option(kind=int, low=10, high=100_000),
}


class _Skopt(Optimizer):
    """What all of scikit-optimize's models share."""

    libraries: ClassVar[Sequence[str]] = ("scikit-optimize", "scikit-learn", "numpy")
    extra: ClassVar[str] = "skopt"
    options: ClassVar[Mapping[str, Option]] = _OPTIONS
    max_observations: ClassVar[int]  #: How many results the model sees by default.

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        import skopt

        self._skopt = skopt
        self._problem = problem
        self._options = {"n_initial_points": _N_INITIAL, "max_observations": self.max_observations, **options}
        self._axes = {parameter.name: axis_of(parameter) for parameter in problem.space}
        self._rows: dict[int, list[float]] = {}
        self._losses: dict[int, float] = {}
        self._without: dict[int, None] = {}  # pending or failed, in order

    def suggest(self, number: int, seed: int) -> Parameters:
        """Fit the model and propose the point of the largest acquisition; at first, a random one."""
        if len(self._losses) < self._options["n_initial_points"]:
            return self._problem.constraints.sample(self._problem.space, random.Random(seed))  # noqa: S311 - no secret
        seen = self._sample(random.Random(seed))  # noqa: S311 - no secret
        losses = tame([self._losses[each] for each in seen])
        lies = list(self._without)[-_MOST_LIES:]
        rows = [self._rows[each] for each in [*seen, *lies]]
        optimizer = self._optimizer(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fits that end early, points that are known: the campaign sees to those
            optimizer.tell(rows, [*losses, *[max(losses)] * len(lies)])
            return self._point(optimizer.ask())

    def pend(self, number: int, parameters: Parameters) -> None:
        """Lie about the point until its result is known."""
        row = {name: middle(axis) for name, axis in self._axes.items()}
        row.update({name: self._axes[name].encode(value) for name, value in parameters.items()})
        self._rows[number] = list(row.values())
        self._without[number] = None

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Tell the truth from now on; of a failed point nothing is known but that it is no good."""
        if losses is not None:
            self._losses[number] = losses[0]
            del self._without[number]

    def _estimator(self, seed: int) -> Any:
        """What scikit-optimize is to fit: its name for a model, or a model."""
        raise NotImplementedError

    def _sample(self, rng: random.Random) -> list[int]:
        most = self._options["max_observations"]
        if len(self._losses) <= most:
            return list(self._losses)
        ranked = sorted(self._losses, key=self._losses.__getitem__)
        return sorted(ranked[: most // 2] + rng.sample(ranked[most // 2 :], most - most // 2))

    def _optimizer(self, seed: int) -> Any:
        search = {"n_points": self._options["n_points"]} if "n_points" in self._options else {}
        return self._skopt.Optimizer(
            [self._dimension(axis) for axis in self._axes.values()],
            base_estimator=self._estimator(seed),
            n_initial_points=1,
            acq_func=self._options.get("acq_func", "EI"),
            acq_func_kwargs={key: self._options[key] for key in ("xi", "kappa") if key in self._options},
            acq_optimizer_kwargs=search,
            random_state=seed,
            avoid_duplicates=False,  # the campaign does that, for all optimizers alike
        )

    def _point(self, row: Sequence[Any]) -> Parameters:
        values = {name: axis.decode(float(x)) for (name, axis), x in zip(self._axes.items(), row, strict=True)}
        return {name: values[name] for name in self._problem.space.active(values)}

    def _dimension(self, axis: Axis) -> Any:
        dimensions = self._skopt.space
        if isinstance(axis, Real):
            return dimensions.Real(0.0, 1.0)
        if isinstance(axis, Choice):
            return dimensions.Categorical(range(axis.n))
        return dimensions.Integer(0, max(axis.n - 1, 1))  # it does not take a row of one; decoding knows better


class SkoptGp(_Skopt):
    """Gaussian process with a Matérn kernel."""

    max_observations: ClassVar[int] = 100

    def _estimator(self, seed: int) -> Any:
        return "GP"


class SkoptRandomForest(_Skopt):
    """Random forest."""

    max_observations: ClassVar[int] = 1000

    def _estimator(self, seed: int) -> Any:
        return "RF"


class SkoptExtraTrees(_Skopt):
    """Extremely randomised trees."""

    max_observations: ClassVar[int] = 1000

    def _estimator(self, seed: int) -> Any:
        return "ET"


class SkoptBoostedTrees(_Skopt):
    """Gradient-boosted trees for three quantiles."""

    max_observations: ClassVar[int] = 1000

    def _estimator(self, seed: int) -> Any:
        return boosted_trees(seed)


def boosted_trees(seed: int | None = None) -> Any:
    """What scikit-optimize makes of "GBRT", in a form that newer versions of scikit-learn and NumPy take."""
    from sklearn.ensemble import GradientBoostingRegressor
    from skopt.learning import GradientBoostingQuantileRegressor

    class Quantiles(GradientBoostingQuantileRegressor):  # type: ignore[misc]  # ships no types
        def __sklearn_tags__(self) -> Any:
            tags = super().__sklearn_tags__()
            tags.estimator_type = "regressor"
            return tags

        def predict(self, rows: Any, return_std: bool = False, return_quantiles: bool = False) -> Any:
            if not return_std:
                return super().predict(rows, return_quantiles=return_quantiles)
            low, middle, high = super().predict(rows, return_quantiles=True).T  # the other way needs an older NumPy
            return middle, (high - low) / 2

    boosted = GradientBoostingRegressor(n_estimators=30, loss="quantile")  # scikit-optimize's default
    return Quantiles(base_estimator=boosted, random_state=seed)
