"""Metrics out of JSON values that a payload wrote."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from gridtune_common import protocol


def metrics_of(data: Mapping[str, Any], *, without: Collection[str] = ()) -> protocol.Metrics:
    """The numbers among *data*; what is null or not finite is None.

    Text, booleans and the rest are no metrics.

    >>> metrics_of({"loss": 1, "auc": float("nan"), "note": "fine", "step": 3}, without={"step"})
    {'loss': 1.0, 'auc': None}
    """
    return {
        clean(name): finite(value)
        for name, value in data.items()
        if name not in without and (value is None or is_number(value))
    }


def is_number(value: Any) -> bool:
    """Whether this is a number, which booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def finite(value: Any) -> float | None:
    """The value as a finite float, or None.

    >>> finite(10**400) is None
    True
    """
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def clean(text: str) -> str:
    """*text* as any database can keep it: no null characters, no halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")
