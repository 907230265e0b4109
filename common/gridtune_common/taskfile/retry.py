"""How often a point is tried again, by what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from gridtune_common.errors import Flaw
from gridtune_common.space.reading import Checked, check_whole

#: Tries of one point, of each kind.
MAX_ATTEMPTS: Final = 100
#: What is counted beyond tries: stretches of one point, and points of one task.
MAX_REPETITIONS: Final = 1_000


@dataclass(frozen=True)
class Retry(Checked):
    """How often a point is tried before it counts as failed, each limit for a cause of its own.

    Attributes:
        attempts: Tries that the training itself may fail.
        lost: Workers that may be lost with the point.
        infrastructure: Tries that a node may fail: disk, download, image, start.
        stalled: Stretches in a row that may end for want of time without having brought the training forward.
        same_failure: So many points that fail in the same way, before any is done, pause the task; 0 for never.
    """

    attempts: int = 3
    lost: int = 3
    infrastructure: int = 5
    stalled: int = 10
    same_failure: int = 5

    def to_json(self) -> dict[str, Any]:
        """The rule as a task file writes it."""
        return asdict(self)

    def _flaws(self) -> Iterator[Flaw]:
        yield from check_whole("attempts", self.attempts, 1, MAX_ATTEMPTS)
        yield from check_whole("lost", self.lost, 1, MAX_ATTEMPTS)
        yield from check_whole("infrastructure", self.infrastructure, 1, MAX_ATTEMPTS)
        yield from check_whole("stalled", self.stalled, 1, MAX_REPETITIONS)
        yield from check_whole("same_failure", self.same_failure, 0, MAX_REPETITIONS)
