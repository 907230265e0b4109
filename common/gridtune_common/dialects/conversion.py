"""What all dialects share: collecting converted parameters, and the flaws in terms of what was written.

A dialect hands in each parameter in our form. It is checked at once, and what is wrong with it is told with
the path at which the dialect keeps the value: ``space.lr.dimension.q``, not ``space.lr.step``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Any, Final, Optional, Union

from gridtune_common.errors import Flaw
from gridtune_common.space.base import check_name
from gridtune_common.space.parameters import same_in_json
from gridtune_common.space.parsing import as_number, parse_parameters
from gridtune_common.space.reading import Flaws, check_json, check_number, check_scalar, join, read_mapping, show

Number = Union[int, float]

_NO_PLACES: Final[Mapping[str, str]] = {}

#: Changes to a smaller share of the draws are not worth a note.
_RARE: Final = 1e-3


@dataclass(frozen=True)
class Converted:
    """A search space in our form.

    Attributes:
        space: Its parameters as a task file of ours writes them.
        constants: What had one value only.
        notes: What the conversion changed or left out, for people, each with the name of its parameter.
    """

    space: dict[str, Any]
    constants: dict[str, Any]
    notes: list[str]


class Conversion:
    """A space on its way from a dialect to our form; collects parameters, constants, notes and flaws."""

    def __init__(self) -> None:
        self.flaws = Flaws()
        self._space: dict[str, Any] = {}
        self._constants: dict[str, Any] = {}
        self._notes: list[str] = []

    def finish(self) -> Converted:
        """What came out.

        Raises:
            InvalidDocument: Something cannot be converted; names every flaw.
        """
        self.flaws.raise_if_any()
        return Converted(self._space, self._constants, self._notes)

    def note(self, text: str) -> None:
        """Tell people about a change; the same note twice counts once."""
        if text not in self._notes:
            self._notes.append(text)

    def keep(self, name: Any, document: Any) -> None:
        """Take over what is in our form already; the space itself will check it."""
        self._space[name] = document

    def constant(self, name: Any, value: Any, path: str, below: str = "") -> None:
        """Add a constant.

        Args:
            name: Its name.
            value: A JSON value.
            path: Where the parameter stands.
            below: Where the value stands below it.
        """
        self.flaws.adopt(path, check_name(name))
        self.flaws.adopt("", check_json(join(path, below), value))
        self._constants[name] = value

    def choices(self, name: Any, choices: Any, path: str, below: str = "", kind: str = "categorical") -> None:
        """Add a categorical or an ordinal; choices that come again are dropped, with a note."""
        place = join(path, below)
        if not isinstance(choices, (list, tuple)):
            self.flaws.add(place, f"{show(choices)} is no list; write one, such as [16, 32]")
            return
        before = len(self.flaws)
        for index, choice in enumerate(choices):
            self.flaws.adopt("", check_scalar(join(place, f"[{index}]"), choice))
        if len(self.flaws) > before:
            return
        distinct = list(_distinct(choices))
        if len(distinct) < len(choices):
            self.note(f"{name}: choices that come again are dropped, their weights with them: all are equally likely")
        self._add(name, {"type": kind, "choices": distinct}, path, {"choices": below})

    def number(
        self,
        name: Any,
        path: str,
        low: Number,
        high: Number,
        *,
        kind: str = "float",
        log: bool = False,
        step: Optional[Number] = None,
        places: Mapping[str, str] = _NO_PLACES,
    ) -> None:
        """Add a float or an int with finite bounds; one value alone makes a constant.

        Args:
            name: Its name.
            path: Where it stands.
            low: The least value.
            high: The greatest value.
            kind: ``float`` or ``int``.
            log: Whether ratios matter.
            step: The distance between values, counted from *low*.
            places: Where low, high and step stand below *path*, if somewhere else than at *path* itself.
        """
        if kind == "int":
            low, high = _whole(low), _whole(high)
        if log and low <= 0:
            fix = "write a bound above 0 (the bound itself, not its exponent)"
            self.flaws.add(
                join(path, places.get("low", "")), f"{show(low)} is not above 0, as a log scale needs; {fix}"
            )
        elif low == high and (kind == "float" or isinstance(low, int)):
            value = float(low) if kind == "float" else low
            self.note(f"{name}: can only be {show(value)} and becomes a constant")
            self.constant(name, value, path)
        else:
            body: dict[str, Any] = {"type": kind, "low": low, "high": high}
            if log:
                body["scale"] = "log"
            if step is not None:
                body["step"] = step
            self._add(name, body, path, places)

    def multiples(
        self,
        name: Any,
        path: str,
        low: Number,
        high: Number,
        q: Number,
        *,
        log: bool = False,
        places: Mapping[str, str] = _NO_PLACES,
    ) -> None:
        """Add the multiples of *q* that lie within the bounds: an int if all three are, or else a float."""
        where = join(path, places.get("step", ""))
        if q <= 0:
            self.flaws.add(where, f"{show(q)} is not above 0; write a positive one, such as 0.5")
            return
        if low > high:
            self.flaws.add(join(path, places.get("low", "")), f"{show(low)} is above the upper bound ({show(high)})")
            return
        step, least, most = _exact(q), _exact(low), _exact(high)
        first, last = math.ceil(least / step) * step, math.floor(most / step) * step
        if first > last:
            fix = "make it smaller or widen the bounds"
            self.flaws.add(where, f"no multiple of {show(q)} is between {show(low)} and {show(high)}; {fix}")
            return
        if log and low <= 0:
            first = least  # to be refused as what was written
        whole = all(isinstance(number, int) for number in (low, high, q))
        ends = [int(end) if whole else float(end) for end in (first, last)]
        if (first, last) != (least, most):
            self.note(f"{name}: goes from {show(ends[0])} to {show(ends[1])}, the multiples of {show(q)} in its range")
        kind = "int" if whole else "float"
        self.number(name, path, ends[0], ends[1], kind=kind, log=log, step=q, places=places)

    def read(
        self, document: Any, path: str, required: Collection[str], optional: Collection[str] = ()
    ) -> Optional[dict[str, Any]]:
        """Read an object with known keys; None, with a flaw, if it cannot be used."""
        before = len(self.flaws)
        fields = read_mapping(document, path, (*required, *optional), self.flaws)
        missing = [key for key in required if fields is not None and key not in fields]
        if len(self.flaws) == before:  # or else an unknown key is probably the missing one
            self.flaws.adopt(path, [Flaw(key, f"is missing; write {' and '.join(required)}") for key in missing])
        return fields if len(self.flaws) == before else None

    def numbers(self, fields: Mapping[str, Any], path: str, keys: Collection[str]) -> Optional[dict[str, Any]]:
        """The finite numbers under these keys, which are there; None, with flaws, if any is no number."""
        before = len(self.flaws)
        read = {key: as_number(fields[key]) for key in keys}
        for key, value in read.items():
            self.flaws.adopt("", check_number(join(path, key), value))
        return read if len(self.flaws) == before else None

    def bounds(self, document: Any, path: str) -> Optional[tuple[Number, Number]]:
        """A pair of finite numbers; None, with a flaw, if it is not one."""
        if not isinstance(document, (list, tuple)) or len(document) != 2:
            self.flaws.add(
                path, f"{show(document)} is no pair of bounds; write the lower and the upper, such as [0, 5]"
            )
            return None
        read = self.numbers(dict(zip(("[0]", "[1]"), document)), path, ("[0]", "[1]"))
        return None if read is None else (read["[0]"], read["[1]"])

    def normal(
        self,
        name: Any,
        path: str,
        mean: Number,
        std: Number,
        *,
        log: bool = False,
        step: Optional[Number] = None,
        places: Mapping[str, str] = _NO_PLACES,
    ) -> None:
        """Add a number from a normal distribution without bounds.

        Args:
            name: Its name.
            path: Where it stands.
            mean: The mean, of the natural logarithm if *log*.
            std: The standard deviation, of the natural logarithm if *log*.
            log: Whether the logarithm is normal.
            step: What values are multiples of.
            places: Where mean, std and step stand below *path*, if somewhere else than at *path* itself.
        """
        body: dict[str, Any] = {"type": "lognormal" if log else "normal", "mean": mean, "std": std}
        if step is not None:
            body["step"] = step
        before = len(self.flaws)
        self._add(name, body, path, places)
        if log and step is not None and len(self.flaws) == before:
            zeros = NormalDist(mean, std).cdf(math.log(step / 2))
            if zeros > _RARE:
                self.note(f"{name}: what would round to 0 ({zeros:.1%} of the draws) becomes {show(step)}")

    def _add(self, name: Any, body: dict[str, Any], path: str, places: Mapping[str, str]) -> None:
        """Add a parameter in our form once it is known to be a good one."""
        found = Flaws()
        parse_parameters({name: body}, "", found)
        for flaw in found:
            below = flaw.path[len(str(name)) :].lstrip(".")
            key = below.split("[")[0]
            place = places.get(key, "") + below[len(key) :]
            self.flaws.add(join(path, place), flaw.message)
        self._space[name] = body


def _distinct(choices: Collection[Any]) -> Iterator[Any]:
    seen: list[Any] = []
    for choice in choices:
        if not any(same_in_json(choice, other) for other in seen):
            seen.append(choice)
            yield choice


def _whole(number: Number) -> Number:
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _exact(number: Number) -> Fraction:
    """The number that the shortest decimal notation stands for."""
    return Fraction(repr(number))
