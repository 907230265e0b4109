"""What is left of the worker's time, and when to begin to leave."""

from __future__ import annotations

import threading
import time
from typing import Final

from gridtune_evaluation.walltime import Deadline

#: What a checkpoint takes is multiplied by this: the next one may be larger, or the network busier.
_SAFETY: Final = 1.5
#: What packing and uploading is taken to need before it was measured, in seconds.
_FIRST_GUESS: Final = 5.0
#: For the last word and what else there is to do, in seconds.
_REST: Final = 2.0


class TimeLeft:
    """Counts down to a deadline, or never does. Safe to share between threads.

    Args:
        deadline: None for a worker whose time does not end.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        # what is left does not change when somebody sets the clock of the node
        self._end = float("inf") if deadline is None else time.monotonic() + deadline.at - time.time()
        self._lock = threading.Lock()
        self._longest = 0.0

    @property
    def seconds(self) -> float | None:
        """What is left; None without end."""
        return None if self._end == float("inf") else self._end - time.monotonic()

    @property
    def end(self) -> float:
        """The end by the monotonic clock; infinite without one."""
        return self._end

    def note_saving(self, seconds: float) -> None:
        """A checkpoint took so long, from its first file to its commit."""
        with self._lock:
            self._longest = max(self._longest, seconds)

    def margin(self, grace_seconds: float) -> float:
        """Seconds from the signal to the end: the payload's grace, its last checkpoint, the last word."""
        return grace_seconds + _SAFETY * (self._longest or _FIRST_GUESS) + _REST

    def usable(self, grace_seconds: float) -> float | None:
        """What a payload can have of what is left, at least half of it; None without end."""
        left = self.seconds
        return None if left is None else max(left - self.margin(grace_seconds), left / 2)
