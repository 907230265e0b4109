"""What a crowd saw, and how it is dealt out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What a crowd saw in its time.

    Attributes:
        calls: By kind of call, when each began and ended, in seconds since the measurement began.
        cpu: Cores that were busy, by whom.
    """

    seconds: float
    calls: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def pairs(self) -> float:
        """Tells that were answered, a second."""
        return sum(ended < self.seconds for _, ended in self.calls.get("tell", [])) / self.seconds

    @property
    def errors(self) -> int:
        """Calls that failed."""
        return sum(n for name, n in self.counts.items() if name.startswith("error"))

    def times(self, kind: str, since: float = 0.0, until: float | None = None) -> list[float]:
        """How long the calls took that began in a span, in seconds; if none did, those that were in progress."""
        end = self.seconds if until is None else until
        spans = self.calls.get(kind, [])
        begun_here = [ended - begun for begun, ended in spans if since <= begun < end]
        return begun_here or [ended - begun for begun, ended in spans if begun < end and ended > since]


def deal(workers: int, processes: int) -> list[int]:
    """How many workers each process gets."""
    n = min(workers, processes)
    return [workers // n + (index < workers % n) for index in range(n)]
