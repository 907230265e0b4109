"""Bayesian optimisation with a Gaussian process on mixed spaces, by scikit-learn's regression.

The model is the plain one, with the prior on length scales that makes it work in many dimensions (Hvarfner, Hellsten &
Nardi, "Vanilla Bayesian Optimization Performs Great in High Dimensions", ICML 2024), after a power transform of the
losses, which are seldom Gaussian (Cowen-Rivers et al., HEBO, JAIR 74, 2022). Ordered parameters are one coordinate in
the unit interval, categorical ones a coordinate for each choice; a parameter that is not active stands in the middle,
or on none of its choices.

The next point maximises the expected improvement. It is looked for among random points and by an evolution of the
best of them and of the best points known, which serves integers and categories as well as floats. Pending points are
believed to come out as the model expects (kriging believer, Ginsbourger et al. 2010).

A fit costs the cube of the number of points, so the model sees no more than ``max_observations`` of them: the better
half are the best ones, the others the newest. Beyond that it knows the region of the best points well and little of the
rest.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.coordinates import Coordinates
from gridtune_steering.optimizers.losses import tame
from gridtune_steering.optimizers.port import Optimizer, Option, Problem

#: Random candidates, best known points to start from, and the evolution's parents and children in each round.
_N_RANDOM, _N_STARTS, _PARENTS, _CHILDREN = 500, 10, 20, 15
#: How far children are from their parents in each round, as a share of an axis.
_SCALES = (0.2, 0.08, 0.03, 0.01, 0.003)
#: So many of the best candidates are tried for one that is new and allowed.
_MOST_TRIED = 200
#: Steps of an iterative fit; more change little.
_FIT_STEPS = 40
#: The variance of the noise that is most probable before there are results, which have variance 1.
_NOISE = 1e-4


class GaussianProcess(Optimizer):
    """Gaussian process with expected improvement."""

    libraries: ClassVar[Sequence[str]] = ("scikit-learn", "scipy", "numpy")
    options: ClassVar[Mapping[str, Option]] = {
        "n_initial_points": Option(kind=int, low=2),
        "max_observations": Option(kind=int, low=10, high=1000),
    }

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self._problem = problem
        self._n_initial = options.get("n_initial_points", 8)
        self._most = options.get("max_observations", 100)
        self._points: dict[int, Parameters] = {}
        self._known: set[str] = set()
        self._losses: dict[int, float] = {}
        self._pending: dict[int, None] = {}  # in order, as a set would not be
        self._failed: dict[int, None] = {}

    def suggest(self, number: int, seed: int) -> Parameters:
        """Fit the model and look for the point of the largest expected improvement; at first, draw a random one."""
        if len(self._losses) < self._n_initial:
            return self._problem.constraints.sample(self._problem.space, random.Random(seed))  # noqa: S311 - no secret
        seen = self._seen()
        losses = tame([self._losses[number] for number in seen])
        failed = list(self._failed)[-self._most :]
        coordinates = Coordinates(self._problem.space)
        known = coordinates.encode([self._points[number] for number in [*seen, *failed]])
        model = _Model(coordinates.features(known), [*losses, *[max(losses)] * len(failed)])
        awaited = [self._points[number] for number in list(self._pending)[-self._most :]]
        model.believe(coordinates.features(coordinates.encode(awaited)))
        best_first = sorted(range(len(seen)), key=losses.__getitem__)
        search = _Search(coordinates, model, seed)
        return self._first_new(coordinates, search.best_first(known[best_first[:_N_STARTS]]))

    def pend(self, number: int, parameters: Parameters) -> None:
        """Expect what the model expects until the result is known."""
        self._points[number] = parameters
        self._known.add(_key(parameters))
        self._pending[number] = None

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Learn the loss; of a failed point nothing is known but that it is no better than the worst."""
        del self._pending[number]
        if losses is None:
            self._failed[number] = None
        else:
            self._losses[number] = losses[0]

    def _seen(self) -> list[int]:
        if len(self._losses) <= self._most:
            return list(self._losses)
        best = sorted(self._losses, key=self._losses.__getitem__)[: self._most // 2]
        others = self._losses.keys() - set(best)
        newest = islice((number for number in reversed(self._losses) if number in others), self._most - len(best))
        return sorted([*best, *newest])

    def _first_new(self, coordinates: Coordinates, rows: Sequence[Any]) -> Parameters:
        """The first that is not there yet and allowed; the very first if there is none."""
        points = (coordinates.decode(row) for row in rows[:_MOST_TRIED])
        is_good = self._problem.constraints.hold
        return next(
            (point for point in points if _key(point) not in self._known and is_good(point)),
            coordinates.decode(rows[0]),
        )


class _Model:
    """The regression on features, with losses made more Gaussian.

    Args:
        features: ``(n, d)``, in the unit cube.
        losses: ``n`` of them.
    """

    def __init__(self, features: Any, losses: Sequence[float]) -> None:
        import numpy as np

        self._features = features
        self._targets = _gaussian(np.asarray(losses))
        self._process = _regression(features.shape[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a fit stopped early, or at a bound, is as intended
            self._process.fit(features, self._targets)
        self._kernel = self._process.kernel_
        self._noise = float(self._kernel.k2.noise_level)
        self._goal = float(self._process.predict(features).min())

    def believe(self, features: Any) -> None:
        """Take what is expected of these points for their results."""
        import numpy as np
        from sklearn.gaussian_process import GaussianProcessRegressor

        if not len(features):
            return
        targets = np.concatenate([self._targets, self._process.predict(features)])
        certain = GaussianProcessRegressor(kernel=self._kernel, optimizer=None)
        self._process = certain.fit(np.concatenate([self._features, features]), targets)

    def improvement(self, features: Any) -> Any:
        """The logarithm of the expected improvement at ``(n, d)`` features (Ament et al., NeurIPS 2023)."""
        import numpy as np
        from scipy.special import log_ndtr

        mean, deviation = self._process.predict(features, return_std=True)
        deviation = np.sqrt(np.maximum(deviation**2 - self._noise, 1e-12))
        z = (self._goal - mean) / deviation
        density = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            exact = density + np.log1p(z * np.exp(log_ndtr(z) - density))
        # far below, the two terms cancel; there the improvement falls as the density over z squared
        return np.log(deviation) + np.where(z > -6, exact, density - 2 * np.log(np.abs(z) + 1e-12))


class _Search:
    """Looks for the largest improvement among random points and their offspring."""

    def __init__(self, coordinates: Coordinates, model: _Model, seed: int) -> None:
        import numpy as np

        self._numpy = np
        self._coordinates = coordinates
        self._model = model
        self._rng = np.random.default_rng(seed)

    def best_first(self, starts: Any) -> Any:
        """Candidates ``(n, axes)``, the most promising first."""
        np, coordinates = self._numpy, self._coordinates
        rows = coordinates.random(_N_RANDOM, self._rng)
        near = [coordinates.mutate(np.repeat(starts, _CHILDREN, axis=0), scale, self._rng) for scale in (0.1, 0.02)]
        rows, values = self._rank(np.concatenate([rows, *near]))
        for scale in _SCALES:
            parents = np.repeat(rows[:_PARENTS], _CHILDREN, axis=0)
            children, more = self._rank(coordinates.mutate(parents, scale, self._rng))
            rows, values = np.concatenate([rows, children]), np.concatenate([values, more])
            _, places = np.unique(rows, axis=0, return_index=True)  # a small space has the same ones again and again
            order = places[np.argsort(-values[places], kind="stable")][:_MOST_TRIED]
            rows, values = rows[order], values[order]
        return rows

    def _rank(self, rows: Any) -> tuple[Any, Any]:
        values = self._model.improvement(self._coordinates.features(rows))
        order = self._numpy.argsort(-values, kind="stable")
        return rows[order], values[order]


def _regression(n_features: int) -> Any:
    """Scikit-learn's regression, fitted to the maximum a posteriori instead of the largest likelihood.

    The logarithm of a length scale is normal around one that grows with the root of the number of features, that of the
    noise around next to none, and that of the variance around one.
    """
    import numpy as np
    from scipy.optimize import minimize
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    length = math.sqrt(2) + 0.5 * math.log(n_features)
    means = np.array([0.0, *[length] * n_features, math.log(_NOISE)])
    deviations = np.array([2.0, *[math.sqrt(3)] * n_features, 2.0])

    def most_probable(objective: Any, start: Any, bounds: Any) -> tuple[Any, float]:
        def penalised(theta: Any) -> tuple[float, Any]:
            value, gradient = objective(theta)
            distance = (theta - means) / deviations
            return value + 0.5 * float(distance @ distance), gradient + distance / deviations

        found = minimize(penalised, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": _FIT_STEPS})
        return found.x, found.fun

    start = [0.5 * math.sqrt(n_features)] * n_features
    smooth = ConstantKernel(1.0, (1e-3, 1e4)) * Matern(start, (1e-2, 1e3), nu=2.5)
    kernel = smooth + WhiteKernel(_NOISE, (1e-7, 1.0))
    return GaussianProcessRegressor(kernel=kernel, optimizer=most_probable)


def _gaussian(losses: Any) -> Any:
    """Losses made more Gaussian by a power transform, with mean 0 and variance 1."""
    from sklearn.preprocessing import PowerTransformer

    losses = losses / max(abs(losses).max(), 1e-300)  # the square of an enormous one would be infinite
    spread = losses.std()
    if not spread > 1e-12:
        return losses * 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that finds no optimum leaves the losses as they are, scaled
        return PowerTransformer().fit_transform(((losses - losses.mean()) / spread).reshape(-1, 1)).ravel()


def _key(point: Parameters) -> str:
    return repr(sorted(point.items()))
