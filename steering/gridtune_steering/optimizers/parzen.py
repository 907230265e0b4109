"""The arithmetic of Hyperopt's TPE on arrays; numpy and Hyperopt are imported here, so import it when it is needed.

Every function of Hyperopt's that is called here is a plain function behind a decorator. Where one of them takes most of
a suggestion's time, there is another in its place that gives the same numbers from the same draws, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
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
        # not a stable sort, so it must be Hyperopt's own: many losses are the same, all the infinite ones to begin with
        order = np.argsort(self._losses)
        return self._held(np.sort(order[:n_good])), self._held(np.sort(order[n_good:]))

    def _held(self, rows: NDArray[np.int64]) -> dict[str, Floats]:
        held = self._values.take(rows, axis=1)
        is_missing = np.isnan(held)
        is_partial: list[bool] = np.any(is_missing, axis=1).tolist()
        each = zip(self._names, held, is_missing, is_partial, strict=True)
        return {name: values[~missing] if partial else values for name, values, missing, partial in each}

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
        counts = np.bincount(places, _fading(len(places)), n) + prior_weight
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
        self._weights: Floats
        self._means: Floats
        self._deviations: Floats
        fit = _components if len(observed) > 1 else tpe.adaptive_parzen_normal
        self._weights, self._means, self._deviations = fit(observed, prior_weight, 0.5 * (high + low), high - low)

    def draw(self, rng: np.random.Generator, n: int) -> NDArray[Any]:
        """What ``GMM1`` draws, by the same calls of the generator; lists and methods take two thirds of the time."""
        weights, means, deviations = self._weights, self._means.tolist(), self._deviations.tolist()
        choose, normal, low, high = rng.multinomial, rng.normal, self._low, self._high
        drawn: list[float] = []
        while len(drawn) < n:
            chosen = choose(1, weights).argmax()
            value = normal(means[chosen], deviations[chosen])
            if low <= value < high:
                drawn.append(value)
        return np.asarray(drawn)

    def log_density(self, values: NDArray[Any]) -> Floats:
        """The logarithm of the density at each of the values: ``GMM1_lpdf`` in one array, with what it need not repeat.

        Rounding is the same as there as long as each step is. The exponential has an array of its own, since numpy
        may compute it by another loop in place.
        """
        terms = values[:, None] - self._means
        terms /= self._floored
        terms *= terms
        terms *= -0.5
        terms += self._log_heights
        largest = terms.max(axis=1)
        terms -= largest[:, None]
        logarithms: Floats = np.log(np.exp(terms).sum(axis=1)) + largest
        return logarithms

    @cached_property
    def _floored(self) -> Floats:
        floored: Floats = np.maximum(self._deviations, tpe.EPS)
        return floored

    @cached_property
    def _log_heights(self) -> Floats:
        heights = self._weights / np.sqrt(2 * np.pi * self._deviations**2) / self._inside
        logarithms: Floats = np.log(heights)
        return logarithms

    @cached_property
    def _inside(self) -> np.float64:
        """The share of the mixture between its ends."""
        below_low, below_high = (tpe.normal_cdf(end, self._means, self._deviations) for end in (self._low, self._high))
        share: np.float64 = np.sum(self._weights * (below_high - below_low))
        return share


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
        drawn = set(values.tolist())
        places = np.array(sorted(drawn))
        edges = np.array(sorted({place - 0.5 for place in drawn} | {place + 0.5 for place in drawn}))
        below = self._weights * self._below(edges)
        lower, upper = edges.searchsorted(places - 0.5), edges.searchsorted(places + 0.5)
        shares = np.cumsum(below[upper] - below[lower], axis=1)[:, -1]
        logarithms: Floats = np.log(shares[places.searchsorted(values)]) - np.log(self._inside)
        return logarithms

    @cached_property
    def _inside(self) -> np.float64:
        """The share of the mixture between its ends."""
        below_low, below_high = self._below(np.array([self._low, self._high]))
        share: np.float64 = np.sum(self._weights * (below_high - below_low))
        return share

    def _below(self, edges: Floats) -> Floats:
        """The share of each component below each of the edges."""
        first, kind = self._kinds
        below: Floats = tpe.normal_cdf(edges[:, None], self._means[first], self._deviations[first])
        return below[:, kind]

    @cached_property
    def _kinds(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which components differ from the one before, and how many of these there are up to each component."""
        is_new = np.ones(len(self._means), dtype=bool)
        is_new[1:] = (self._means[1:] != self._means[:-1]) | (self._deviations[1:] != self._deviations[:-1])
        return is_new, np.cumsum(is_new) - 1


def _components(
    observed: NDArray[Any], prior_weight: float, prior_mean: float, prior_deviation: float
) -> tuple[Floats, Floats, Floats]:
    """Weights, means and deviations of two observations or more: ``adaptive_parzen_normal`` in half its time.

    Each component is as wide as the larger of the gaps to its neighbours, within limits.
    """
    order = np.argsort(observed)  # not a stable sort, as Hyperopt's: it decides which of equal ones is the newest
    place = int(observed[order].searchsorted(prior_mean))
    means = _with(observed[order], place, prior_mean)
    weights = _with(_fading(len(observed))[order], place, prior_weight)
    deviations = np.empty_like(means)
    gaps = means[1:] - means[:-1]
    deviations[0], deviations[-1] = gaps[0], gaps[-1]
    np.maximum(gaps[:-1], gaps[1:], out=deviations[1:-1])
    np.maximum(deviations, prior_deviation / min(100.0, 1.0 + len(means)), out=deviations)
    np.minimum(deviations, prior_deviation, out=deviations)
    deviations[place] = prior_deviation
    weights /= weights.sum()
    return weights, means, deviations


def _with(values: NDArray[Any], place: int, value: float) -> Floats:
    """The values, with one more."""
    longer = np.empty(len(values) + 1)
    longer[:place], longer[place], longer[place + 1 :] = values[:place], value, values[place:]
    return longer


@lru_cache(maxsize=8)
def _fading(n: int) -> Floats:
    """The weights of so many trials, which are mostly the same for all parameters; not to be changed."""
    weights: Floats = tpe.linear_forgetting_weights(n, tpe.DEFAULT_LF)
    weights.setflags(write=False)
    return weights
