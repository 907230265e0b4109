"""Where the values of a parameter lie on an axis from 0 to 1, and what its ticks say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from gridtune_common.protocol import Value
from gridtune_common.space import Normal
from gridtune_common.space.parsing import parse_parameters
from gridtune_common.space.reading import Flaws

#: What is shown for a parameter that is inactive in a point.
INACTIVE = "\N{EN DASH}"

#: An axis without bounds leaves out this share of a distribution at each end, unless points lie there.
_RARE = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The axis of a parameter or metric: a range of numbers, or a row of choices if it has any.

    Attributes:
        low: The number at position 0; above zero on a log axis.
        high: The number at position 1.
        whole: Whether there is nothing between the whole numbers.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    choices: tuple[Value, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the axis holds choices, not a range of numbers."""
        return bool(self.choices)

    def position(self, value: Value) -> float | None:
        """Return where *value* lies, 0 to 1, or None if it lies nowhere."""
        if self.named:
            index = self.index(value)
            return None if index is None else self._choice_position(index)
        if not is_number(value) or (self.log and float(value) <= 0):
            return None
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, float(value)))
        return (at - low) / (high - low) if high > low else 0.5

    def index(self, value: Value) -> int | None:
        """Return which choice *value* is."""
        return next((i for i, choice in enumerate(self.choices) if _same(choice, value)), None)

    def ticks(self, most: int = 8) -> list[tuple[float, str]]:
        """Return positions with their labels; *most* is about how many numbers can be read."""
        if self.named:
            return [(self._choice_position(i), show(choice)) for i, choice in enumerate(self.choices)]
        at = {number: self.position(number) for number in (self.low, *self._round_numbers(most - 2), self.high)}
        ends = (self.position(self.low), self.position(self.high))
        return [
            (position, show(number))
            for number, position in at.items()
            if position is not None
            and (number in (self.low, self.high) or all(abs(position - (end or 0.0)) > 0.5 / most for end in ends))
        ]

    def _choice_position(self, index: int) -> float:
        return (index + 0.5) / len(self.choices)

    def _round_numbers(self, most: int) -> list[float]:
        if self.log and self.high / self.low >= 10:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            every = max(1, math.ceil((last - first + 1) / most))
            return [10.0**power for power in range(first, last + 1, every)]
        if self.log or self.high <= self.low:
            return []
        rough = max((self.high - self.low) / most, 1.0 if self.whole else 0.0)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [float(f"{n * step:.6g}") for n in range(first, last + 1)]


def axes(space: Mapping[str, Any], points: Iterable[Mapping[str, Value]]) -> list[Axis]:
    """Return the axis of every parameter of a search space, wide enough for all *points*."""
    seen: dict[str, list[Value]] = {name: [] for name in space}
    for parameters in points:
        for name in space:
            if name in parameters:
                seen[name].append(parameters[name])
    return [_axis(name, spec, seen[name]) for name, spec in space.items()]


def spread(name: str, values: Sequence[float]) -> Axis:
    """Return the axis of a metric, on a log scale if that shows its *values* better."""
    low, high = min(values), max(values)
    return Axis(name=name, low=low, high=high, log=wide(values))


def wide(values: Sequence[float]) -> bool:
    """Whether *values* are best read on a log scale: above zero, and the largest many times the smallest."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > 20


def is_number(value: object) -> TypeGuard[float]:
    """Whether *value* is a finite number; a Boolean is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def show(value: Value, digits: int = 4) -> str:
    """Write a value for people.

    >>> show(0.000123456), show(12345678), show(True), show(None)
    ('0.0001235', '12345678', 'true', 'null')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _axis(name: str, spec: Mapping[str, Any], seen: Sequence[Value]) -> Axis:
    if spec.get("type") in ("normal", "lognormal") and all(is_number(value) for value in seen):
        numbers = [float(n) for n in (*_usual(spec), *seen) if is_number(n)]
        low, high = min(numbers, default=0.0), max(numbers, default=1.0)
        return Axis(name=name, low=low, high=high, log=spec["type"] == "lognormal" and low > 0)
    if spec.get("type") in ("float", "int") and all(is_number(value) for value in seen):
        numbers = [float(n) for n in (spec.get("low"), spec.get("high"), *seen) if is_number(n)]
        low, high = min(numbers, default=0.0), max(numbers, default=1.0)
        log = spec.get("scale") == "log" and low > 0
        return Axis(name=name, low=low, high=high, log=log, whole=spec["type"] == "int")
    choices: list[Value] = list(spec.get("choices") or ())
    for value in seen:
        if not any(_same(choice, value) for choice in choices):
            choices.append(value)
    return Axis(name=name, choices=tuple(choices) or (None,))


def _usual(spec: Mapping[str, Any]) -> tuple[float, ...]:
    """The ends of what a distribution gives but for one value in a thousand at each of them."""
    parameter = parse_parameters({"_": spec}, "", Flaws())["_"]
    return (parameter.quantile(_RARE), parameter.quantile(1 - _RARE)) if isinstance(parameter, Normal) else ()


def _same(one: Value, other: Value) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
