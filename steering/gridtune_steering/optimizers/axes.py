"""A search space as the few kinds of axes that every optimizer library knows.

Libraries differ in what they can express; most get ordinals, steps and logarithmic integers wrong or not at all. So a
parameter becomes one of three kinds of axes, and the transforms between values and axis coordinates live here, once:

* `Real`: a coordinate in the unit interval. For floats, logarithmic numbers and very long grids it is linear or
logarithmic in the value (`Proportion`); for numbers with a distribution it is the share below the value (`Quantile`),
so that coordinates drawn evenly are values drawn from the distribution;
* `Index`: one of ``n`` places in a row, where neighbours are alike (stepped numbers, integers, ordinals);
* `Choice`: one of ``n`` places without order (categoricals).

Every decoded value is of the declared type, on the declared grid and inside the declared bounds, whatever rounding
did to the coordinate.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from gridtune_common.protocol import Parameters, Value
from gridtune_common.space import Categorical, Float, Int, Normal, Ordinal, Parameter, SearchSpace

#: Longer rows are as good as continuous, and some libraries make a table of an index.
_LONGEST_INDEX = 1000


@dataclass(frozen=True, slots=True)
class Real:
    """A coordinate in ``[0, 1]`` for a number: the same interval whatever the bounds, so no library overflows."""

    parameter: Float | Int | Normal

    def encode(self, value: Value) -> float:
        """The coordinate of a value of the parameter."""
        raise NotImplementedError

    def decode(self, coordinate: float) -> Value:
        """The nearest value of the parameter."""
        raise NotImplementedError

    def from_unit(self, u: float) -> Value:
        """The value at a share of the way from the lower end to the upper one."""
        return self.decode(u)


@dataclass(frozen=True, slots=True)
class Proportion(Real):
    """How far a number is on the way between its bounds, on the parameter's scale."""

    parameter: Float | Int

    def encode(self, value: Value) -> float:
        """The coordinate of a value of the parameter."""
        low, high, number = self._scaled(self.parameter.low), self._scaled(self.parameter.high), _number(value)
        half = high / 2 - low / 2  # since the difference of the bounds can be too large for a float
        # bounds next to each other can have the same logarithm
        return min(max((self._scaled(number) / 2 - low / 2) / half, 0.0), 1.0) if half else 0.5

    def decode(self, coordinate: float) -> Value:
        """The nearest value of the parameter."""
        low, high = self._scaled(self.parameter.low), self._scaled(self.parameter.high)
        scaled = low * (1 - coordinate) + high * coordinate
        number = math.exp(scaled) if self.parameter.log else scaled
        bounded = min(max(number, self.parameter.low), self.parameter.high)
        if isinstance(self.parameter, Float) and self.parameter.step is None:
            return float(bounded)
        return self.parameter.grid_value(self.parameter.grid_index(bounded))

    def _scaled(self, number: float) -> float:
        return math.log(number) if self.parameter.log else float(number)


@dataclass(frozen=True, slots=True)
class Quantile(Real):
    """The share of a number's distribution that lies below it."""

    parameter: Normal

    def encode(self, value: Value) -> float:
        """The share of the distribution below a value of the parameter."""
        return self.parameter.rank(_number(value))

    def decode(self, coordinate: float) -> Value:
        """The value with this share of the distribution below it."""
        return self.parameter.quantile(min(max(coordinate, 0.0), 1.0))


@dataclass(frozen=True, slots=True)
class Index:
    """One of ``n`` places in a row: an ordinal, an integer or a stepped float."""

    parameter: Float | Int | Ordinal

    @property
    def n(self) -> int:
        """How many places there are."""
        return self.parameter.grid_size

    def encode(self, value: Value) -> int:
        """The place of a value, from 0."""
        if isinstance(self.parameter, Ordinal):
            return self.parameter.grid_index(value)
        return self.parameter.grid_index(_number(value))

    def decode(self, coordinate: float) -> Value:
        """The value at the nearest place."""
        return self.parameter.grid_value(min(max(round(coordinate), 0), self.n - 1))

    def from_unit(self, u: float) -> Value:
        """The value at a share of the way along the row, each place as long as the others."""
        return self.parameter.grid_value(min(int(u * self.n), self.n - 1))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of ``n`` places without order: a categorical."""

    parameter: Categorical

    @property
    def n(self) -> int:
        """How many places there are."""
        return self.parameter.grid_size

    def encode(self, value: Value) -> int:
        """The place of a value, from 0."""
        return self.parameter.grid_index(value)

    def decode(self, place: float) -> Value:
        """The value at a place."""
        return self.parameter.grid_value(int(place))

    def from_unit(self, u: float) -> Value:
        """The value at a share of the way through the places, each as long as the others."""
        return self.parameter.grid_value(min(int(u * self.n), self.n - 1))


Axis = Real | Index | Choice


def axis_of(parameter: Parameter) -> Axis:
    """The axis that stands for a parameter."""
    if isinstance(parameter, Categorical):
        return Choice(parameter)
    if isinstance(parameter, Ordinal):
        return Index(parameter)
    if isinstance(parameter, Normal):
        return Quantile(parameter)
    is_continuous = isinstance(parameter, Float) and parameter.step is None
    if is_continuous or parameter.log or parameter.grid_size > _LONGEST_INDEX:
        return Proportion(parameter)
    return Index(parameter)


def blend(space: SearchSpace, one: Parameters, other: Parameters, share: float, rng: random.Random) -> Parameters:
    """A point on the way from *one* to *other*; what has no order is taken from either, by chance."""
    values = {**other, **one}
    for name in one.keys() & other.keys():
        axis = axis_of(space[name])
        if isinstance(axis, Choice):
            values[name] = other[name] if rng.random() < share else one[name]
        else:
            values[name] = axis.decode((1 - share) * axis.encode(one[name]) + share * axis.encode(other[name]))
    # what neither had may become active, and with it what hangs on that
    for name in space.names:
        if name not in values:
            values[name] = space[name].sample(rng)
    return {name: values[name] for name in space.active(values)}


def middle(axis: Axis) -> float:
    """A coordinate in the middle, to stand for a parameter that is not active in a point."""
    return axis.encode(axis.from_unit(0.5))


def _number(value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    return value
