"""What is left of the worker's time, and how it is shared out at the end.

::

    … training … | SIGTERM, grace | last checkpoint | last word | end
                 |<------------------- margin ----------------->|
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from typing import Callable, Final

from gridtune_evaluation.walltime import Deadline

#: What a checkpoint takes is multiplied by this: the next one may be larger, or the network busier.
_SAFETY: Final = 1.5
#: What packing and uploading is taken to need before it was measured, in seconds.
_FIRST_GUESS: Final = 5.0
#: So many checkpoints tell how long the next one takes; one that met an outage is outvoted.
_SAMPLE: Final = 5
#: For the last word and what else there is to do, in seconds.
_REST: Final = 2.0
#: For a last checkpoint where the time has no end, in seconds: batch systems do not wait long after their signal.
_SHORT_SAVING: Final = 30.0


class TimeLeft:
    """Counts down to a deadline, or never does. Safe to share between threads.

    Args:
        deadline: None for a worker whose time does not end.
        clock: Tells seconds and never goes back: what is left does not change when somebody sets the node's clock.
    """

    def __init__(self, deadline: Deadline | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = float("inf") if deadline is None else clock() + deadline.at - time.time()
        self._lock = threading.Lock()
        self._savings: deque[float] = deque(maxlen=_SAMPLE)

    @property
    def seconds(self) -> float | None:
        """What is left; None without end."""
        return None if self._end == float("inf") else self._end - self._clock()

    @property
    def is_over(self) -> bool:
        """Whether there is not even time for another word."""
        return self._clock() > self._end - _REST / 2

    def note_saving(self, seconds: float) -> None:
        """A checkpoint took so long, from its first file to its commit."""
        with self._lock:
            self._savings.append(seconds)

    def margin(self, grace_seconds: float) -> float:
        """Seconds from the signal to the end: the payload's grace, its last checkpoint, the last word."""
        return grace_seconds + self._saving() + _REST

    def usable(self, grace_seconds: float) -> float | None:
        """What a payload can have of what is left, at least half of it; None without end."""
        left = self.seconds
        return None if left is None else max(left - self.margin(grace_seconds), left / 2)

    def end_of_grace(self, grace_seconds: float) -> float:
        """When a payload is to be killed that is asked to leave now, by the monotonic clock.

        Where there is too little time for grace and checkpoint, they get half of it each.
        """
        now = self._clock()
        left = self._end - now
        return now + max(min(grace_seconds, max(left - self._saving() - _REST, left / 2)), 0.0)

    def end_of_saving(self) -> float:
        """Until when the last checkpoint may take, by the monotonic clock."""
        if self._end < float("inf"):
            return self._end - _REST
        return self._clock() + max(_SHORT_SAVING, 2 * self._saving())

    def at_most(self, seconds: float) -> float:
        """A pause that does not go beyond the end."""
        left = self.seconds
        return seconds if left is None else max(min(seconds, left - _REST), 0.0)

    def _saving(self) -> float:
        with self._lock:
            return _SAFETY * (statistics.median(self._savings) if self._savings else _FIRST_GUESS)
