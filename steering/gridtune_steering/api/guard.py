"""How a web process guards itself: so many requests at a time, so many a second from one token."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gridtune_steering.doorbell import Gate
from gridtune_steering.services.errors import TooBusy, TooManyRequests

#: Tokens are remembered up to this number; then those that have been quiet are forgotten.
_MANY_TOKENS = 10_000
#: Nobody is sent away for longer, in seconds, if it is only for the crowd.
_LONGEST_PAUSE = 20.0


#: Asks that find no seat come back at this rate, however many they are; a process has more to do.
_ASKS_PER_SECOND = 25.0
#: When they come back at the earliest, in seconds: for a point that will be made, and for one that may come back.
_RETRY_CROWDED, _RETRY_STANDBY = 2.0, 5.0


class Crowd:
    """Counts who is inside, and turns others away before they have to queue.

    Of a process's threads an eighth is kept for signs of life and results, which must not wait for asks and listings,
    and a sixteenth for telling everybody else to come again. A process of few threads keeps none.

    Args:
        threads: How many requests the process can work on at a time.
    """

    def __init__(self, threads: int) -> None:
        self._most_urgent = threads - threads // 16
        self._most = self._most_urgent - threads // 8
        self._n_inside = 0
        self._lock = threading.Lock()

    def enter(self, *, urgent: bool) -> None:
        """Let a request in; to be taken back by `leave`.

        Raises:
            TooBusy: There are too many.
        """
        with self._lock:
            if self._n_inside >= (self._most_urgent if urgent else self._most):
                raise TooBusy
            self._n_inside += 1

    def leave(self) -> None:
        """A request was answered."""
        with self._lock:
            self._n_inside -= 1


class Turns:
    """Tells those who are sent away when to come again: one after the other, and not all at once. Safe between threads.

    Args:
        rate: So many are to come in a second.
        clock: Tells seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._last = -math.inf

    def next(self, earliest: float) -> float:
        """In how many seconds it is the next one's turn: not before *earliest*, nor so late that it is forgotten."""
        with self._lock:
            now = self._clock()
            turn = max(self._last + 1 / self._rate, now + earliest)
            self._last = min(turn, now + max(earliest, _LONGEST_PAUSE))
            return self._last - now


@dataclass(frozen=True, slots=True)
class Queue:
    """Where asks wait: so many have a seat, the others come back in turn, after so many seconds at the earliest."""

    seats: Gate
    turns: Turns
    earliest: float


def queues(threads: int, clock: Callable[[], float] = time.monotonic) -> tuple[Queue, Queue]:
    """Where the asks of a process wait for points that will be made, and for those that may only come back.

    Half of the threads are for those who wait. Who waits for what may only come back, which can take for ever, has a
    quarter of these: else such workers would be in the way of those for whom there is work.
    """
    n_seats = max(2, threads // 2)
    n_standby = max(1, n_seats // 4)
    turns = [Turns(_ASKS_PER_SECOND, clock) for _ in range(2)]
    return (
        Queue(Gate(n_seats - n_standby), turns[0], _RETRY_CROWDED),
        Queue(Gate(n_standby), turns[1], _RETRY_STANDBY),
    )


class RateLimit:
    """A bucket for each token, which holds *burst* requests and is filled with *rate* a second. Safe between threads.

    Args:
        rate: Requests a second; 0 for no limit.
        burst: Requests at once, after a quiet time.
        clock: Tells seconds.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        # a bucket is told by the time at which it will be full again
        self._full_at: dict[str, float] = {}
        self._turns: dict[str, Turns] = {}

    @property
    def n_remembered(self) -> int:
        """How many buckets are kept."""
        return len(self._full_at)

    def take(self, token: str) -> None:
        """Take one request out of the token's bucket.

        Raises:
            TooManyRequests: It is empty.
        """
        if not self._rate:
            return
        now = self._clock()
        with self._lock:
            full_at = max(self._full_at.get(token, now), now) + 1 / self._rate
            missing = full_at - now - self._burst / self._rate
            if missing > 1e-9:
                turns = self._turns.setdefault(token, Turns(self._rate, self._clock))
                raise TooManyRequests(turns.next(missing))
            if len(self._full_at) >= _MANY_TOKENS:
                self._forget(now)
            self._full_at[token] = full_at

    def _forget(self, now: float) -> None:
        """A bucket that is full again is as good as none."""
        self._full_at = {token: at for token, at in self._full_at.items() if at > now}
        self._turns = {token: turns for token, turns in self._turns.items() if token in self._full_at}
