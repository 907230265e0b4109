"""Losses as models can bear them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

#: Beyond it all losses are scaled down: models square them.
_LARGEST = 1e100


def tame(losses: Sequence[float]) -> list[float]:
    """Cut losses that are out of all proportion: more than ten times as far above the median as the best is below.

    >>> tame([1.0, 2.0, 3.0, 1e9])
    [1.0, 2.0, 3.0, 17.5]
    """
    largest = max(map(abs, losses))
    if largest > _LARGEST:
        losses = [loss / largest for loss in losses]
    median = statistics.median(losses)
    limit = median + 10 * (median - min(losses))
    return [min(loss, limit) for loss in losses] if limit > median else list(losses)
