"""Hyperopt's TPE, without Hyperopt's bookkeeping.

The algorithm is that of Bergstra, Bardenet, Bengio & Kégl, "Algorithms for Hyper-Parameter Optimization" (NIPS 2011),
as ``hyperopt/tpe.py`` has it: trials are split into few good ones and the others, each parameter gets a density of
both, and of candidates drawn from the good ones' it proposes the one that is likeliest to be good rather than not.

Hyperopt builds a graph of all that for every suggestion, walks through it, and through all trials for each parameter:
that takes ten times as long as the arithmetic. Here trials stay in arrays, and the arithmetic (`parzen`) is called
for one parameter after the other, in the order in which Hyperopt's graph draws. So the proposals are Hyperopt's own,
to the bit; a test compares them.

Pending and failed points are trials of infinite loss, which are among the bad ones: so workers that ask at the same
time are driven apart.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_steering.optimizers.hyperopt_algorithms import HyperoptAlgorithm
from gridtune_steering.optimizers.port import Option, Problem


class HyperoptTpe(HyperoptAlgorithm):
    """Tree-structured Parzen Estimator.

    A trial in which a parameter was inactive says nothing about it. The cost of a suggestion grows linearly with the
    number of points.
    """

    options: ClassVar[Mapping[str, Option]] = {
        "gamma": Option(kind=float, low=0.01, high=1.0),
        "n_startup_jobs": Option(kind=int, low=1),
        "n_EI_candidates": Option(kind=int, low=1, high=10_000),
        "prior_weight": Option(kind=float, low=0.0),
    }

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        from hyperopt import tpe

        from gridtune_steering.optimizers import parzen

        arguments = inspect.signature(tpe.suggest).parameters
        super().__init__(problem, {name: options.get(name, arguments[name].default) for name in self.options})
        self._parzen = parzen
        self._order = parzen.order_of_draws(self._domain)
        self._estimators = {
            name: parzen.Estimator(axis, float(self._options["prior_weight"])) for name, axis in self._axes.items()
        }
        self._trials = parzen.Trials(list(self._axes))

    def suggest(self, number: int, seed: int) -> Parameters:
        """Choose a value for each parameter from candidates; at first, draw a random one."""
        if len(self._trials) < self._options["n_startup_jobs"]:
            point: Parameters = self._let_suggest("rand", number, seed)
            return point
        good, bad = self._trials.split(self._options["gamma"])
        rng, n_candidates = self._parzen.generator(seed), self._options["n_EI_candidates"]
        coordinates = {
            name: self._estimators[name].propose(good[name], bad[name], rng, n_candidates) for name in self._order
        }
        return self._point(coordinates)

    def pend(self, number: int, parameters: Parameters) -> None:
        """Make the point a trial of infinite loss."""
        self._trials.add(number, {name: self._axes[name].encode(value) for name, value in parameters.items()})

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Give the trial its loss; that of a failed one stays infinite."""
        self._trials.settle(number, math.inf if losses is None else losses[0])
