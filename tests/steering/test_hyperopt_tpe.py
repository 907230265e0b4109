"""Our TPE is Hyperopt's: the same proposals, to the bit, for the same trials and the same seed."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import cloudpickle
import numpy
import pytest
from hyperopt import tpe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.hyperopt_algorithms import OfTrials
from gridtune_steering.optimizers.hyperopt_tpe import HyperoptTpe
from gridtune_steering.optimizers.parzen import Mixture, SteppedMixture
from gridtune_steering.optimizers.port import Optimizer, Problem
from service_bench import document, loss_of
from strategies import spaces

SPACE = SearchSpace.parse(document()["space"])


class Library(OfTrials):
    """``hyperopt.tpe.suggest`` itself, on trials as Hyperopt keeps them."""

    algorithm: ClassVar[str] = "tpe"


class Pair:
    """Our optimizer and the library's, which are told the same.

    Args:
        space: Where both search.
        seed: Of the history.
        options: Of both.
    """

    def __init__(self, space: SearchSpace, seed: int, **options: Any) -> None:
        self.ours: Optimizer = HyperoptTpe(Problem(space=space), options)
        self.library = Library(Problem(space=space), {"verbose": False, **options})
        self._space, self._rng = space, random.Random(seed)
        self._own, self._foreign = iter(range(10**6)), iter(range(-1, -(10**6), -1))
        self._awaited: list[int] = []
        self._is_coarse = self._rng.random() < 0.3

    def live(self, n: int) -> None:
        """So many more points: results come late, in any order or never, are the same now and then, or a failure."""
        for _ in range(n):
            self._pend(next(self._foreign if self._rng.random() < 0.1 else self._own))
            while len(self._awaited) > self._rng.randrange(8):
                self._observe(self._awaited.pop(self._rng.randrange(len(self._awaited))))

    def proposals(self, seed: int) -> tuple[object, object]:
        """What both propose for a seed, or which error they raise."""
        number = next(self._own)
        return _outcome(self.ours, number, seed), _outcome(self.library, number, seed)

    def _pend(self, number: int) -> None:
        point = self._space.sample(self._rng)
        for optimizer in (self.ours, self.library):
            optimizer.pend(number, point)
        self._awaited.append(number)

    def _observe(self, number: int) -> None:
        chance = self._rng.random()
        coarse, fine = float(self._rng.randrange(3)), self._rng.gauss(2, 1)
        losses = None if chance < 0.1 else [coarse if self._is_coarse or chance < 0.3 else fine]
        for optimizer in (self.ours, self.library):
            optimizer.observe(number, losses)


def _outcome(optimizer: Optimizer, number: int, seed: int) -> Parameters | str:
    """The point with its types, since 1 equals 1.0 and True; without prior, numpy may refuse to draw."""
    with numpy.errstate(all="ignore"):
        try:
            return {name: repr(value) for name, value in optimizer.suggest(number, seed).items()}
        except ValueError as error:
            return str(error)


def options() -> st.SearchStrategy[dict[str, Any]]:
    """Some of the options, each within its limits."""
    return st.fixed_dictionaries(
        {},
        optional={
            "gamma": st.sampled_from([0.01, 0.25, 1.0]) | st.floats(0.01, 1.0),
            "n_startup_jobs": st.integers(1, 30),
            "n_EI_candidates": st.sampled_from([1, 2, 100]) | st.integers(1, 50),
            "prior_weight": st.sampled_from([0.0, 0.1, 1, 5.0]),
        },
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    space=spaces(),
    options=options(),
    lives=st.lists(st.sampled_from([0, 1, 2, 20, 60]), max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_proposals_are_those_of_the_library(
    space: SearchSpace, options: dict[str, Any], lives: list[int], seed: int
) -> None:
    """Whatever the space, the options and the history, and also when more is told between two proposals."""
    pair = Pair(space, seed, **options)
    for turn, n in enumerate([*lives, 1]):
        pair.live(n)

        ours, library = pair.proposals(seed ^ turn)

        assert ours == library


@pytest.mark.parametrize(("n", "gamma"), [(30, 0.25), (300, 0.25), (700, 1.0)])
def test_proposals_are_those_of_the_library_on_a_usual_space(n: int, gamma: float) -> None:
    """Eight parameters of all kinds, a history of some length, and then point after point."""
    pair = Pair(SPACE, n, gamma=gamma)
    pair.live(n)
    for turn in range(6):
        ours, library = pair.proposals(turn)
        pair.live(turn % 3)

        assert ours == library


@pytest.mark.parametrize("n_places", [0, 1, 7, 40])
@pytest.mark.parametrize("prior_weight", [0.0, 1.0])
def test_densities_are_those_of_the_library(n_places: int, prior_weight: float) -> None:
    """Components, draws and logarithms are the same to the bit, which a proposal need not show."""
    for n in [*range(1, 30), 100, 1000]:
        rng = numpy.random.default_rng(n)
        observed = rng.integers(0, n_places, n) if n_places else rng.random(n)
        low, high = (-0.5, n_places - 0.5) if n_places else (0.0, 1.0)
        ours = (SteppedMixture if n_places else Mixture)(observed, low, high, prior_weight)

        components = tpe.adaptive_parzen_normal(observed, prior_weight, 0.5 * (high + low), high - low)
        ends = {"low": low, "high": high, "q": 1 if n_places else None}
        drawn = tpe.GMM1(*components, **ends, size=24, rng=numpy.random.default_rng(7))

        assert ours.draw(numpy.random.default_rng(7), 24).tolist() == drawn.tolist()
        with numpy.errstate(divide="ignore"):
            assert ours.log_density(drawn).tolist() == tpe.GMM1_lpdf(drawn, *components, **ends).tolist()


def test_proposals_are_those_of_the_library_when_it_follows_them() -> None:
    """An own run, in which points crowd around the best ones and values repeat."""
    ours, library = HyperoptTpe(Problem(space=SPACE), {}), Library(Problem(space=SPACE), {"verbose": False})
    for number in range(60):
        point = ours.suggest(number, number)

        assert point == library.suggest(number, number)

        for optimizer in (ours, library):
            optimizer.pend(number, point)
            optimizer.observe(number, [loss_of(point)])


def test_a_copy_goes_on_as_the_original_would() -> None:
    """What it keeps between suggestions can be pickled, told or not."""
    pair = Pair(SPACE, 5)
    pair.live(50)
    pair.proposals(1)
    pair.live(5)

    pair.ours = cloudpickle.loads(cloudpickle.dumps(pair.ours))

    ours, library = pair.proposals(2)
    assert ours == library
