"""Finding the final metrics: the result file, else the last report, else what was printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from re import Pattern
from typing import Any, Final, Optional

from gridtune_common.protocol import Metrics
from gridtune_common.units import show_bytes
from gridtune_evaluation.metrics import clean, finite, metrics_of
from gridtune_evaluation.untrusted import PayloadFile

#: Read this much of the output's end, in bytes, when looking for metrics in it.
_SEARCHED: Final = 64 * 2**20
#: Larger result files are a mistake, in bytes.
_LARGEST: Final = 16 * 2**20
_FAILED: Final = frozenset({"failed", "fail", "error"})
_ABOUT: Final = frozenset({"status", "message"})

Stamp = Optional[tuple[int, int, int]]


@dataclass(frozen=True)
class ResultFile:
    """The content of a result file.

    Attributes:
        metrics: Its numbers.
        has_failed: The payload says that it has failed.
        message: What the payload says about that.
        flaw: Why the file cannot be used; empty if it can.
    """

    metrics: Metrics = field(default_factory=dict)
    has_failed: bool = False
    message: str = ""
    flaw: str = ""


def stamp(file: PayloadFile) -> Stamp:
    """Something that changes when the file does; None for no file."""
    try:
        found = file.status()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_result_file(file: PayloadFile, objectives: tuple[str, ...], before: Stamp = None) -> ResultFile | None:
    """Read the result file; None if the payload left none (*before* is its stamp from before the start).

    A lone objective may be called ``loss``.
    """
    if stamp(file) in (None, before):
        return None
    name = file.path.name
    try:
        with file.open() as opened:
            content = opened.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            return ResultFile(flaw=f"{name} is larger than {show_bytes(_LARGEST)}; metrics are a few numbers")
        data = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        return ResultFile(flaw=f"{name} is not JSON: {error}")
    if not isinstance(data, dict):
        return ResultFile(flaw=f'{name} is not an object such as {{"{objectives[0]}": 0.2}}')
    return ResultFile(
        metrics=_named(metrics_of(data, without=_ABOUT), objectives),
        has_failed=_has_failed(data.get("status")),
        message=clean(str(data.get("message") or "")),
    )


def search_output(file: PayloadFile, patterns: Mapping[str, Pattern[str]]) -> Metrics:
    """The last match of each pattern, its first group or all of it, as a number; None if it is none."""
    if not patterns:
        return {}
    text = tail(file, _SEARCHED)
    found: dict[str, float | None] = {}
    for metric, pattern in patterns.items():
        for match in pattern.finditer(text):
            found[metric] = finite(next((group for group in match.groups() if group), match.group()))
    return found


def tail(file: PayloadFile, n_bytes: int) -> str:
    """The end of a file as text; empty if there is none."""
    try:
        with file.open() as opened:
            opened.seek(max(opened.seek(0, 2) - n_bytes, 0))
            return clean(opened.read(n_bytes).decode("utf-8", "replace"))
    except OSError:
        return ""


def _named(metrics: Metrics, objectives: tuple[str, ...]) -> Metrics:
    if len(objectives) == 1 and objectives[0] not in metrics and "loss" in metrics:
        return {objectives[0] if name == "loss" else name: value for name, value in metrics.items()}
    return metrics


def _has_failed(status: Any) -> bool:
    if isinstance(status, str):
        return status.strip().lower() in _FAILED
    return isinstance(status, int) and not isinstance(status, bool) and status != 0
