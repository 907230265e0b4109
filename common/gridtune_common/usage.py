"""What evaluations used, taken together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Optional

from gridtune_common.protocol import Evaluation, Usage


def by_point(evaluations: Iterable[Evaluation]) -> dict[int, Usage]:
    """What all tries of a point used, by its number; points of which nothing is known are left out."""
    found: dict[int, list[Usage]] = defaultdict(list)
    for evaluation in evaluations:
        if evaluation.usage is not None:
            found[evaluation.point].append(evaluation.usage)
    return {number: together(usages) for number, usages in found.items()}


def together(usages: Iterable[Usage]) -> Usage:
    """Times are summed, of peaks the highest counts, and of runtimes and images the last that is known.

    >>> together([Usage(cpu_seconds=2.0, peak_memory_bytes=5), Usage(cpu_seconds=1.0)]).cpu_seconds
    3.0
    """
    known = list(usages)
    return Usage(
        wall_seconds=_sum(usage.wall_seconds for usage in known),
        cpu_seconds=_sum(usage.cpu_seconds for usage in known),
        peak_memory_bytes=_highest(usage.peak_memory_bytes for usage in known),
        gpu_seconds=_sum(usage.gpu_seconds for usage in known),
        peak_gpu_memory_bytes=_highest(usage.peak_gpu_memory_bytes for usage in known),
        runtime=_last(usage.runtime for usage in known),
        image=_last(usage.image for usage in known),
    )


def _sum(amounts: Iterable[Optional[float]]) -> Optional[float]:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def _highest(amounts: Iterable[Optional[int]]) -> Optional[int]:
    return max((amount for amount in amounts if amount is not None), default=None)


def _last(names: Iterable[str]) -> str:
    return next((name for name in reversed(list(names)) if name), "")
