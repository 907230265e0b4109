"""The treaty between a campaign and its optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.constraints import Constraints


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What an option of an optimizer may be.

    Attributes:
        kind: ``bool``, ``int``, ``float`` or ``str``.
        low: The smallest number allowed.
        high: The largest number allowed; None for no limit.
        choices: The texts allowed, if it is a text.
    """

    kind: type
    low: float = 0
    high: float | None = None
    choices: Sequence[str] = ()

    def complaint(self, value: object) -> str | None:
        """Say what is wrong with *value*, or None."""
        if self.kind is bool:
            return None if isinstance(value, bool) else f"expected true or false, got {value!r}"
        if self.kind is str:
            return None if value in self.choices else f"expected one of {', '.join(self.choices)}, got {value!r}"
        accepted = (int,) if self.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, accepted):
            return f"expected a number of type {self.kind.__name__}, got {value!r}"
        if not value >= self.low or (self.high is not None and value > self.high):
            upper = "" if self.high is None else f" and at most {self.high:g}"
            return f"{value!r} is out of range: at least {self.low:g}{upper}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What an optimizer is to solve.

    Attributes:
        space: Where to search.
        constraints: What every point must fulfil besides; an optimizer may ignore them, the campaign sees to them.
        n_objectives: How many losses each point has.
        budget: How many points the task was to have when it was submitted; None if it has no such limit.
        seed: The task's seed, 31 bits.
    """

    space: SearchSpace
    constraints: Constraints = field(default_factory=Constraints)
    n_objectives: int = 1
    budget: int | None = None
    seed: int = 0


class Optimizer(ABC):
    """Proposes points from what is known.

    An optimizer is arithmetic: it touches no clock, disk, network or log, and no random generator but one made from
    the seeds that it is given. It is owned by one campaign and called from one thread at a time.

    The same calls in the same order give the same suggestions, so that a campaign rebuilt from history goes on as the
    first one would have. For most, suggestions leave no trace: what they propose depends on `pend` and `observe`
    alone, and a rebuild is a matter of telling. Where a library's own state moves with every suggestion,
    ``asking_matters`` says so, and a rebuild asks again.
    """

    options: ClassVar[Mapping[str, Option]] = {}  #: The options it takes, by name.
    several_objectives: ClassVar[bool] = False  #: Whether it handles more than one objective.
    finite_spaces_only: ClassVar[bool] = False  #: Whether it needs a space that can be counted.
    asking_matters: ClassVar[bool] = False  #: Whether what it suggested changes what it will suggest.
    libraries: ClassVar[Sequence[str]] = ()  #: The distributions that it stands on, for provenance.
    extra: ClassVar[str] = "steering"  #: The extra of this project that installs those.

    @classmethod
    def named(cls, algorithm: str) -> type[Optimizer]:
        """The class for one algorithm, in a library that lists its algorithms itself.

        Raises:
            InvalidDocument: There is none of that name.
        """
        raise NotImplementedError

    @abstractmethod
    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        """Prepare for a problem; *options* were checked against the class's table."""

    @abstractmethod
    def suggest(self, number: int, seed: int) -> Parameters:
        """Propose point *number*.

        Asked again for the same number, with another seed, if the point cannot be used. `pend` follows, with this
        point or another one.

        Args:
            number: The number that the point will have, from 0.
            seed: 32 bits of randomness for this proposal alone.

        Returns:
            Active parameters only, of their declared types, inside their bounds and on their grids.
        """

    def pend(self, number: int, parameters: Parameters) -> None:  # noqa: B027 - some have nothing to keep
        """Point *number* will be evaluated; its result is not known yet.

        Called once a point, in order of numbers. It need not be what was suggested: users have points of their own.
        Results from elsewhere pend under negative numbers, each just before it is observed.
        """

    def observe(self, number: int, losses: Sequence[float] | None) -> None:  # noqa: B027 - some do not learn
        """The result of a pending point is known.

        Args:
            number: A number that was handed to `pend`.
            losses: One finite number an objective, smaller is better; None if the point failed or was given up.
        """

    @property
    def rationale(self) -> str:
        """What it does at the moment and why, for optimizers that choose; empty for others."""
        return ""
