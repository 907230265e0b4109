"""The kinds of hyperparameters, as values that are valid from birth.

A parameter knows which values it can take, draws one, and writes itself as JSON. It is as strict about
types as a training would be: ``True`` is not the number 1, and ``3.0`` is no value of an `Int`; only where
a `Float` or `Normal` is expected a whole number will do. Among choices, ``1`` and ``1.0`` are told apart when a value
is looked up, but cannot both be choices of one parameter: not every JSON writer keeps them apart.

All kinds but the continuous `Float` and the continuous or unbounded `Normal` have a grid: ``grid_size`` values,
numbered from 0, in ascending or declared order. ``grid_value`` and ``grid_index`` lead from a place to its value
and back.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar, Final, Optional, Union, cast

from gridtune_common.errors import Flaw
from gridtune_common.protocol import Value
from gridtune_common.space.base import BaseParameter, Numeric, check_flag, check_index, check_name, exact, n_steps
from gridtune_common.space.conditions import When, check_when
from gridtune_common.space.normal import Normal
from gridtune_common.space.reading import (
    LARGEST_WHOLE,
    check_number,
    check_scalar,
    check_whole,
    identity,
    is_number,
    show,
)


@dataclass(frozen=True)
class Float(Numeric):
    """A real number on ``[low, high]``, optionally on a logarithmic scale or in steps.

    With a step, the values are ``low + k * step`` up to *high*, each the float nearest to its decimal
    notation: 0.15, not 0.15000000000000002.
    """

    kind: ClassVar[str] = "float"

    name: str
    low: float
    high: float
    log: bool = False
    step: Optional[float] = None
    when: When = None

    @property
    def n_values(self) -> Optional[int]:
        """How many values there are; None if continuous."""
        return None if self.step is None else self.grid_size

    @property
    def grid_size(self) -> int:
        """How many values the grid has.

        Raises:
            ValueError: The parameter has no step.
        """
        return n_steps(self.low, self.high, float(self._exact_step())) + 1

    def grid_value(self, index: int) -> float:
        """The value at a place of the grid, from 0.

        Raises:
            IndexError: The grid has no such place.
            ValueError: The parameter has no step.
        """
        check_index(index, self.grid_size)
        return min(float(exact(self.low) + index * self._exact_step()), self.high)

    def grid_index(self, value: float) -> int:
        """The place of the grid value nearest to *value*, which may lie anywhere.

        Raises:
            ValueError: The parameter has no step, or the value is not finite.
        """
        place = round((exact(float(value)) - exact(self.low)) / self._exact_step())
        return min(max(place, 0), self.grid_size - 1)

    def contains(self, value: object) -> bool:
        """Whether this is a number in the range and, with a step, on the grid."""
        if not is_number(value):
            return False
        number = cast(float, value)
        if not self.low <= number <= self.high:
            return False
        return self.step is None or self.grid_value(self.grid_index(number)) == number

    def sample(self, rng: random.Random) -> float:
        """Draw a value, uniformly on the parameter's scale."""
        if self.step is not None and not self.log:
            return self.grid_value(rng.randrange(self.grid_size))
        if self.log:
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            drawn = self.low + (self.high - self.low) * rng.random()
        bounded = min(max(drawn, self.low), self.high)
        return bounded if self.step is None else self.grid_value(self.grid_index(bounded))

    def to_json(self) -> dict[str, Any]:
        """The parameter as a task file writes it, without its name."""
        fields: dict[str, Any] = {"low": self.low, "high": self.high, "scale": _scale(self.log)}
        if self.step is not None:
            fields["step"] = self.step
        return self._document(**fields)

    def describe(self) -> str:
        """What values there are, in words."""
        steps = "" if self.step is None else f" in steps of {self.step}"
        return f"a float from {self.low} to {self.high}{steps}"

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_name(self.name)
        yield from check_when(self.when)
        yield from check_flag("log", self.log)
        ill_typed = [*check_number("low", self.low), *check_number("high", self.high)]
        if self.step is not None:
            ill_typed.extend(check_number("step", self.step))
        yield from ill_typed
        if not ill_typed:
            yield from self._check_values()

    def _check_values(self) -> Iterator[Flaw]:
        yield from self._check_range(self.low, self.high, self.log)
        if not math.isfinite(float(self.high) - float(self.low)):
            yield Flaw("high", f"{self.high} is too far from low ({self.low}); narrow the range")
        elif self.step is not None:
            yield from self._check_step(self.step, self.low, self.high)
            finest = 4 * math.ulp(max(abs(float(self.low)), abs(float(self.high))))
            if 0 < self.step < finest:
                yield Flaw("step", f"{self.step} is too small for floats in this range; write {finest} or more")

    def _settle(self) -> None:
        super()._settle()
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            self._set(name, None if value is None else float(value) + 0.0)  # + 0.0 makes -0.0 plain

    def _exact_step(self) -> Fraction:
        if self.step is None:
            raise ValueError(f"{self.name} is continuous: it has no grid")
        return exact(self.step)


@dataclass(frozen=True)
class Int(Numeric):
    """A whole number ``low + k * step`` up to *high*, optionally on a logarithmic scale."""

    kind: ClassVar[str] = "int"

    name: str
    low: int
    high: int
    log: bool = False
    step: int = 1
    when: When = None

    @property
    def n_values(self) -> int:
        """How many values there are."""
        return self.grid_size

    @property
    def grid_size(self) -> int:
        """How many values the grid has."""
        return (self.high - self.low) // self.step + 1

    def grid_value(self, index: int) -> int:
        """The value at a place of the grid, from 0.

        Raises:
            IndexError: The grid has no such place.
        """
        check_index(index, self.grid_size)
        return self.low + index * self.step

    def grid_index(self, value: float) -> int:
        """The place of the grid value nearest to *value*, which may lie anywhere.

        Raises:
            ValueError: The value is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"{value} is not finite")
        return min(max(round((value - self.low) / self.step), 0), self.grid_size - 1)

    def contains(self, value: object) -> bool:
        """Whether this is a whole number in the range and on the grid; ``3.0`` and ``True`` are not."""
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def sample(self, rng: random.Random) -> int:
        """Draw a value, uniformly on the parameter's scale."""
        if not self.log:
            return self.grid_value(rng.randrange(self.grid_size))
        # half beyond both ends, or the ends would be drawn half as often as they should
        drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return self.grid_value(self.grid_index(drawn))

    def to_json(self) -> dict[str, Any]:
        """The parameter as a task file writes it, without its name."""
        return self._document(low=self.low, high=self.high, scale=_scale(self.log), step=self.step)

    def describe(self) -> str:
        """What values there are, in words."""
        steps = "" if self.step == 1 else f" in steps of {self.step}"
        return f"an int from {self.low} to {self.high}{steps}"

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_name(self.name)
        yield from check_when(self.when)
        yield from check_flag("log", self.log)
        ill_typed = [
            flaw for name in ("low", "high", "step") for flaw in check_whole(name, getattr(self, name), -LARGEST_WHOLE)
        ]
        yield from ill_typed
        if not ill_typed:
            yield from self._check_range(self.low, self.high, self.log)
            yield from self._check_step(self.step, self.low, self.high)


class _Choices(BaseParameter):
    """What lists of choices share."""

    choices: tuple[Value, ...]
    _identities: tuple[Any, ...]

    @property
    def n_values(self) -> int:
        """How many values there are."""
        return len(self.choices)

    @property
    def grid_size(self) -> int:
        """How many choices there are."""
        return len(self.choices)

    def grid_value(self, index: int) -> Value:
        """The choice at a place, from 0.

        Raises:
            IndexError: There is no such place.
        """
        check_index(index, len(self.choices))
        return self.choices[index]

    def grid_index(self, value: Value) -> int:
        """The place of a choice.

        Raises:
            ValueError: It is none of the choices.
        """
        if not self.contains(value):
            raise ValueError(f"{show(value)} is none of the choices of {self.name}")
        return self._identities.index(identity(value))

    def contains(self, value: object) -> bool:
        """Whether this is one of the choices, of the same type."""
        return identity(value) in self._identities

    def sample(self, rng: random.Random) -> Value:
        """Draw a choice; all are equally likely."""
        return rng.choice(self.choices)

    def to_json(self) -> dict[str, Any]:
        """The parameter as a task file writes it, without its name."""
        return self._document(choices=list(self.choices))

    def describe(self) -> str:
        """What values there are, in words."""
        return f"one of {', '.join(show(choice) for choice in self.choices)}"

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_name(self.name)
        yield from check_when(self.when)
        if not isinstance(self.choices, (list, tuple)):
            yield Flaw("choices", f"{show(self.choices)} is no list; write one, such as [adam, sgd]")
        elif not self.choices:
            yield Flaw("choices", "is empty; write the choices, such as [adam, sgd]")
        else:
            yield from _check_choices(self.choices)

    def _settle(self) -> None:
        super()._settle()
        self._set("choices", tuple(self.choices))
        self._set("_identities", tuple(identity(choice) for choice in self.choices))


@dataclass(frozen=True)
class Categorical(_Choices):
    """One of several values without an order; a list may be cut down to a single one."""

    kind: ClassVar[str] = "categorical"

    name: str
    choices: tuple[Value, ...] = field(compare=False)
    when: When = None
    _identities: tuple[Any, ...] = field(init=False, repr=False)


@dataclass(frozen=True)
class Ordinal(_Choices):
    """One of several values in a row, where neighbours are alike: ``16, 32, 64`` or ``small, large``."""

    kind: ClassVar[str] = "ordinal"

    name: str
    choices: tuple[Value, ...] = field(compare=False)
    when: When = None
    _identities: tuple[Any, ...] = field(init=False, repr=False)


Parameter = Union[Float, Int, Normal, Categorical, Ordinal]

#: The kinds by the name that a task file gives them.
KINDS: Final[Mapping[str, Callable[..., Parameter]]] = {
    "float": Float,
    "int": Int,
    "normal": Normal,
    "lognormal": partial(Normal, log=True),
    "categorical": Categorical,
    "ordinal": Ordinal,
}


def _check_choices(choices: tuple[Any, ...]) -> Iterator[Flaw]:
    for index, choice in enumerate(choices):
        path = f"choices[{index}]"
        flaws = list(check_scalar(path, choice))
        yield from flaws
        first = next((i for i in range(index) if same_in_json(choices[i], choice)), None)
        if first is not None and not flaws:
            yield Flaw(path, f"{show(choice)} is choices[{first}] ({show(choices[first])}) again; keep one")


def same_in_json(one: Any, other: Any) -> bool:
    """Whether some JSON writers would write both values alike: 1 and 1.0, but not 1 and true."""
    same_kind = type(one) is type(other) or (is_number(one) and is_number(other))
    return same_kind and bool(one == other)


def _scale(log: bool) -> str:
    return "log" if log else "linear"
