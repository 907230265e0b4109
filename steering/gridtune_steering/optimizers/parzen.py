"""The arithmetic of Hyperopt's TPE on arrays; numpy and Hyperopt are imported here, so import it when it is needed.

Every function of Hyperopt's that is called here is a plain function behind a decorator. Where one of them takes most of
a suggestion's time, there is another in its place that gives the same numbers from the same draws, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from hyperopt import tpe
from hyperopt.pyll import as_apply, stochastic
from numpy.typing import NDArray

from gridtune_steering.optimizers.axes import Axis, Choice, Index

Floats = NDArray[np.float64]

generator = np.random.default_rng


def order_of_draws(domain: Any) -> list[str]:
    """The parameters in the order in which Hyperopt draws their candidates, all from one generator.

    It walks through the posterior's graph as ``hyperopt.pyll.rec_eval`` does when it evaluates it.
    """
    _, _, posterior = tpe.build_posterior_wrapper(domain, prior_weight=1.0, gamma=1.0)
    candidates = {best.pos_args[0]: name for name, best in posterior[1].items()}
    waiting, done = [as_apply(posterior)], dict[Any, None]()
    while waiting:
        node = waiting.pop()
        inputs = [each for each in node.inputs() if each not in done]
        if inputs:
            waiting += [node, *inputs]
        else:
            done[node] = None
    return [candidates[node] for node in done if node in candidates]


class Trials:
    """Points and their losses in the order of their numbers, which need not be that of their arrival."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._numbers = np.empty(0, dtype=np.int64)
        self._losses = np.empty(0)
        self._values = np.empty((len(names), 0))
        self._added: dict[int, list[float]] = {}
        self._settled: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._numbers) + len(self._added)

    def add(self, number: int, coordinates: Mapping[str, float]) -> None:
        """A point whose loss is infinite so far; NaN stands for a parameter that it does not have."""
        self._added[number] = [coordinates.get(name, np.nan) for name in self._names]

    def settle(self, number: int, loss: float) -> None:
        """The loss of a point is known."""
        self._settled[number] = loss

    def split(self, gamma: float) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """What the good trials and the others hold for each parameter: ``ap_split_trials``, for all of them at once."""
        self._update()
        n_good = min(int(np.ceil(gamma * np.sqrt(len(self._losses)))), tpe.DEFAULT_LF)
        is_good = np.zeros(len(self._losses), dtype=bool)
        # not a stable sort, so it must be Hyperopt's own: many losses are the same, all the infinite ones to begin with
        is_good[np.argsort(self._losses)[:n_good]] = True
        return self._held(is_good), self._held(~is_good)

    def _held(self, which: NDArray[np.bool_]) -> dict[str, Floats]:
        return {
            name: values[~np.isnan(values)] for name, values in zip(self._names, self._values[:, which], strict=True)
        }

    def _update(self) -> None:
        """Bring into the arrays what came in since the last suggestion."""
        if self._added:
            numbers = np.append(self._numbers, np.fromiter(self._added, dtype=np.int64))
            order = np.argsort(numbers)
            self._numbers = numbers[order]
            self._losses = np.append(self._losses, np.full(len(self._added), np.inf))[order]
            self._values = np.append(self._values, np.transpose(list(self._added.values())), axis=1)[:, order]
            self._added.clear()
        if self._settled:
            rows = np.searchsorted(self._numbers, np.fromiter(self._settled, dtype=np.int64))
            self._losses[rows] = np.fromiter(self._settled.values(), dtype=np.float64)
            self._settled.clear()


class Density(Protocol):
    """What is thought of a parameter's values."""

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[Any]:
        """So many values at random."""

    def log_density(self, values: NDArray[Any]) -> Floats:
        """The logarithm of the density at each of the values."""


class Estimator:
    """The densities of the good and of the bad values of one parameter."""

    def __init__(self, axis: Axis, prior_weight: float) -> None:
        self._axis = axis
        self._prior_weight = prior_weight
        self._kept: dict[str, tuple[bytes, Density]] = {}

    def propose(self, good: Floats, bad: Floats, rng: np.random.Generator, n_candidates: int) -> float:
        """Of candidates drawn from the good values' density, the first of the largest ratio (``broadcast_best``)."""
        of_good, of_bad = self._density("good", good), self._density("bad", bad)
        candidates = of_good.draw(rng, n_candidates)
        return float(candidates[np.argmax(of_good.log_density(candidates) - of_bad.log_density(candidates))])

    def _density(self, which: str, values: Floats) -> Density:
        """Estimate anew, unless the values are those of the last time, which the good ones often are."""
        held = values.tobytes()
        if which not in self._kept or self._kept[which][0] != held:
            self._kept[which] = (held, self._estimate(values))
        return self._kept[which][1]

    def _estimate(self, values: Floats) -> Density:
        if isinstance(self._axis, Choice):
            return Shares(values.astype(np.int64), self._axis.n, self._prior_weight)
        if isinstance(self._axis, Index):
            # integers, as Hyperopt has them: sorting may leave equal ones in another order than equal floats
            return SteppedMixture(values.astype(np.int64), -0.5, self._axis.n - 0.5, self._prior_weight)
        return Mixture(values, 0.0, 1.0, self._prior_weight)


class Shares:
    """How often each place was chosen, the newest trials counted full (``ap_randint_sampler``)."""

    def __init__(self, places: NDArray[np.int64], n: int, prior_weight: float) -> None:
        weights = tpe.linear_forgetting_weights(len(places), tpe.DEFAULT_LF)
        counts = np.bincount(places, weights, n) + prior_weight
        self._shares = counts / np.sum(counts)

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[Any]:
        """So many places at random."""
        places: NDArray[Any] = stochastic.categorical(self._shares, rng, n)
        return places

    def log_density(self, values: NDArray[Any]) -> Floats:
        """The logarithm of the share of each place."""
        logarithms: Floats = tpe.randint_via_categorical_lpdf(values, self._shares)
        return logarithms


class Mixture:
    """Normal distributions around what was observed and one for the prior, cut off at two ends."""

    def __init__(self, observed: NDArray[Any], low: float, high: float, prior_weight: float) -> None:
        self._low, self._high = low, high
        self._components = tpe.adaptive_parzen_normal(observed, prior_weight, 0.5 * (high + low), 1.0 * (high - low))

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[Any]:
        """What ``GMM1`` draws, by the same calls of the generator; lists and methods take two thirds of the time."""
        weights, means, deviations = self._components[0], self._components[1].tolist(), self._components[2].tolist()
        choose, normal, low, high = rng.multinomial, rng.normal, self._low, self._high
        drawn: list[float] = []
        while len(drawn) < n:
            chosen = choose(1, weights).argmax()
            value = normal(means[chosen], deviations[chosen])
            if low <= value < high:
                drawn.append(value)
        return np.asarray(drawn)

    def log_density(self, values: NDArray[Any]) -> Floats:
        """The logarithm of the density at each of the values."""
        logarithms: Floats = tpe.GMM1_lpdf(values, *self._components, low=self._low, high=self._high)
        return logarithms


class SteppedMixture(Mixture):
    """A mixture of which the nearest integers count."""

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[Any]:
        """So many integers at random."""
        return np.round(super().draw(rng, n))

    def log_density(self, values: NDArray[Any]) -> Floats:
        """The logarithm of the share that falls to each of the integers.

        ``GMM1_lpdf`` computes it for one component after the other. Here it is done for all at once: components that
        are equal, as those of integers often are, and values that are drawn more than once, have the same share. The
        sum goes over the components one by one as there, since another order would round otherwise.
        """
        weights, means, deviations = self._components
        is_new = np.append(True, (np.diff(means) != 0) | (np.diff(deviations) != 0))
        places, place_of = np.unique(values, return_inverse=True)
        edges, edge_of = np.unique([places - 0.5, places + 0.5], return_inverse=True)
        below = tpe.normal_cdf(edges[:, None], means[is_new], deviations[is_new])
        weighted = weights * below[:, np.cumsum(is_new) - 1]
        lower, upper = edge_of.reshape(2, -1)
        shares = np.cumsum(weighted[upper] - weighted[lower], axis=1)[:, -1][place_of]
        ends = [tpe.normal_cdf(end, means, deviations) for end in (self._low, self._high)]
        logarithms: Floats = np.log(shares) - np.log(np.sum(weights * (ends[1] - ends[0])))
        return logarithms
