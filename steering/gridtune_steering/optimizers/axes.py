"""A search space as the few kinds of axes that every optimizer library knows.

Libraries differ in what they can express; most get ordinals, steps and logarithmic integers wrong or not at all. So a
parameter becomes one of three axes, and the transforms between values and axis coordinates live here, once:

* `Real`: a real coordinate on ``[low, high]``; logarithmic parameters are real in their natural logarithm;
* `Index`: one of ``n`` places in a row, where neighbours are alike (stepped numbers, integers, ordinals);
* `Choice`: one of ``n`` places without order (categoricals).

Every decoded value is of the declared type, on the declared grid and inside the declared bounds, whatever rounding
did to the coordinate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gridtune_common.protocol import Value
from gridtune_common.space import Categorical, Float, Int, Ordinal, Parameter


@dataclass(frozen=True, slots=True)
class Real:
    """A real coordinate on ``[low, high]`` for a float, or for a logarithmic integer or grid."""

    parameter: Float | Int

    @property
    def low(self) -> float:
        """The lower end, in the coordinate's own units (natural logarithm if the parameter is logarithmic)."""
        return math.log(self.parameter.low) if self.parameter.log else self.parameter.low

    @property
    def high(self) -> float:
        """The upper end, like `low`."""
        return math.log(self.parameter.high) if self.parameter.log else self.parameter.high

    def encode(self, value: Value) -> float:
        """The coordinate of a value of the parameter."""
        number = float(_number(value))
        return math.log(number) if self.parameter.log else number

    def decode(self, coordinate: float) -> Value:
        """The nearest value of the parameter."""
        number = math.exp(coordinate) if self.parameter.log else coordinate
        bounded = min(max(number, self.parameter.low), self.parameter.high)
        if isinstance(self.parameter, Float) and self.parameter.step is None:
            return bounded
        return self.parameter.grid_value(self.parameter.grid_index(bounded))


@dataclass(frozen=True, slots=True)
class Index:
    """One of ``n`` places in a row: an ordinal, an integer or a stepped float."""

    parameter: Float | Int | Ordinal

    @property
    def n(self) -> int:
        """How many places there are."""
        return len(self.parameter.choices) if isinstance(self.parameter, Ordinal) else self.parameter.grid_size

    def encode(self, value: Value) -> int:
        """The place of a value, from 0."""
        if isinstance(self.parameter, Ordinal):
            return _place(self.parameter.choices, value)
        return self.parameter.grid_index(_number(value))

    def decode(self, coordinate: float) -> Value:
        """The value at the nearest place."""
        place = min(max(round(coordinate), 0), self.n - 1)
        return (
            self.parameter.choices[place] if isinstance(self.parameter, Ordinal) else self.parameter.grid_value(place)
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One of ``n`` places without order: a categorical."""

    parameter: Categorical

    @property
    def n(self) -> int:
        """How many places there are."""
        return len(self.parameter.choices)

    def encode(self, value: Value) -> int:
        """The place of a value, from 0."""
        return _place(self.parameter.choices, value)

    def decode(self, place: float) -> Value:
        """The value at a place."""
        return self.parameter.choices[int(place)]


Axis = Real | Index | Choice


def axis_of(parameter: Parameter) -> Axis:
    """The axis that stands for a parameter."""
    if isinstance(parameter, Categorical):
        return Choice(parameter)
    if isinstance(parameter, Ordinal):
        return Index(parameter)
    is_continuous = isinstance(parameter, Float) and parameter.step is None
    return Real(parameter) if is_continuous or parameter.log else Index(parameter)


def _place(choices: tuple[Value, ...], value: Value) -> int:
    # list.index would take True for 1: compare types as well
    return next(i for i, choice in enumerate(choices) if type(choice) is type(value) and choice == value)


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    return value
