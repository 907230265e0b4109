"""Where the asks of one web process wait, and how many may do what at a time."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from gridtune_steering.doorbell.port import Listener

_MANY_TASKS = 10_000


class Gate:
    """Lets so many in at a time, and no more; the others come again."""

    def __init__(self, places: int) -> None:
        self._places = threading.BoundedSemaphore(places)

    def enter(self) -> bool:
        """Take a place if one is free; to be given back by `leave`."""
        return self._places.acquire(blocking=False)

    def leave(self) -> None:
        """Give a place back."""
        self._places.release()


class WaitingRoom:
    """Where the asks of one web process wait for their task's ring. One thread listens for all.

    A ring calls as many of those who wait for the task as it may be of use to. One who was called, cannot use what is
    there, and leaves it to others calls the next.

    Args:
        listener: The process's ear; closed by nobody, it lives as long as the process.
        seats: How many may wait at a time, so that some threads stay free for heartbeats and results.
    """

    def __init__(self, listener: Listener, *, seats: int) -> None:
        self._listener = listener
        self._seats = threading.BoundedSemaphore(seats)
        self._lock = threading.Lock()
        self._n_rings = 0
        self._last_ring: dict[str, int] = {}
        self._waiting: dict[str, deque[_Waiting]] = {}
        threading.Thread(target=self._listen, name="waiting-room", daemon=True).start()

    def take_seat(self) -> bool:
        """Take a seat if one is free; to be given back by `leave_seat`."""
        return self._seats.acquire(blocking=False)

    def leave_seat(self) -> None:
        """Give a seat back."""
        self._seats.release()

    def mark(self) -> int:
        """This moment; take it before looking, so that no ring between looking and waiting is missed."""
        with self._lock:
            return self._n_rings

    def wait(self, task: str, *, since: int, timeout: float) -> bool:
        """Wait to be called, or return at once if the task has rung since a moment, for at most *timeout* seconds.

        Returns:
            Whether there was a ring, so that it is worth looking.
        """
        me = _Waiting(since)
        with self._lock:
            if self._last_ring.get(task, 0) > since:
                return True
            self._waiting.setdefault(task, deque()).append(me)
        me.is_called.wait(timeout)
        with self._lock:
            queue = self._waiting[task]
            queue.remove(me)
            if not queue:
                del self._waiting[task]
        return me.is_called.is_set()

    def call_next(self, task: str) -> None:
        """Call one who has not looked since the task's last ring: there may be something for it, too."""
        with self._lock:
            self._call(task, 1)

    def _call(self, task: str, n: int) -> None:
        ring = self._last_ring.get(task, 0)
        uncalled = (one for one in self._waiting.get(task, ()) if one.since < ring and not one.is_called.is_set())
        for waiting in islice(uncalled, n):
            waiting.is_called.set()

    def _listen(self) -> None:
        while True:
            rang = self._listener.wait(60.0)
            with self._lock:
                self._n_rings += 1
                if len(self._last_ring) > _MANY_TASKS:
                    self._last_ring.clear()  # a waiter that misses its ring for that looks again soon
                self._last_ring.update(dict.fromkeys(rang, self._n_rings))
                for task, n in rang.items():
                    self._call(task, n)


@dataclass(eq=False, slots=True)
class _Waiting:
    """One who waits, and when it looked last."""

    since: int
    is_called: threading.Event = field(default_factory=threading.Event)
