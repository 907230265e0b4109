"""A search space for people, from the canonical task document. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gridtune_common.cli import text
from gridtune_common.space.parsing import parse_parameters
from gridtune_common.space.reading import Flaws


def lines(document: Mapping[str, Any]) -> list[str]:
    """The search space of a task document: its parameters, a line each, and its size."""
    space = document.get("space") or {}
    rows = [[text.plain(name), *_row(parameter)] for name, parameter in space.items()]
    constants = document.get("constants") or {}
    return [
        *text.table(["parameter", "type", "values"], rows),
        "",
        f"size of the space: {size(space)}",
        *([f"constants: {text.pairs(constants)}"] if constants else []),
    ]


def size(space: Mapping[str, Any]) -> str:
    """How many points a space has, in words.

    >>> size({"layers": {"type": "int", "low": 1, "high": 4, "step": 1}})
    '4 points'
    >>> size({"lr": {"type": "float", "low": 0.0, "high": 1.0}})
    'infinite (1 of 1 parameters continuous)'
    """
    counts = [_n_values(parameter) for parameter in space.values()]
    continuous = counts.count(None)
    if continuous:
        return f"infinite ({continuous} of {len(counts)} parameters continuous)"
    conditional = any(parameter.get("when") for parameter in space.values())
    return f"{'at most ' if conditional else ''}{math.prod(count or 1 for count in counts):,} points"


def _n_values(parameter: Mapping[str, Any]) -> int | None:
    read = parse_parameters({"_": parameter}, "", Flaws())["_"]
    return None if read is None else read.n_values


def _row(parameter: Mapping[str, Any]) -> tuple[str, str]:
    if "choices" in parameter:
        what = ", ".join(map(text.value, parameter["choices"]))
    elif "mean" in parameter:
        bounds = [f"{key} {text.value(parameter[key])}" for key in ("low", "high") if key in parameter]
        logarithm = " of the logarithm" if parameter.get("type") == "lognormal" else ""
        what = f"mean {text.value(parameter['mean'])}, std {text.value(parameter.get('std'))}{logarithm}"
        what = ", ".join([what, *bounds, *_step(parameter)])
    else:
        what = f"{text.value(parameter.get('low'))} to {text.value(parameter.get('high'))}"
        what += ", log scale" if parameter.get("scale") == "log" else ""
        what = ", ".join([what, *_step(parameter)])
    return text.value(parameter.get("type")), what + _condition(parameter.get("when"))


def _step(parameter: Mapping[str, Any]) -> list[str]:
    step, ordinary = parameter.get("step"), 1 if parameter.get("type") == "int" else None
    return [] if step in (None, ordinary) else [f"step {text.value(step)}"]


def _condition(when: Any) -> str:
    if not isinstance(when, Mapping) or not when:
        return ""
    parts = [f"{text.plain(name)} is {_alternatives(values)}" for name, values in when.items()]
    return f" (when {' and '.join(parts)})"


def _alternatives(values: Any) -> str:
    return " or ".join(map(text.value, values)) if isinstance(values, (list, tuple)) else text.value(values)
