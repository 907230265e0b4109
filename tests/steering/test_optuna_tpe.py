"""What our adapter remembers for Optuna's TPE does not change what it proposes."""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.search_space import intersection

from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.optuna_samplers import OptunaTpe
from gridtune_steering.optimizers.port import Problem
from service_bench import document
from strategies import spaces


class Forgetful(OptunaTpe):
    """Samplers as Optuna makes them, each of which goes through all trials."""

    def _sampler(self, seed: int) -> Any:
        return super(OptunaTpe, self)._sampler(seed)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(space=spaces(), seed=st.integers(0, 2**32 - 1))
def test_a_sampler_that_remembers_proposes_the_same(space: SearchSpace, seed: int) -> None:
    """Whatever the space, with results that come late or never, and with failures."""
    rng, awaited = random.Random(seed), list[int]()
    pair = [kind(Problem(space=space), {"n_startup_trials": 3}) for kind in (Forgetful, OptunaTpe)]
    for number in range(40):
        point = space.sample(rng)
        for optimizer in pair:
            optimizer.pend(number, point)
        awaited.append(number)
        while len(awaited) > rng.randrange(6):
            done, losses = awaited.pop(rng.randrange(len(awaited))), rng.choice([None, [rng.random()]])
            for optimizer in pair:
                optimizer.observe(done, losses)

        if number % 4 == 3:
            forgetful, ours = (optimizer.suggest(number + 1, number) for optimizer in pair)
            assert ours == forgetful


@pytest.mark.parametrize(("kind", "is_thrifty"), [(Forgetful, False), (OptunaTpe, True)])
def test_a_sampler_does_not_go_through_all_trials_again(kind: type[OptunaTpe], is_thrifty: bool) -> None:
    """What the trials have in common is worked out from those that are new."""
    space = SearchSpace.parse(document()["space"])
    optimizer, rng = kind(Problem(space=space), {}), random.Random(1)
    for number in range(30):
        optimizer.pend(number, space.sample(rng))
        optimizer.observe(number, [rng.random()])
    optimizer.suggest(30, 1)

    real = intersection._calculate  # noqa: SLF001 - what takes the time
    with mock.patch.object(intersection, "_calculate", wraps=real) as calculate:
        optimizer.suggest(30, 2)

    first_new = calculate.call_args.args[3]
    assert (first_new >= 30) is is_thrifty
