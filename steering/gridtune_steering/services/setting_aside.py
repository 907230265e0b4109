"""Whether a host that fails one point after the other gets no more of them for a while. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

#: So many different points in a row, all within this time.
MOST_FAILURES: Final = 4
_WITHIN: Final = timedelta(hours=1)
#: For how long: the first time, the second, and so on; then always the last.
_LENGTHS: Final = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=3))
#: So many failures are remembered.
_REMEMBERED: Final = 10


@dataclass(frozen=True, slots=True)
class Miss:
    """A failure on a host: of which point, and when."""

    task: str
    point: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Streak:
    """Failures on a host since its last result, oldest first."""

    misses: tuple[Miss, ...] = ()

    @classmethod
    def read(cls, kept: Sequence[dict[str, Any]]) -> Streak:
        """Read it from a column."""
        return cls(tuple(Miss(item["task"], item["point"], datetime.fromisoformat(item["at"])) for item in kept))

    def write(self) -> list[dict[str, Any]]:
        """Write it to a column."""
        return [{"task": miss.task, "point": miss.point, "at": miss.at.isoformat()} for miss in self.misses]

    def with_miss(self, miss: Miss) -> Streak:
        """One more; what is long ago does not count any more."""
        recent = [earlier for earlier in self.misses if miss.at - earlier.at <= _WITHIN]
        return Streak((*recent, miss)[-_REMEMBERED:])

    @property
    def n_points(self) -> int:
        """How many different points failed."""
        return len({(miss.task, miss.point) for miss in self.misses})


def is_suspect(streak: Streak, times_set_aside: int) -> bool:
    """Whether a host fails too much; one that comes back from being set aside has a single try."""
    return streak.n_points >= (1 if times_set_aside else MOST_FAILURES)


def length(times_set_aside: int) -> timedelta:
    """For how long a host is set aside that was so often before, without any result since."""
    return _LENGTHS[min(times_set_aside, len(_LENGTHS) - 1)]
