"""A number of which one knows about where it lies: drawn from a normal or lognormal distribution.

The distribution may be cut at bounds. Everything is told in terms of it: the share of the distribution below a
value (`Normal.rank`), and the value below which a share of it lies (`Normal.quantile`). So whoever searches the
unit interval evenly searches the values as they were declared.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Optional, cast

from gridtune_common.errors import Flaw
from gridtune_common.space.base import (
    SLACK,
    Numeric,
    check_flag,
    check_index,
    check_name,
    exact,
)
from gridtune_common.space.conditions import When, check_when
from gridtune_common.space.reading import check_number, is_number

#: What is left out at each open end when values are drawn: a chance of one in 10**9, at six standard deviations.
TAIL: Final = 1e-9
#: Bounds must leave this share of the distribution, or rounding errors would show in what is drawn.
LEAST_SHARE: Final = 1e-6

# Values up to eight standard deviations from the mean must be floats with room for arithmetic.
_REACH: Final = 8
_LARGEST: Final = 1e300
_LARGEST_EXPONENT: Final = 690.0
# The standard deviation in units in the last place of the mean: fewer would be visible as steps.
_FINEST: Final = 2.0**20

_OF_LOGARITHM: Final = "mean and std are those of the natural logarithm of the value"


@dataclass(frozen=True)
class Normal(Numeric):
    """A real number drawn from a normal distribution, or a positive one from a lognormal distribution.

    With *log*, *mean* and *std* are those of the natural logarithm of the value. The bounds are bounds of the value
    itself, and cut the distribution off; without them, any number is a value, though one drawn is always within six
    standard deviations of the mean.

    With a step, values are the multiples of the step within the bounds, each the float nearest to its decimal
    notation: a draw is rounded to the nearest of them. For a lognormal that is one step at least.
    """

    name: str
    mean: float
    std: float
    log: bool = False
    low: Optional[float] = None
    high: Optional[float] = None
    step: Optional[float] = None
    when: When = None

    @property
    def kind(self) -> str:
        """How a task file calls it."""
        return "lognormal" if self.log else "normal"

    @property
    def n_values(self) -> Optional[int]:
        """How many values there are; None if there is no step, or no end to its multiples."""
        first, last = self._ends()
        return None if first is None or last is None else last - first + 1

    @property
    def grid_size(self) -> int:
        """How many values the grid has.

        Raises:
            ValueError: There is no end to them.
        """
        first, last = self._grid()
        return last - first + 1

    def grid_value(self, index: int) -> float:
        """The value at a place of the grid, from 0.

        Raises:
            IndexError: The grid has no such place.
            ValueError: There is no end to the values.
        """
        first, last = self._grid()
        check_index(index, last - first + 1)
        return self._multiple(first + index)

    def grid_index(self, value: float) -> int:
        """The place of the grid value nearest to *value*, which may lie anywhere.

        Raises:
            ValueError: There is no end to the values, or *value* is not finite.
        """
        first, _ = self._grid()
        return self._nearest(float(value)) - first

    def contains(self, value: object) -> bool:
        """Whether this is a finite number within the bounds and, with a step, on the grid."""
        if not is_number(value):
            return False
        number = cast(float, value)
        least, most = self._limits()
        if not least <= number <= most or (self.log and number <= 0):
            return False
        return self.step is None or self._multiple(self._nearest(float(number))) == number

    def sample(self, rng: random.Random) -> float:
        """Draw a value from the distribution."""
        return self.quantile(rng.random())

    def quantile(self, u: float) -> float:
        """The value below which the share *u* of the distribution lies: finite and possible also for 0 and 1.

        Raises:
            ValueError: *u* is not between 0 and 1.
        """
        if not 0 <= u <= 1:
            raise ValueError(f"{u} is not between 0 and 1")
        first, last = self._shares()
        scaled = self._distribution().inv_cdf(first * (1 - u) + last * u)
        least, most = self._limits()
        number = min(max(math.exp(scaled) if self.log else scaled, least), most)
        return number if self.step is None else self._multiple(self._nearest(number))

    def rank(self, value: float) -> float:
        """The share of the distribution that lies below *value*, from 0 to 1; the inverse of `quantile`."""
        if self.log and value <= 0:
            return 0.0
        first, last = self._shares()
        below = self._distribution().cdf(self._scaled(value))
        return (min(max(below, first), last) - first) / (last - first)

    def to_json(self) -> dict[str, Any]:
        """The parameter as a task file writes it, without its name."""
        optional = {"low": self.low, "high": self.high, "step": self.step}
        given = {key: value for key, value in optional.items() if value is not None}
        return self._document(mean=self.mean, std=self.std, **given)

    def describe(self) -> str:
        """What values there are, in words."""
        low = 0.0 if self.log and self.low is None else self.low
        lower = "" if low is None else " above 0" if self.log and low == 0 else f" from {low}"
        upper = "" if self.high is None else f" up to {self.high}"
        steps = "" if self.step is None else f" that is a multiple of {self.step}"
        return f"a float{lower}{upper}{steps}" if lower or upper or steps else "any float"

    # --- the distribution, on the scale on which it is normal -----------------------------------------------

    def _distribution(self) -> NormalDist:
        return NormalDist(self.mean, self.std)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    def _cut(self) -> tuple[float, float]:
        """The shares of the whole distribution that lie below the lower and the upper bound."""
        distribution = self._distribution()
        is_open = self.low is None or (self.log and self.low == 0)
        below = 0.0 if is_open else distribution.cdf(self._scaled(cast(float, self.low)))
        return below, 1.0 if self.high is None else distribution.cdf(self._scaled(self.high))

    def _shares(self) -> tuple[float, float]:
        """The ends of what is drawn, as shares of the whole distribution."""
        first, last = self._cut()
        return max(first, TAIL), min(last, 1 - TAIL)

    def _limits(self) -> tuple[float, float]:
        """The bounds, or the ends of all floats."""
        largest = sys.float_info.max
        return -largest if self.low is None else self.low, largest if self.high is None else self.high

    # --- the grid: multiples of the step, told by how many steps they are from 0 ----------------------------

    def _ends(self) -> tuple[Optional[int], Optional[int]]:
        """The first and the last multiple; None where there is none."""
        if self.step is None:
            return None, None
        step = exact(self.step)
        first = None if self.low is None else math.ceil(exact(self.low) / step - SLACK)
        if self.log:
            first = max(first or 1, 1)
        return first, None if self.high is None else math.floor(exact(self.high) / step + SLACK)

    def _grid(self) -> tuple[int, int]:
        first, last = self._ends()
        if first is None or last is None:
            raise ValueError(f"{self.name} has endless values: it has no grid without low, high and step")
        return first, last

    def _nearest(self, number: float) -> int:
        first, last = self._ends()
        place = round(exact(number) / exact(cast(float, self.step)))
        place = place if first is None else max(place, first)
        return place if last is None else min(place, last)

    def _multiple(self, place: int) -> float:
        least, most = self._limits()
        try:
            number = float(place * exact(cast(float, self.step)))
        except OverflowError:  # half a step beyond the largest float
            number = math.copysign(math.inf, place)
        return min(max(number, least), most)

    # --- checks ---------------------------------------------------------------------------------------------

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_name(self.name)
        yield from check_when(self.when)
        yield from check_flag("log", self.log)
        given = [key for key in ("low", "high", "step") if getattr(self, key) is not None]
        ill_typed = [flaw for key in ("mean", "std", *given) for flaw in check_number(key, getattr(self, key))]
        yield from ill_typed
        if not ill_typed:
            yield from self._check_values()

    def _check_values(self) -> Iterator[Flaw]:
        """Each check can rely on those before it."""
        for check in (self._check_signs, self._check_reach, self._check_share, self._check_multiples):
            flaws = list(check())
            yield from flaws
            if flaws:
                return

    def _check_signs(self) -> Iterator[Flaw]:
        if self.std <= 0:
            yield Flaw("std", f"{self.std} is not above 0; write how far from mean values usually lie")
        if self.log and self.low is not None and self.low < 0:
            yield Flaw(
                "low", f"{self.low} is below 0, but all values of a lognormal are above; raise it or leave it out"
            )
        if self.log and self.high is not None and self.high <= 0:
            yield Flaw(
                "high", f"{self.high} is not above 0, but all values of a lognormal are; raise it or leave it out"
            )
        elif self.low is not None and self.high is not None:
            yield from self._check_range(self.low, self.high, log=False)

    def _check_reach(self) -> Iterator[Flaw]:
        mean, std = float(self.mean), float(self.std)
        finest = _FINEST * math.ulp(max(abs(mean), 1.0) if self.log else mean)
        if std < finest:
            yield Flaw("std", f"{self.std} is too small for floats around mean; write {finest:.2g} or more")
        least, most = mean - _REACH * std, mean + _REACH * std
        if self.log:
            least = max(least, math.log(self.low)) if self.low else least
            most = min(most, math.log(self.high)) if self.high is not None else most
        largest = _LARGEST_EXPONENT if self.log else _LARGEST
        if not (-largest <= least and most <= largest):
            path = "mean" if abs(mean) > largest / 2 else "std"
            why = f" ({_OF_LOGARITHM})" if self.log else ""
            fix = "bring it nearer to 0" if path == "mean" else "make it smaller"
            yield Flaw(path, f"{getattr(self, path)} leads to values beyond what floats can hold{why}; {fix}")

    def _check_share(self) -> Iterator[Flaw]:
        below, upto = self._cut()
        if upto - below < LEAST_SHARE:
            path = "low" if below >= 1 - upto else "high"
            left = f"{max(upto - below, 0.0):.1g} of the distribution, too little to draw from"
            why = f" ({_OF_LOGARITHM})" if self.log else ""
            yield Flaw(path, f"{getattr(self, path)} leaves {left}; widen the bounds or change mean and std{why}")

    def _check_multiples(self) -> Iterator[Flaw]:
        if self.step is None:
            return
        if self.step <= 0:
            yield Flaw("step", f"{self.step} is not above 0; write a positive step or leave it out")
            return
        first, last = self._ends()
        finest = 4 * math.ulp(self._largest_on_grid())
        if self.step < finest:
            yield Flaw("step", f"{self.step} is too small for floats in this range; write {finest} or more")
        elif first is not None and last is not None and last < first:
            yield Flaw("step", f"no multiple of {self.step} is within the bounds; make it smaller")
        elif self.quantile(0) == self.quantile(1):
            yield Flaw("step", f"all draws round to {self.quantile(0)} by steps of {self.step}; make it smaller")

    def _largest_on_grid(self) -> float:
        """The largest of what is drawn or, if they can be counted, of all values, without sign and before rounding."""
        shares, distribution = self._shares(), self._distribution()
        drawn = [math.exp(end) if self.log else end for end in map(distribution.inv_cdf, shares)]
        bounds = [] if None in self._ends() else [bound for bound in (self.low, self.high) if bound is not None]
        return max(abs(float(number)) for number in (*drawn, *bounds))

    def _settle(self) -> None:
        super()._settle()
        for name in ("mean", "std", "low", "high", "step"):
            value = getattr(self, name)
            self._set(name, None if value is None else float(value) + 0.0)  # + 0.0 makes -0.0 plain
