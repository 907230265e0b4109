"""What all kinds of parameters share: their names, conditions and ranges, and exact arithmetic on decimal notations."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, cast

from gridtune_common.errors import Flaw
from gridtune_common.space.conditions import Condition, When, conditions_of
from gridtune_common.space.reading import Checked, show

MAX_NAME_LENGTH: Final = 64

#: A range that misses a whole number of steps by this little was computed with rounding errors.
SLACK: Final = Fraction(1, 10**9)


def check_name(name: Any) -> Iterator[Flaw]:
    """A name that can be a variable in a program is expected."""
    if not isinstance(name, str):
        yield Flaw("", f"the name {show(name)} is no text; put it in quotes")
    elif not (name.isidentifier() and name.isascii()):
        yield Flaw("", f"{show(name)} is no name; {_suggest_name(name)}")
    elif keyword.iskeyword(name):
        yield Flaw("", f"{name} is a word of the Python language; write {name}_ or another name")
    elif len(name) > MAX_NAME_LENGTH:
        yield Flaw("", f"the name has {len(name)} characters; the most is {MAX_NAME_LENGTH}")


def _suggest_name(name: str) -> str:
    clean = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")
    rule = "letters, digits and _, no digit first"
    return f"write {clean} ({rule})" if clean.isidentifier() and not keyword.iskeyword(clean) else f"use {rule}"


class BaseParameter(Checked):
    """What all kinds of parameters share."""

    name: str
    when: When

    @property
    def kind(self) -> str:
        """How a task file calls it."""
        raise NotImplementedError

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All of these must hold for the parameter to be active."""
        return cast(tuple[Condition, ...], self.when)

    def _subject(self) -> str:
        return self.name if isinstance(self.name, str) else type(self).__name__

    def _settle(self) -> None:
        self._set("when", conditions_of(self.when))

    def _document(self, **fields: Any) -> dict[str, Any]:
        document = {"type": self.kind, **fields}
        if self.conditions:
            document["when"] = {condition.parent: list(condition.values) for condition in self.conditions}
        return document


class Numeric(BaseParameter):
    """What numbers share: checks of their range."""

    def _check_range(self, low: float, high: float, log: bool) -> Iterator[Flaw]:
        if low > high:
            yield Flaw("low", f"{low} is above high ({high})")
        elif low == high:
            yield Flaw("low", f"{low} equals high: nothing to tune; write constants: {{{self.name}: {low}}}")
        if log and low <= 0:
            yield Flaw("low", f"{low} is not above 0, as scale: log needs; raise it or write scale: linear")

    def _check_step(self, step: float, low: float, high: float) -> Iterator[Flaw]:
        if step <= 0:
            yield Flaw("step", f"{step} is not above 0; write a positive step or leave it out")
        elif low < high and n_steps(low, high, step) < 1:
            yield Flaw("step", f"{step} is larger than the range from {low} to {high}; make it smaller")


def check_flag(path: str, value: Any) -> Iterator[Flaw]:
    """A boolean is expected."""
    if not isinstance(value, bool):
        yield Flaw(path, f"{show(value)} is no boolean; write true or false")


def check_index(index: int, size: int) -> None:
    """Refuse a place that a grid does not have.

    Raises:
        IndexError: There is no such place.
    """
    if not 0 <= index < size:
        raise IndexError(f"the grid has places 0 to {size - 1}, not {index}")


def n_steps(low: float, high: float, step: float) -> int:
    """How many whole steps fit between the ends, by their decimal notation: exactly one of 0.1 from 0.2 to 0.3."""
    return math.floor((exact(high) - exact(low)) / exact(step) + SLACK)


def exact(number: float) -> Fraction:
    """The number that the float's shortest decimal notation stands for."""
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return Fraction(repr(number))
