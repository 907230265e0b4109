"""What a measurement was about, and what it came to."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .tally import Tally


@dataclass(frozen=True)
class Case:
    """What was asked of somebody.

    Attributes:
        observations: How many results each task had before.
        tasks: Among how many the workers were dealt out.
        reports: How many each evaluation sends.
        seconds: How long an evaluation takes, in the mean; 0 for as fast as it goes.
    """

    algorithm: str
    workers: int
    observations: int = 0
    tasks: int = 1
    reports: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        rate: Transactions a second, of what knows no pairs.
    """

    database: str
    who: str
    case: Case
    tally: Tally
    rate: float | None = None

    @property
    def pairs(self) -> float:
        """Pairs of ask and tell a second, or transactions."""
        return self.tally.pairs if self.rate is None else self.rate

    def quantile(self, kind: str, share: float) -> float | None:
        """Of how long a kind of calls took, in milliseconds; None if there was none."""
        times = self.tally.times(kind)
        return 1000 * quantile(times, share) if times else None

    def line(self) -> str:
        """What to say of it at once."""
        case = self.case
        name = f"{self.who} {self.database} {case.algorithm}".strip()
        asks = " ".join(_rounded(self.quantile("ask", share)) for share in (0.5, 0.99))
        words = f"{case.workers} workers, {case.observations} observations, {case.tasks} tasks"
        words += f", {case.seconds:g} s each" if case.seconds else ""
        cpu = ", ".join(f"{who} {cores:.2f}" for who, cores in self.tally.cpu.items())
        return f"{name}: {words}: {self.pairs:.1f}/s, ask p50, p99 {asks} ms; cores: {cpu}; {dict(self.tally.counts)}"


def quantile(times: Sequence[float], share: float) -> float:
    """A quantile; of few times, the high ones are the longest.

    >>> quantile([3.0, 1.0, 2.0], 0.5), quantile([3.0, 1.0, 2.0], 0.99)
    (2.0, 3.0)
    """
    if len(times) * (1 - share) < 1:
        return max(times)
    return statistics.quantiles(times, n=1000, method="inclusive")[round(1000 * share) - 1] if times[1:] else times[0]


def today() -> str:
    """The date here."""
    return datetime.datetime.now().astimezone().date().isoformat()


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
