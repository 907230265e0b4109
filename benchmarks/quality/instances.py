"""What is optimised: a search space, a loss, and the best loss there is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gridtune_common.space import Categorical, Float, Normal, Ordinal, Parameter, SearchSpace

#: A point whose values are of the right types, since they come from the space.
Point = dict[str, Any]

#: The blocks that problems come in.
SYNTHETIC, REAL = "synthetic", "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One problem to solve once.

    Attributes:
        space: Where to search.
        loss: What a point costs; smaller is better.
        optimum: The best loss there is; None where nobody knows before every point was tried.
        best_point: A point that attains it.
    """

    space: SearchSpace
    loss: Callable[[Point], float]
    optimum: float | None = None
    best_point: Point | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A problem with as many instances as there are seeds; a real one is always the same."""

    name: str
    block: str
    instance: Callable[[int], Instance]


def parse(**parameters: Any) -> SearchSpace:
    """The space of these parameters, written as in a task file."""
    return SearchSpace.parse(parameters)


def unit(parameter: Parameter, value: Any) -> float:
    """How far along the parameter's scale a value is, from 0 to 1; choices without an order count as a row."""
    if isinstance(parameter, (Categorical, Ordinal)):
        return parameter.grid_index(value) / max(parameter.grid_size - 1, 1)
    assert not isinstance(parameter, Normal)  # no problem here has one
    low, high = float(parameter.low), float(parameter.high)
    if parameter.log:
        return math.log(value / low) / math.log(high / low)
    return (float(value) - low) / (high - low)


def nearest(parameter: Parameter, value: Any) -> Any:
    """The value that a training would use for what a library proposed: inside the bounds and on the grid."""
    if isinstance(parameter, (Categorical, Ordinal)):
        return value
    if isinstance(parameter, Float) and parameter.step is None:
        return float(min(max(value, parameter.low), parameter.high))
    return parameter.grid_value(parameter.grid_index(float(value)))


def seed_of(*parts: object) -> int:
    """31 bits that belong to these words and numbers, the same in every process."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1
