"""Time in a simulation: it stands still between events, and runs as on the wall while the service's code runs."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

#: When all simulations begin.
BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Cost:
    """What a piece of real work took, in seconds: on the wall, and of this process's processor time."""

    wall: float = 0.0
    cpu: float = 0.0


class Clock:
    """Seconds since the simulation began; for the service, the same time is also a date, or one for intervals."""

    def __init__(self) -> None:
        self._base = 0.0
        self._started: float | None = None

    def seconds(self) -> float:
        """The time: within `working` it runs, and else it stands still."""
        return self._base + (time.perf_counter() - self._started if self._started is not None else 0.0)

    def __call__(self) -> datetime:
        """The time as a date."""
        return BEGIN + timedelta(seconds=self.seconds())

    def monotonic(self) -> float:
        """The time for who asks `time.monotonic`; above zero from the beginning."""
        return 1.0 + self.seconds()

    def go_to(self, seconds: float) -> None:
        """Stand still at a later time."""
        self._base = seconds

    @contextmanager
    def working(self) -> Iterator[Cost]:
        """Let time run while real work is done; then it is again what it was before, and what it took is known."""
        cost = Cost()
        cpu, self._started = time.thread_time(), time.perf_counter()
        try:
            yield cost
        finally:
            cost.wall, cost.cpu = time.perf_counter() - self._started, time.thread_time() - cpu
            self._started = None


def seconds_at(moment: datetime) -> float:
    """A date of the service as seconds since the simulation began."""
    return (moment - BEGIN).total_seconds()


class Agenda:
    """What happens when."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.n_done = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    @property
    def now(self) -> float:
        """The time in seconds."""
        return self.clock.seconds()

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        """Have something done at a time; what is due at the same time is done in the order in which it was noted."""
        heapq.heappush(self._heap, (seconds, next(self._numbers), do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Have something done in so many seconds."""
        self.at(self.now + seconds, do)

    def run(self, until: float) -> None:
        """Do what is due before a time, one after the other, and go there."""
        while self._heap and self._heap[0][0] <= until:
            seconds, _, do = heapq.heappop(self._heap)
            self.clock.go_to(max(seconds, self.clock.seconds()))
            do()
            self.n_done += 1
        self.clock.go_to(until)
