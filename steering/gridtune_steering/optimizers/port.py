"""The treaty between a campaign and its optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What an option of an optimizer may be.

    Attributes:
        kind: ``bool``, ``int`` or ``float``.
        low: The smallest number allowed.
        high: The largest number allowed; None for no limit.
    """

    kind: type
    low: float = 0
    high: float | None = None

    def complaint(self, value: object) -> str | None:
        """Say what is wrong with *value*, or None."""
        if self.kind is bool:
            return None if isinstance(value, bool) else f"expected true or false, got {value!r}"
        accepted = (int,) if self.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, accepted):
            return f"expected a number of type {self.kind.__name__}, got {value!r}"
        if not value >= self.low or (self.high is not None and value > self.high):
            upper = "" if self.high is None else f" and at most {self.high:g}"
            return f"{value!r} is out of range: at least {self.low:g}{upper}"
        return None


class Optimizer(Protocol):
    """Proposes points from what is known.

    An optimizer is arithmetic: it touches no clock, disk, network or log, and no random generator but one made from
    the seed that it is given. It is owned by one campaign and called from one thread at a time. The same calls of
    `pend` and `observe` in the same order give the same suggestion for the same number and seed, whether or not
    `suggest` was called in between: so a campaign rebuilt from history goes on as the first one would have.
    """

    options: ClassVar[Mapping[str, Option]]  #: The options it takes, by name.
    several_objectives: ClassVar[bool]  #: Whether it handles more than one objective.
    finite_spaces_only: ClassVar[bool]  #: Whether it needs a space that can be counted.
    libraries: ClassVar[Sequence[str]]  #: The distributions that it stands on, for provenance.

    def __init__(self, space: SearchSpace, options: dict[str, Any], *, n_objectives: int, seed: int) -> None:
        """Prepare for a search space; *options* were checked against the class's table, *seed* is the task's."""

    def suggest(self, number: int, seed: int) -> Parameters:
        """Propose point *number*; changes nothing.

        Args:
            number: The number that the point will have, from 0.
            seed: 32 bits of randomness for this point alone.

        Returns:
            Active parameters only, of their declared types, inside their bounds and on their grids.
        """

    def pend(self, number: int, parameters: Parameters) -> None:
        """Point *number* will be evaluated; its result is not known yet. Called once a point, in order of numbers."""

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """The result of a pending point is known.

        Args:
            number: A number that was handed to `pend`.
            losses: One finite number an objective, smaller is better; None if the point failed or was given up.
        """


class OptimizerClass(Protocol):
    """What the table of optimizers holds: the class itself."""

    options: Mapping[str, Option]
    several_objectives: bool
    finite_spaces_only: bool
    libraries: Sequence[str]

    def __call__(self, space: SearchSpace, options: dict[str, Any], /, *, n_objectives: int, seed: int) -> Optimizer:
        """Make an optimizer."""
