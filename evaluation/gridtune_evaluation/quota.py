"""How many more points an agent may take."""

from __future__ import annotations

import threading


class Quota:
    """A number of tickets, one for each evaluation. Safe to share between threads.

    Args:
        n: How many; None for any number.
    """

    def __init__(self, n: int | None) -> None:
        self._left = n
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a ticket, if one is left."""
        with self._lock:
            if self._left is None:
                return True
            if not self._left:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        """There was no point for the ticket."""
        with self._lock:
            if self._left is not None:
                self._left += 1

    @property
    def is_used_up(self) -> bool:
        """Whether nobody will get a ticket now."""
        with self._lock:
            return self._left == 0
