"""Grid search: every point of a finite space, once, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_common.space import Parameter, SearchSpace
from gridtune_steering.optimizers.port import Optimizer, Problem


class Grid(Optimizer):
    """Walks through the grid; the last parameter changes fastest. Learns nothing."""

    several_objectives: ClassVar[bool] = True
    finite_spaces_only: ClassVar[bool] = True

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self._rest = filter(problem.constraints.hold, every_point(problem.space))
        self._seen: list[Parameters] = []

    def suggest(self, number: int, seed: int) -> Parameters:
        """The grid's point of this number; beyond its end, from the beginning."""
        missing = number + 1 - len(self._seen)
        if missing > 0:
            self._seen += islice(self._rest, missing)
        return self._seen[number % len(self._seen)]


def every_point(space: SearchSpace) -> Iterator[Parameters]:
    """All points of a finite space, each once; made one after the other, so the space may be large."""
    ordered = parents_first(space)
    for point in _extended({}, space, ordered):
        yield {name: point[name] for name in space.names if name in point}


def _extended(point: Parameters, space: SearchSpace, rest: Sequence[Parameter]) -> Iterator[Parameters]:
    if not rest:
        yield point
        return
    parameter, *others = rest
    if not all(condition.holds(point) for condition in parameter.conditions):
        yield from _extended(point, space, others)
        return
    for index in range(parameter.grid_size):
        yield from _extended({**point, parameter.name: parameter.grid_value(index)}, space, others)


def parents_first(space: SearchSpace) -> list[Parameter]:
    """The parameters in their order, but each after those that its conditions ask for."""
    ordered: list[Parameter] = []
    waiting = list(space)
    while waiting:
        placed = {parameter.name for parameter in ordered}
        ready = next(p for p in waiting if all(condition.parent in placed for condition in p.conditions))
        waiting.remove(ready)
        ordered.append(ready)
    return ordered
