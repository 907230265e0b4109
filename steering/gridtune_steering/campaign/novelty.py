"""Points that were not there before: no training is paid for twice, whatever a library proposes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.grid import every_point

#: Tries of each kind before the next kind: the library's own, then near its last proposal, then anywhere.
_PROPOSALS, _NEIGHBOURS, _ANYWHERE = 8, 32, 64


class Novelty:
    """Remembers every point of a task, pending or known, and finds one that is not among them."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._known: set[str] = set()

    @property
    def is_exhausted(self) -> bool:
        """Whether the space is finite and every point of it is known."""
        return self._space.size is not None and len(self._known) >= self._space.size

    def add(self, point: Parameters) -> None:
        """Remember a point."""
        self._known.add(_key(point))

    def find(self, propose: Callable[[int], Parameters], rng: random.Random) -> Parameters:
        """The first proposal that is new, or, failing that, a new point near the last one, or anywhere.

        Args:
            propose: Gives the optimizer's proposal for an attempt, from 0.
            rng: For the choice among points that the optimizer did not propose.

        Returns:
            A new point; a known one only if the space is exhausted.
        """
        proposal: Parameters = {}
        for attempt in range(_PROPOSALS):
            proposal = propose(attempt)
            if self._is_new(proposal):
                return proposal
        return next(filter(self._is_new, self._others(proposal, rng)), proposal)

    def _others(self, proposal: Parameters, rng: random.Random) -> Iterator[Parameters]:
        for _ in range(_NEIGHBOURS):
            yield self._neighbour(proposal, rng)
        for _ in range(_ANYWHERE):
            yield self._space.sample(rng)
        if self._space.is_finite:
            # nearly exhausted, or chance would have found one; of one more than are known, one must be new
            yield from islice(every_point(self._space), len(self._known) + 1)

    def _neighbour(self, point: Parameters, rng: random.Random) -> Parameters:
        """The point with one parameter drawn anew, and what then becomes active drawn as well."""
        changed = rng.choice(sorted(point))
        fresh = {parameter.name: parameter.sample(rng) for parameter in self._space}
        values = {**fresh, **point, changed: fresh[changed]}
        return {name: values[name] for name in self._space.active(values)}

    def _is_new(self, point: Parameters) -> bool:
        return _key(point) not in self._known


def _key(point: Parameters) -> str:
    """The same for the same point: repr tells True from 1 and keeps every bit of a float."""
    return repr(sorted(point.items()))
