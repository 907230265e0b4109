"""The Pareto front: the points that no other point dominates.

One point dominates another if it is at least as good in every objective and better in one. Losses are smaller the
better, one an objective.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import le

from gridtune_common.protocol import Metrics, Objective

Losses = tuple[float, ...]


def front(objectives: Sequence[Objective], results: Mapping[int, Metrics]) -> list[int]:
    """The numbers of the points on the front, the best in the first objective first; equal points are all on it.

    A point without a finite number for each objective is never on it.
    """
    losses = {number: _losses(objectives, metrics) for number, metrics in results.items()}
    known = {number: values for number, values in losses.items() if all(map(math.isfinite, values))}
    found: list[int] = []
    rest = Front()
    # in this order only earlier points can dominate, and they are at least as good in the first objective anyway
    for number in sorted(known, key=lambda number: (known[number], number)):
        equals_last = bool(found) and known[found[-1]] == known[number]
        if equals_last or rest.add(known[number][1:]):
            found.append(number)
    return found


class Front:
    """Grows point by point.

    Two objectives, and one, cost the logarithm of the front's size for each point; more cost its size.
    """

    def __init__(self) -> None:
        self._members: list[Losses] = []

    def add(self, losses: Losses) -> bool:
        """Take a point in, and say whether it is new on the front: none before is at least as good in everything."""
        place = bisect_right(self._members, losses)
        is_flat = len(losses) <= 2
        # with two objectives the front descends, so that its last step before this point is the lowest
        rivals = self._members[max(place - 1, 0) : place] if is_flat else self._members[:place]
        if any(all(map(le, rival, losses)) for rival in rivals):
            return False
        while is_flat and place < len(self._members) and all(map(le, losses, self._members[place])):
            del self._members[place]
        self._members.insert(place, losses)
        return True


def _losses(objectives: Sequence[Objective], metrics: Metrics) -> Losses:
    values = [(objective.goal, metrics.get(objective.metric)) for objective in objectives]
    return tuple(math.inf if value is None else -value if goal == "maximize" else value for goal, value in values)
