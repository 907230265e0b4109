"""What one worker of a crowd does again and again, for each kind of service that is measured.

A kind is loaded in the process of its workers alone, so that each needs its own libraries and no others.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

#: Where each kind is.
KINDS = {
    "service": "service_seat:ServiceSeat",
    "empty": "service_seat:EmptySeat",
    "optuna": "optuna_seat:OptunaSeat",
    "vizier": "vizier_seat:VizierSeat",
}


@dataclass
class Notes:
    """What the workers of one process saw. Appending is all that threads do here, so there is no lock.

    Attributes:
        calls: By kind of call, when each began and ended, as ``time.perf_counter`` has it.
        counts: Whatever else happened.
    """

    calls: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def timed(self, kind: str, call: Callable[[], T]) -> T:
        """Make a call, and note how long it took."""
        begun = time.perf_counter()
        answer = call()
        self.calls[kind].append((begun, time.perf_counter()))
        return answer


class Seat(Protocol):
    """One worker's place, used by one thread."""

    def pair(self, notes: Notes) -> None:
        """Get a point, evaluate it and tell its result: an ``ask`` and a ``tell`` in the notes, and what is between."""

    def close(self) -> None:
        """Leave."""


def take(kind: str, options: dict[str, Any], index: int) -> Seat:
    """The seat of worker *index*."""
    module, _, name = KINDS[kind].partition(":")
    seat: Seat = getattr(importlib.import_module(f"benchmarks.scale.{module}"), name)(options, index)
    return seat
