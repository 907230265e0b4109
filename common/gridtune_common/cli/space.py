"""A search space for people, from the canonical task document. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gridtune_common.cli import text


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
    if "choices" in parameter:
        return len(parameter["choices"])
    step = parameter.get("step") or (1 if parameter.get("type") == "int" else None)
    if step is None:
        return None
    steps: float = (parameter["high"] - parameter["low"]) / step
    return math.floor(steps + 1e-9) + 1


def _row(parameter: Mapping[str, Any]) -> tuple[str, str]:
    if "choices" in parameter:
        what = ", ".join(map(text.value, parameter["choices"]))
    else:
        what = f"{text.value(parameter.get('low'))} to {text.value(parameter.get('high'))}"
        what += ", log scale" if parameter.get("scale") == "log" else ""
        step = parameter.get("step")
        what += f", step {text.value(step)}" if step not in (None, 1) else ""
    return text.value(parameter.get("type")), what + _condition(parameter.get("when"))


def _condition(when: Any) -> str:
    if not isinstance(when, Mapping) or not when:
        return ""
    parts = [f"{text.plain(name)} is {_alternatives(values)}" for name, values in when.items()]
    return f" (when {' and '.join(parts)})"


def _alternatives(values: Any) -> str:
    return " or ".join(map(text.value, values)) if isinstance(values, (list, tuple)) else text.value(values)
