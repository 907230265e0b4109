"""How much of a host's time each of its tasks takes, and which of them would be better off elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

#: What a task costs that asks for nothing, as a share of a host's time.
IDLE = 0.001
#: How much the newest second weighs in the average.
_NEW = 0.2
#: A smaller difference between two hosts is left alone.
_WORTH_IT = 0.05
#: The most tasks that change hosts in one go.
_MOST_MOVED = 5


class Effort:
    """Shares of the time, by task, as moving averages. One thread works, another looks.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._spent: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        self._looked_at = clock()
        self.load = 0.0  #: The sum of all shares.
        self._now: tuple[str, float, float] | None = None  # task, since when, and since when it is not yet counted

    @contextmanager
    def on(self, task: str) -> Iterator[None]:
        """What is done in the block is done for a task."""
        started = self._clock()
        with self._lock:
            self._now = (task, started, started)
        try:
            yield
        finally:
            with self._lock:
                self._count()
                self._now = None

    @property
    def current(self) -> tuple[str, float] | None:
        """What is worked on right now, and for how many seconds."""
        with self._lock:
            return (self._now[0], self._clock() - self._now[1]) if self._now is not None else None

    def look(self, owned: Sequence[str]) -> Mapping[str, float]:
        """The share of each owned task; to be called about every second."""
        with self._lock:
            self._count()
            now = self._clock()
            seconds = max(now - self._looked_at, 1e-3)
            self._looked_at = now
            self._shares = {
                task: (1 - _NEW) * self._shares.get(task, 0.0) + _NEW * self._spent.get(task, 0.0) / seconds
                for task in owned
            }
            self._spent.clear()
            self.load = sum(self._shares.values()) + IDLE * len(self._shares)
            return {task: share + IDLE for task, share in self._shares.items()}

    def _count(self) -> None:
        if self._now is None:
            return
        task, started, counted = self._now
        now = self._clock()
        self._spent[task] = self._spent.get(task, 0.0) + now - counted
        self._now = (task, started, now)


def to_give_away(shares: Mapping[str, float], others: Sequence[float]) -> list[str]:
    """The tasks that should go to the least busy of the *others*, the dearest first; none if that changes little.

    No more goes than makes the two alike, so that nothing comes back.
    """
    if not others:
        return []
    left = (sum(shares.values()) - min(others)) / 2
    if left < _WORTH_IT / 2:
        return []
    chosen: list[str] = []
    for task, share in sorted(shares.items(), key=lambda entry: (-entry[1], entry[0])):
        if share <= left and len(chosen) < _MOST_MOVED:
            chosen.append(task)
            left -= share
    return chosen
