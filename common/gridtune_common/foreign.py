"""Points that were made elsewhere, brought into the form that a search space gives its points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gridtune_common.protocol import Parameters
from gridtune_common.space import Parameter, SearchSpace
from gridtune_common.space.reading import is_number


def settle(space: SearchSpace, point: Mapping[str, Any]) -> Parameters:
    """The point with its numbers in the types of their parameters, in declared order; all else stays as it is.

    Programs and tables disagree on whether 64.0 is a whole number; a space does not.
    """
    known = {
        parameter.name: settle_value(parameter, point[parameter.name]) for parameter in space if parameter.name in point
    }
    return {**known, **{name: value for name, value in point.items() if name not in known}}


def settle_value(parameter: Parameter, value: Any) -> Any:
    """One value in its parameter's type, if it has an equal one.

    >>> from gridtune_common.space import Int
    >>> settle_value(Int("width", 16, 512), 64.0), settle_value(Int("width", 16, 512), 64.5)
    (64, 64.5)
    """
    if not is_number(value) or abs(value) > 2**53:
        return value
    forms = [float(value), *([int(value)] if value == value // 1 else [])]
    return next((form for form in forms if parameter.contains(form)), value)
