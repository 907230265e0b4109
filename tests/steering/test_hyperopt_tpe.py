"""Our TPE is Hyperopt's: the same proposals, to the bit, for the same trials and the same seed."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import cloudpickle
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.hyperopt_algorithms import OfTrials
from gridtune_steering.optimizers.hyperopt_tpe import HyperoptTpe
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
        losses = None if chance < 0.1 else [float(self._rng.randrange(5)) if chance < 0.3 else self._rng.gauss(0, 1)]
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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
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


@pytest.mark.parametrize("n", [30, 300])
def test_proposals_are_those_of_the_library_on_a_usual_space(n: int) -> None:
    """Eight parameters of all kinds, a history of some length, and then point after point."""
    pair = Pair(SPACE, n)
    pair.live(n)
    for turn in range(12):
        ours, library = pair.proposals(turn)
        pair.live(turn % 3)

        assert ours == library


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
