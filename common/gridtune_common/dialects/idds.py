"""The search spaces of iDDS, which are nevergrad's: ``{"A": {"type": "Scalar", "bounds": [0, 5]}}``.

``params`` are arguments of nevergrad's constructors; ``bounds`` may stand in place of lower and upper ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Optional

from gridtune_common.dialects.conversion import Conversion, Converted, Number
from gridtune_common.space.reading import did_you_mean, join, show

#: The types, each with the arguments that it can have.
TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "Choice": ("choices", "repetitions", "deterministic"),
    "TransitionChoice": ("choices", "transitions", "repetitions", "ordered"),
    "Array": ("init", "shape", "lower", "upper", "mutable_sigma"),
    "Scalar": ("init", "lower", "upper", "mutable_sigma"),
    "Log": ("init", "exponent", "lower", "upper", "mutable_sigma"),
}

#: Arguments that say how nevergrad is to search, not what.
_IGNORED: Final = ("init", "exponent", "mutable_sigma", "transitions", "deterministic")


class Idds:
    """The dialect of iDDS."""

    def recognises(self, space: Any) -> bool:
        """Whether at least one parameter has a type of nevergrad with its params or bounds."""
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
    if not isinstance(body, Mapping) or not isinstance(body.get("type"), str):
        return False
    return body["type"] in TYPES and ("params" in body or "bounds" in body)


def _convert(name: Any, body: Any, path: str, conversion: Conversion) -> None:
    fields = conversion.read(body, path, ("type",), ("params", "bounds"))
    if fields is None:
        return
    kind = fields["type"]
    if not isinstance(kind, str) or kind not in TYPES:
        conversion.flaws.add(join(path, "type"), f"{show(kind)} is no type of nevergrad; {did_you_mean(kind, TYPES)}")
        return
    required = ("choices",) if "choices" in TYPES[kind] else ()
    optional = [key for key in TYPES[kind] if key not in required]
    params = conversion.read(fields.get("params", {}), join(path, "params"), required, optional)
    if params is None:
        return
    ignored = [key for key in params if key in _IGNORED]
    if ignored:
        verb = "is" if len(ignored) == 1 else "are"
        conversion.note(f"{name}: {' and '.join(ignored)} {verb} ignored: the algorithm decides how it searches")
    if required:
        _convert_choices(name, kind, params, path, conversion)
    elif kind != "Array" or _is_single(name, params, path, conversion):
        _convert_range(name, kind, params, fields.get("bounds"), path, conversion)


def _convert_choices(name: Any, kind: str, params: Mapping[str, Any], path: str, conversion: Conversion) -> None:
    if params.get("repetitions", 1) != 1:
        where = join(path, "params.repetitions")
        conversion.flaws.add(where, "gives a list of values; write one parameter for each element instead")
        return
    ours = "ordinal" if kind == "TransitionChoice" and params.get("ordered", True) else "categorical"
    conversion.choices(name, params["choices"], path, "params.choices", ours)


def _is_single(name: Any, params: Mapping[str, Any], path: str, conversion: Conversion) -> bool:
    """Whether an array has one element, which is then a number."""
    if _size(params) != 1:
        conversion.flaws.add(path, "is an array, not a number; write one Scalar for each element, with bounds: [0, 5]")
        return False
    conversion.note(f"{name}: an array of one element becomes a number")
    return True


def _size(params: Mapping[str, Any]) -> Optional[int]:
    """How many elements an array has; None if that cannot be told."""
    shape, init = params.get("shape"), params.get("init")
    if shape is not None:
        lengths = shape if isinstance(shape, (list, tuple)) else [shape]
        whole = all(isinstance(length, int) and not isinstance(length, bool) for length in lengths)
        return math.prod(lengths) if whole else None
    if isinstance(init, (list, tuple)):
        return len(init) if not any(isinstance(item, (list, tuple)) for item in init) else None
    return None


def _convert_range(
    name: Any, kind: str, params: Mapping[str, Any], bounds: Any, path: str, conversion: Conversion
) -> None:
    where, places = "bounds", {"low": "bounds[0]", "high": "bounds[1]"}
    pair: Optional[tuple[Number, Number]]
    if bounds is not None:
        pair = conversion.bounds(bounds, join(path, where))
    elif {"lower", "upper"} <= set(params):
        places = {"low": "params.lower", "high": "params.upper"}
        read = conversion.numbers(params, join(path, "params"), ("lower", "upper"))
        pair = None if read is None else (read["lower"], read["upper"])
    else:
        conversion.flaws.add(join(path, where), "is missing; write the lower and the upper, such as bounds: [0, 5]")
        return
    if pair is not None:
        conversion.number(name, path, *pair, log=kind == "Log", places=places)
