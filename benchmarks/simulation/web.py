"""The web side of a simulation: processes that serve one request after the other, queues, seats for waiting asks.

The rules are those of `gridtune_steering.api` and `gridtune_steering.doorbell`, in the time of the simulation.
"""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gridtune_common.protocol import Ask, Lease
from gridtune_steering.api.guard import Crowd, queues
from gridtune_steering.services import asking, housekeeping, tokens
from gridtune_steering.services.access import Caller
from gridtune_steering.services.asking import NoPoint
from gridtune_steering.services.errors import SteeringError, TooBusy
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.token_cache import TokenCache

from .clock import Agenda
from .journal import Journal

#: Seconds on the way from a client to the service, and back.
NETWORK: Final = 0.01
#: As in `gridtune_steering.api`.
_LOOK_AGAIN, _PRESENCE_PACE = 1.0, 1.0


@dataclass(frozen=True, slots=True)
class NothingYet:
    """There is no point now; come again, in about so many seconds."""

    retry_after: float


#: What the service does for a request, and what is done with its answer: a value, or the error that it raised.
Call = Callable[[Steering, Caller], Any]
Then = Callable[[Any], None]


@dataclass(slots=True)
class _Request:
    kind: str
    caller: Caller | str  # or the secret that tells who it is
    call: Call
    then: Then
    arrived: float


@dataclass(slots=True, eq=False)
class _Seat:
    """An ask that waits: when it looked last, until when it waits, and how often it sat down."""

    task: str
    caller: Caller
    message: Ask
    then: Then
    deadline: float
    since: int = 0
    n_naps: int = 0
    is_called: bool = False


class WebProcess:
    """One process: what it computes for requests, it computes one after the other; it waits for the database besides.

    Args:
        agenda: What happens when.
        steering: The service's surroundings.
        journal: Where to note what is seen.
        http_seconds: What a request costs beyond the service's own functions.
    """

    def __init__(self, agenda: Agenda, steering: Steering, journal: Journal, http_seconds: float) -> None:
        self._agenda, self._journal = agenda, journal
        self._steering = dataclasses.replace(steering, token_cache=TokenCache())
        self._http = http_seconds
        self._crowd = Crowd(steering.settings.threads)
        self._queue_for_new, self._standby = queues(steering.settings.threads, lambda: agenda.now)
        self._queue: deque[_Request] = deque()
        self._is_busy = False
        self._n_rings = 0
        self._last_ring: dict[str, int] = {}
        self._waiting: dict[str, list[_Seat]] = {}
        self.n_inside = 0
        agenda.after(0.0, self._be_present)

    def send(self, kind: str, secret: str, call: Call, then: Then, *, urgent: bool = False) -> None:
        """Have a request served; the error `TooBusy` is an answer, too."""
        if self._let_in(then, urgent=urgent):
            self._line_up(_Request(kind, secret, call, lambda answer: self._leave(then, answer), self._agenda.now))

    def _let_in(self, then: Then, *, urgent: bool) -> bool:
        try:
            self._crowd.enter(urgent=urgent)
        except TooBusy as refusal:
            error = refusal
            self._journal.counts["requests turned away, too many at a time"] += 1
            self._agenda.after(self._http, lambda: then(error))
            return False
        self.n_inside += 1
        return True

    def _leave(self, then: Then, answer: Any) -> None:
        self._crowd.leave()
        self.n_inside -= 1
        then(answer)

    def ask(self, task: str, secret: str, message: Ask, then: Then) -> None:
        """Have an ask served, which waits for a point if there is a seat."""
        callers: list[Caller] = []

        def call(steering: Steering, caller: Caller) -> Lease | NoPoint:
            callers.append(caller)
            return asking.ask(steering, caller, task, message)

        def seated(answer: Any) -> None:
            if not isinstance(answer, NoPoint):
                self._leave(then, answer)
                return
            queue = self._queue_for_new if answer.may_be_made else self._standby
            if queue.seats.enter():

                def ended(answer: Any) -> None:
                    queue.seats.leave()
                    self._leave(then, answer)

                self._sit_down(_Seat(task, callers[0], message, ended, self._agenda.now + message.wait, since=mark))
            else:
                what = "a new point" if answer.may_be_made else "one that may come back"
                self._journal.counts[f"asks sent away, no seat free for who waits for {what}"] += 1
                self._leave(then, NothingYet(queue.turns.next(queue.earliest)))

        if self._let_in(then, urgent=False):
            mark = self._n_rings
            self._line_up(_Request("ask", secret, call, seated, self._agenda.now))

    def ring(self, task: str, n: int) -> None:
        """A task may have points for so many, or has ended."""
        self._n_rings += 1
        self._last_ring[task] = self._n_rings
        self._call(task, n)

    # --- what is served is served in turn

    def _line_up(self, request: _Request) -> None:
        self._queue.append(request)
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        if not self._queue:
            self._is_busy = False
            return
        self._is_busy = True
        request, now = self._queue.popleft(), self._agenda.now
        self._journal.queued("web", now, now - request.arrived)
        answer: Any
        with self._agenda.clock.working() as cost:
            try:
                who = request.caller
                caller = tokens.authenticate(self._steering, who) if isinstance(who, str) else who
                answer = request.call(self._steering, caller)
            except SteeringError as error:
                answer = error
        self._journal.worked("web", request.kind, now, cost)
        self._agenda.at(now + self._http + cost.cpu, self._next)
        self._agenda.at(now + self._http + cost.wall, lambda: request.then(answer))

    def _be_present(self) -> None:
        now = self._agenda.now
        with self._agenda.clock.working() as cost:
            housekeeping.note_presence(self._steering)
        self._journal.worked("web", "presence", now, cost)
        self._agenda.after(_PRESENCE_PACE, self._be_present)

    # --- asks that wait

    def _sit_down(self, seat: _Seat) -> None:
        if self._last_ring.get(seat.task, 0) > seat.since:
            self._look_again(seat, is_called=True)
            return
        seat.is_called = False
        seat.n_naps += 1
        self._waiting.setdefault(seat.task, []).append(seat)
        nap, n_naps = min(_LOOK_AGAIN, seat.deadline - self._agenda.now), seat.n_naps
        self._agenda.after(max(nap, 0.0), lambda: self._wake(seat, n_naps))

    def _wake(self, seat: _Seat, n_naps: int) -> None:
        if seat.n_naps == n_naps and not seat.is_called:
            self._get_up(seat, is_called=False)

    def _get_up(self, seat: _Seat, *, is_called: bool) -> None:
        seat.is_called = True  # once is enough
        queue = self._waiting[seat.task]
        queue.remove(seat)
        if not queue:
            del self._waiting[seat.task]
        self._look_again(seat, is_called=is_called)

    def _call(self, task: str, n: int) -> None:
        ring = self._last_ring.get(task, 0)
        for seat in [seat for seat in self._waiting.get(task, ()) if seat.since < ring][:n]:
            self._get_up(seat, is_called=True)

    def _look_again(self, seat: _Seat, *, is_called: bool) -> None:
        seat.since = self._n_rings
        left = max(seat.deadline - self._agenda.now, 0.0)
        message = dataclasses.replace(seat.message, wait=left)
        is_last = left <= 0

        def look(steering: Steering, caller: Caller) -> tuple[Any, bool]:
            if not is_called and not asking.is_worth_asking(steering, seat.task, seat.message.worker):
                return None, True
            try:
                found = asking.ask(steering, caller, seat.task, message)
            except SteeringError as error:
                return error, False
            lease = None if isinstance(found, NoPoint) else found
            return lease, lease is not None or not asking.any_ready(steering, seat.task)

        def looked(found: Any) -> None:
            answer, is_settled = found if isinstance(found, tuple) else (found, False)
            if not is_settled:
                self._call(seat.task, 1)
            if answer is not None or is_last:
                seat.then(answer if answer is not None else NothingYet(0.0))
            else:
                self._sit_down(seat)

        kind = "look again, called" if is_called else "look again, unasked"
        self._line_up(_Request(kind, seat.caller, look, looked, self._agenda.now))


class WebSide:
    """All web processes; a request goes to the one that has the fewest, by way of a network.

    Args:
        agenda: What happens when.
        processes: Who serves.
        rng: Decides between equals.
    """

    def __init__(self, agenda: Agenda, processes: list[WebProcess], rng: random.Random) -> None:
        self._agenda, self.processes, self._rng = agenda, processes, rng

    def send(self, kind: str, secret: str, call: Call, then: Then, *, urgent: bool = False) -> None:
        """Send a request."""
        later = self._returning(then)
        self._agenda.after(NETWORK, lambda: self._freest().send(kind, secret, call, later, urgent=urgent))

    def ask(self, task: str, secret: str, message: Ask, then: Then) -> None:
        """Send an ask."""
        later = self._returning(then)
        self._agenda.after(NETWORK, lambda: self._freest().ask(task, secret, message, later))

    def ring(self, task: str, n: int) -> None:
        """Tell all processes that a task may have points for so many."""
        for process in self.processes:
            process.ring(task, n)

    def _freest(self) -> WebProcess:
        return min(self.processes, key=lambda process: (process.n_inside, self._rng.random()))

    def _returning(self, then: Then) -> Then:
        return lambda answer: self._agenda.after(NETWORK, lambda: then(answer))
