"""Workers that take their time: evaluations end in another order than they began."""

from __future__ import annotations

import heapq
import random
import time
import warnings
from dataclasses import dataclass
from typing import Any

from .drivers import Driver
from .instances import Instance

#: The standard deviation of the logarithm of an evaluation's duration: one in six takes twice as long as the median.
_SIGMA = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """How a game went.

    Attributes:
        best: The best loss after each result.
        n_repeats: How many points had been proposed before.
        seconds: What the optimizer took, evaluations left out.
    """

    best: list[float]
    n_repeats: int
    seconds: float


def play(driver: Driver, instance: Instance, *, budget: int, workers: int, seed: int) -> Game:
    """Evaluate *budget* points by so many workers, each of which asks as soon as it has told."""
    rng = random.Random(seed)
    busy: list[tuple[float, int, Any, float]] = []
    best: list[float] = []
    seen: set[tuple[Any, ...]] = set()
    now, seconds, n_asked = 0.0, 0.0, 0
    while True:
        while len(busy) < workers and n_asked < budget:
            started = time.perf_counter()
            asked = _quietly(driver.ask)
            seconds += time.perf_counter() - started
            if asked is None:
                break
            token, point = asked
            if complaint := instance.space.explain(point):
                raise ValueError(f"a point outside of the space: {complaint}")
            end = now + rng.lognormvariate(0, _SIGMA)
            heapq.heappush(busy, (end, n_asked, token, instance.loss(point)))
            seen.add(tuple(sorted(point.items())))
            n_asked += 1
        if not busy:
            return Game(best=best, n_repeats=n_asked - len(seen), seconds=seconds)
        now, _, token, loss = heapq.heappop(busy)
        best.append(min([loss, *best[-1:]]))
        started = time.perf_counter()
        _quietly(driver.tell, token, loss)
        seconds += time.perf_counter() - started


def _quietly(function: Any, *arguments: Any) -> Any:
    """Call without the libraries' warnings, which are about what they do to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)
