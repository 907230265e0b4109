"""Conditions: a parameter that only exists while others have certain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from gridtune_common.errors import Flaw
from gridtune_common.protocol import Value
from gridtune_common.space.reading import Checked, check_scalar, check_text, identity, join, show


@dataclass(frozen=True)
class Condition(Checked):
    """Holds while *parent* is active and has one of *values*."""

    parent: str
    values: tuple[Value, ...] = field(compare=False)
    _identities: tuple[Any, ...] = field(init=False, repr=False)

    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether the parent has one of the values in this point."""
        return self.parent in point and identity(point[self.parent]) in self._identities

    def __str__(self) -> str:
        return f"{self.parent} to be {' or '.join(show(value) for value in self.values)}"

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_text("", self.parent, "optimizer")
        if not isinstance(self.values, (list, tuple)) or not self.values:
            yield Flaw("", "names no value; write one (sgd) or several ([sgd, rmsprop])")
            return
        for index, value in enumerate(self.values):
            yield from check_scalar(_place(self.values, index), value)
            if identity(value) in [identity(other) for other in self.values[:index]]:
                yield Flaw(_place(self.values, index), f"{show(value)} is written twice; keep one")

    def _settle(self) -> None:
        self._set("values", tuple(self.values))
        self._set("_identities", tuple(identity(value) for value in self.values))


#: How conditions are given: ``{"optimizer": "sgd"}``, ``{"optimizer": ["sgd", "rmsprop"]}``, or ready-made.
When = Union[None, Mapping[str, Any], tuple[Condition, ...]]


def check_when(when: Any) -> Iterator[Flaw]:
    """Conditions are expected: several, all of which must hold, or none."""
    if when is None:
        return
    if isinstance(when, (list, tuple)) and all(isinstance(item, Condition) for item in when):
        return
    if not isinstance(when, Mapping):
        yield Flaw("when", f"{show(when)} is no condition; write one, such as {{optimizer: sgd}}")
    elif not when:
        yield Flaw("when", "is empty; leave it out, or write one, such as {optimizer: sgd}")
    else:
        for parent, values in when.items():
            yield from _check_condition(parent, values)


def conditions_of(when: Any) -> tuple[Condition, ...]:
    """Checked conditions in their one form: ordered by parent, however they were written."""
    if isinstance(when, Mapping):
        when = [Condition(parent, _listed(values)) for parent, values in when.items()]
    return tuple(sorted(when or (), key=lambda condition: condition.parent))


def _check_condition(parent: Any, values: Any) -> Iterator[Flaw]:
    try:
        Condition(parent, _listed(values))
    except ValueError as invalid:
        for flaw in getattr(invalid, "flaws", ()):
            yield Flaw(join(join("when", str(parent)), flaw.path), flaw.message)


def _listed(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (list, tuple)) else (values,)


def _place(values: tuple[Any, ...], index: int) -> str:
    return f"[{index}]" if len(values) > 1 else ""
