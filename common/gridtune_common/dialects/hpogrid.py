"""The search spaces of hpogrid and phpo: ``{"lr": {"method": "loguniform", "dimension": {"low": …, "high": …}}}``.

All eleven methods, by what they mean and not by what each library made of them: bounds are the values
themselves whatever the base, ``uniformint`` includes its upper bound, and ``q`` leads to its multiples. A
``lognormal`` is the base, e if left out, to the power of a normal number. A parameter may also be a plain value,
which is short for ``fixed``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gridtune_common.dialects.conversion import Conversion, Converted
from gridtune_common.space.reading import did_you_mean, join, show

_KEYS: Final = ("method", "dimension")
_PLACES: Final = {"low": "dimension.low", "high": "dimension.high", "step": "dimension.q"}


class Hpogrid:
    """The dialect of hpogrid."""

    def recognises(self, space: Any) -> bool:
        """Whether at least one parameter has a method and a dimension."""
        return isinstance(space, Mapping) and any(_is_parameter(body) for body in space.values())

    def convert(self, space: Mapping[str, Any], path: str) -> Converted:
        """Convert a space that stands at *path*.

        Raises:
            InvalidDocument: It cannot be converted; names every flaw.
        """
        conversion = Conversion()
        for name, body in space.items():
            _convert(name, body, join(path, str(name)), conversion)
        return conversion.finish()


def _is_parameter(body: Any) -> bool:
    return isinstance(body, Mapping) and set(_KEYS) <= set(body)


def _convert(name: Any, body: Any, path: str, conversion: Conversion) -> None:
    if body is None or isinstance(body, (bool, int, float, str)):
        conversion.note(f"{name}: {show(body)} is a plain value and becomes a constant")
        conversion.constant(name, body, path)
        return
    if not isinstance(body, Mapping):
        fix = "write {method: …, dimension: {…}}, as for the others"
        conversion.flaws.add(path, f"{show(body)} is no parameter of hpogrid; {fix}")
        return
    fields = conversion.read(body, path, _KEYS)
    if fields is not None:
        _convert_method(name, fields["method"], fields["dimension"], path, conversion)


def _convert_method(name: Any, written: Any, dimension: Any, path: str, conversion: Conversion) -> None:
    if not isinstance(written, str) or written not in METHODS:
        conversion.flaws.add(join(path, "method"), f"{show(written)} is no method; {did_you_mean(written, METHODS)}")
        return
    method = METHODS[written]
    if written == "fixed" and isinstance(dimension, Mapping) and "value" in dimension and dimension["value"] is None:
        conversion.constant(name, None, path, "dimension.value")  # elsewhere null counts as left out
        return
    fields = conversion.read(dimension, join(path, "dimension"), method.required, method.optional)
    if fields is not None:
        method.convert(_Parameter(name, written, fields, path), conversion)


@dataclass(frozen=True)
class _Parameter:
    """One parameter: its dimension has all required keys and no unknown ones."""

    name: str
    method: str
    dimension: dict[str, Any]
    path: str


def _categorical(parameter: _Parameter, conversion: Conversion) -> None:
    if parameter.dimension.get("grid_search"):
        conversion.note(f"{parameter.name}: grid_search is ignored")
    categories = parameter.dimension["categories"]
    conversion.choices(parameter.name, categories, parameter.path, "dimension.categories")


def _fixed(parameter: _Parameter, conversion: Conversion) -> None:
    conversion.constant(parameter.name, parameter.dimension["value"], parameter.path, "dimension.value")


def _range(parameter: _Parameter, conversion: Conversion) -> None:
    """All methods with bounds."""
    method, log = parameter.method, "log" in parameter.method
    keys = METHODS[method].required
    numbers = conversion.numbers(parameter.dimension, join(parameter.path, "dimension"), keys)
    if numbers is None:
        return
    if "base" in parameter.dimension:
        conversion.note(f"{parameter.name}: base is ignored; low and high are the bounds, whatever the base")
    low, high = numbers["low"], numbers["high"]
    if "q" in numbers:
        conversion.multiples(parameter.name, parameter.path, low, high, numbers["q"], log=log, places=_PLACES)
    else:
        kind = "int" if method == "uniformint" else "float"
        conversion.number(parameter.name, parameter.path, low, high, kind=kind, log=log, places=_PLACES)


def _normal(parameter: _Parameter, conversion: Conversion) -> None:
    """All methods without bounds; a base other than e goes into mean and std."""
    log = "log" in parameter.method
    where = join(parameter.path, "dimension")
    numbers = conversion.numbers(parameter.dimension, where, tuple(parameter.dimension))
    if numbers is None:
        return
    mean, std = numbers["mu"], numbers["sigma"]
    if "base" in numbers:
        if numbers["base"] <= 1:
            conversion.flaws.add(join(where, "base"), f"{show(numbers['base'])} is not above 1; write one, such as 10")
            return
        unit = math.log(numbers["base"])
        mean, std = _rounded(mean * unit), _rounded(std * unit)
        conversion.note(f"{parameter.name}: mean and std are those of the natural logarithm, whatever the base")
    places = {"mean": "dimension.mu", "std": "dimension.sigma", "step": "dimension.q"}
    conversion.normal(parameter.name, parameter.path, mean, std, log=log, step=numbers.get("q"), places=places)


def _rounded(number: float) -> float:
    """Without the digits that only rounding errors fill."""
    return float(f"{number:.12g}")


@dataclass(frozen=True)
class _Method:
    """What a method's dimension contains, and what becomes of it."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    convert: Callable[[_Parameter, Conversion], None]


METHODS: Final[Mapping[str, _Method]] = {
    "categorical": _Method(("categories",), ("grid_search",), _categorical),
    "uniform": _Method(("low", "high"), (), _range),
    "uniformint": _Method(("low", "high"), (), _range),
    "quniform": _Method(("low", "high", "q"), (), _range),
    "loguniform": _Method(("low", "high"), ("base",), _range),
    "qloguniform": _Method(("low", "high", "q"), ("base",), _range),
    "normal": _Method(("mu", "sigma"), (), _normal),
    "qnormal": _Method(("mu", "sigma", "q"), (), _normal),
    "lognormal": _Method(("mu", "sigma"), ("base",), _normal),
    "qlognormal": _Method(("mu", "sigma", "q"), ("base",), _normal),
    "fixed": _Method(("value",), (), _fixed),
}
