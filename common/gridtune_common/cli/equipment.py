"""What workers have and what evaluations used, in words. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Optional

from gridtune_common import protocol, units
from gridtune_common.cli import text

#: What can be known of an evaluation's usage, as columns of a table.
_USED: Final[Sequence[tuple[str, Callable[[protocol.Usage], str]]]] = (
    ("time", lambda usage: text.duration(usage.wall_seconds)),
    ("cpu time", lambda usage: text.duration(usage.cpu_seconds)),
    ("memory", lambda usage: size(usage.peak_memory_bytes)),
    ("gpu time", lambda usage: text.duration(usage.gpu_seconds)),
    ("gpu memory", lambda usage: size(usage.peak_gpu_memory_bytes)),
    ("runtime", lambda usage: text.one_line(usage.runtime) or "-"),
    ("image", lambda usage: text.one_line(usage.image) or "-"),
)


def in_words(resources: protocol.WorkerResources) -> str:
    """What a worker has, as far as it says it; empty if it says nothing.

    >>> in_words(protocol.WorkerResources(cpus=4, memory_bytes=2**34, gpus=1, gpu_model="A100", labels={"rack": "7"}))
    '4 cpus, 16 GiB, 1 gpu (A100), rack=7'
    """
    parts = [
        _counted(resources.cpus, "cpu"),
        units.show_bytes(resources.memory_bytes) if resources.memory_bytes is not None else "",
        _gpus(resources),
        text.one_line(resources.arch),
        text.pairs(resources.labels),
    ]
    return ", ".join(filter(None, parts))


def size(n_bytes: Optional[int]) -> str:
    """A size for people.

    >>> size(None), size(2**30)
    ('-', '1 GiB')
    """
    return "-" if n_bytes is None else units.show_bytes(n_bytes)


def used(evaluations: Sequence[protocol.Evaluation]) -> tuple[list[str], list[list[str]]]:
    """What tries used, as the header and the rows of a table; columns of which nothing is known are left out."""
    known = [(evaluation.attempt, evaluation.usage) for evaluation in evaluations if evaluation.usage is not None]
    columns = [(name, [show(usage) for _, usage in known]) for name, show in _USED]
    told = [(name, cells) for name, cells in columns if set(cells) - {"-"}]
    rows = [[str(attempt), *(cells[index] for _, cells in told)] for index, (attempt, _) in enumerate(known)]
    return ["try", *(name for name, _ in told)], rows if told else []


def _gpus(resources: protocol.WorkerResources) -> str:
    memory = units.show_bytes(resources.gpu_memory_bytes) if resources.gpu_memory_bytes is not None else ""
    kind = ", ".join(filter(None, [text.one_line(resources.gpu_model), memory]))
    count = _counted(resources.gpus or None, "gpu")
    return f"{count} ({kind})" if count and kind else count


def _counted(number: Optional[int], what: str) -> str:
    return "" if number is None else f"{number} {what}" if number == 1 else f"{number} {what}s"
