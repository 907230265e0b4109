"""Points that were not there before and break no constraint: no training is paid for twice, or in vain."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.axes import blend
from gridtune_steering.optimizers.constraints import Constraints
from gridtune_steering.optimizers.grid import every_point

#: Tries of each kind before the next kind: the library's own, then near its last proposal, then anywhere.
_PROPOSALS, _NEIGHBOURS, _ANYWHERE = 8, 32, 64
#: Known points towards which a proposal that breaks a constraint is drawn back, and how far.
_ANCHORS, _SHARES = 4, (0.25, 0.5, 0.75, 0.9)
#: Constraints may leave little of a space: so many points are drawn, or counted, before it is given up.
_ANYWHERE_ALLOWED, _LONGEST_COUNT = 20_000, 1_000_000


class Novelty:
    """Remembers every point of a task, pending or known, and finds one that is not among them.

    Args:
        space: Where to look.
        constraints: What a new point must fulfil.
    """

    def __init__(self, space: SearchSpace, constraints: Constraints | None = None) -> None:
        self._space = space
        self._constraints = constraints or Constraints()
        self._known: set[str] = set()
        self._points: list[Parameters] = []
        self._nothing_found = False

    @property
    def is_exhausted(self) -> bool:
        """Whether there is no new point left."""
        is_complete = self._space.size is not None and len(self._known) >= self._space.size
        return is_complete or self._nothing_found

    @property
    def exhaustion(self) -> str:
        """In words, why there is no new point left."""
        if self._constraints:
            return f"no further point of the space fulfils the constraints: {len(self._known)} have been tried"
        if self._space.size is None:
            return f"no new point of the space is likely any more: {len(self._known)} have been tried"
        return f"all {self._space.size} points of the space have been tried"

    def add(self, point: Parameters) -> None:
        """Remember a point."""
        self._known.add(_key(point))
        self._points.append(point)

    def find(self, propose: Callable[[int], Parameters], rng: random.Random) -> Parameters | None:
        """The first proposal that is new and allowed, or, failing that, such a point near the last one, or anywhere.

        Args:
            propose: Gives the optimizer's proposal for an attempt, from 0.
            rng: For the choice among points that the optimizer did not propose.

        Returns:
            A new point; None if there is none left.
        """
        if self.is_exhausted:
            return None
        proposal: Parameters = {}
        for attempt in range(_PROPOSALS):
            proposal = propose(attempt)
            if self._is_good(proposal):
                return proposal
        found = next(filter(self._is_good, self._others(proposal, rng)), None)
        self._nothing_found = found is None
        return found

    def _others(self, proposal: Parameters, rng: random.Random) -> Iterator[Parameters]:
        if self._constraints:
            yield from self._drawn_back(proposal, rng)
        for _ in range(_NEIGHBOURS):
            yield self._neighbour(proposal, rng)
        for _ in range(_ANYWHERE_ALLOWED if self._constraints else _ANYWHERE):
            yield self._space.sample(rng)
        if self._space.is_finite:
            # nearly exhausted, or chance would have found one; of one more than are known, one must be new
            enough = _LONGEST_COUNT if self._constraints else len(self._known) + 1
            yield from islice(every_point(self._space), enough)

    def _drawn_back(self, proposal: Parameters, rng: random.Random) -> Iterator[Parameters]:
        """Points on the way from the proposal to points that are allowed, as they were tried."""
        for anchor in rng.sample(self._points, min(_ANCHORS, len(self._points))):
            for share in _SHARES:
                yield blend(self._space, proposal, anchor, share, rng)

    def _neighbour(self, point: Parameters, rng: random.Random) -> Parameters:
        """The point with one parameter drawn anew, and what then becomes active drawn as well."""
        changed = rng.choice(sorted(point))
        fresh = {parameter.name: parameter.sample(rng) for parameter in self._space}
        values = {**fresh, **point, changed: fresh[changed]}
        return {name: values[name] for name in self._space.active(values)}

    def _is_good(self, point: Parameters) -> bool:
        return _key(point) not in self._known and self._constraints.hold(point)


def _key(point: Parameters) -> str:
    """The same for the same point: repr tells True from 1 and keeps every bit of a float."""
    return repr(sorted(point.items()))
