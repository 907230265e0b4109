"""Where the asks of one web process wait, and how many may do what at a time."""

from __future__ import annotations

import threading
import time

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

    Args:
        listener: The process's ear; closed by nobody, it lives as long as the process.
        seats: How many may wait at a time, so that some threads stay free for heartbeats and results.
    """

    def __init__(self, listener: Listener, *, seats: int) -> None:
        self._listener = listener
        self._seats = threading.BoundedSemaphore(seats)
        self._changed = threading.Condition()
        self._n_rings = 0
        self._last_ring: dict[str, int] = {}
        threading.Thread(target=self._listen, name="waiting-room", daemon=True).start()

    def take_seat(self) -> bool:
        """Take a seat if one is free; to be given back by `leave_seat`."""
        return self._seats.acquire(blocking=False)

    def leave_seat(self) -> None:
        """Give a seat back."""
        self._seats.release()

    def mark(self) -> int:
        """This moment; take it before looking, so that no ring between looking and waiting is missed."""
        with self._changed:
            return self._n_rings

    def wait(self, task: str, *, since: int, timeout: float) -> None:
        """Wait until a task rings, or has rung since a moment, for at most *timeout* seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._last_ring.get(task, 0) <= since and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _listen(self) -> None:
        while True:
            rang = self._listener.wait(60.0)
            with self._changed:
                self._n_rings += 1
                if len(self._last_ring) > _MANY_TASKS:
                    self._last_ring.clear()  # a waiter that misses its ring for that looks again soon
                self._last_ring.update(dict.fromkeys(rang, self._n_rings))
                self._changed.notify_all()
