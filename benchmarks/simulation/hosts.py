"""The optimizer hosts of a simulation: the service's own, without threads, each on a core of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from gridtune_steering.campaign import Action, Finish, Known, Result
from gridtune_steering.doorbell.port import ALL
from gridtune_steering.host import host as host_module
from gridtune_steering.host import live as live_module
from gridtune_steering.host.effort import Effort
from gridtune_steering.host.host import Host
from gridtune_steering.services import archiving, collecting, hosting, housekeeping, owning
from gridtune_steering.services.owning import Ownership
from gridtune_steering.services.steering import Steering

from .clock import Agenda, Clock
from .journal import Journal

#: As in `gridtune_steering.host`: how often a host looks around without being rung.
_LOOK_AROUND: Final = 1.0


class SteppedHost(Host):
    """A host whose threads' work is done when it is called for."""

    def __init__(self, steering: Steering, name: str, clock: Clock) -> None:
        super().__init__(steering, name)
        self._effort = Effort(clock.monotonic)

    def think(self, rang: set[str], *, looks: bool) -> set[str]:
        """One turn of its loop; returns the tasks that want more."""
        if looks:
            rang = rang | self._in_need()
            self.drop_idle(older_than=self._steering.settings.idle_seconds)
        return self.round(rang)

    def keep_leases(self) -> None:
        """What its steward does each second."""
        owned = list(self._ownerships)
        shares = self._effort.look(owned)
        owning.renew(self._steering, self._name, owned, load=self._effort.load)
        self._share(shares)

    def keep_house(self) -> None:
        """What its caretaker does each second."""
        housekeeping.do_duties(self._steering, self._name)

    def keep_storage(self) -> None:
        """What its collector does each second."""
        collecting.do_duty(self._steering, self._name)
        archiving.do_duty(self._steering, self._name)

    @property
    def n_campaigns(self) -> int:
        """How many campaigns it has in memory."""
        return len(self._live.idle(float("-inf")))


class HostProcess:
    """A host as a server: while it thinks it hears nothing; its other threads' computing keeps it from thinking."""

    def __init__(self, agenda: Agenda, steering: Steering, name: str, journal: Journal) -> None:
        self.host = SteppedHost(steering, name, agenda.clock)
        self._agenda, self._journal = agenda, journal
        self._rang: dict[str, float] = {}
        self._unfinished: set[str] = set()
        self._next_look = 0.0
        self._busy_until = 0.0
        self._due = float("inf")
        for keep in (self.host.keep_leases, self.host.keep_house, self.host.keep_storage):
            self._each_second(keep)
        self._wake_at(0.0)

    def ring(self, task: str) -> None:
        """Something happened to a task."""
        self._rang.setdefault(task, self._agenda.now)
        self._wake_at(self._agenda.now)

    def _wake_at(self, seconds: float) -> None:
        due = max(seconds, self._busy_until)
        if due < self._due:
            self._due = due
            self._agenda.at(due, lambda: self._think(due))

    def _think(self, due: float) -> None:
        if due != self._due:
            return
        now = self._agenda.now
        if self._busy_until > now:  # another of its threads computes
            self._due = float("inf")
            self._wake_at(self._busy_until)
            return
        looks = now >= self._next_look
        if looks:
            self._next_look = now + _LOOK_AROUND
        rang, self._rang = self._rang, {}
        for since in rang.values():
            self._journal.queued("hosts", now, now - since)
        with self._agenda.clock.working() as cost:
            self._unfinished = self.host.think(set(rang) | self._unfinished, looks=looks)
        self._journal.worked("hosts", "thinking, learning, writing", now, cost)
        self._busy_until, self._due = now + cost.wall, float("inf")
        self._wake_at(self._busy_until if self._unfinished or self._rang else self._next_look)

    def _each_second(self, keep: Any) -> None:
        kind = keep.__name__.replace("_", " ")

        def do() -> None:
            now = self._agenda.now
            with self._agenda.clock.working() as cost:
                keep()
            self._busy_until = max(self._busy_until, now) + cost.cpu
            self._journal.worked("hosts", kind, now, cost)
            self._agenda.after(_LOOK_AROUND + cost.wall, do)

        self._agenda.after(_LOOK_AROUND, do)


class Doorbell:
    """Rings all hosts and web processes, a moment after the ring: by then its transaction has ended."""

    delay: Final = 0.002

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self.hosts: Sequence[HostProcess] = ()
        self.web: Any = None

    def ring_hosts(self, task: str) -> None:
        """Wake the hosts."""
        self._agenda.after(self.delay, lambda: self._ring_each(task))

    def ring_askers(self, task: str, n: int = ALL) -> None:
        """Wake so many who wait for a point of a task."""
        self._agenda.after(self.delay, lambda: self.web.ring(task, n))

    def _ring_each(self, task: str) -> None:
        for host in self.hosts:
            host.ring(task)


@contextmanager
def watched_hosts(clock: Clock, journal: Journal) -> Iterator[None]:
    """Within this, hosts live in the time of the simulation, and what they learn is noted."""
    write = hosting.write

    def noting_write(
        steering: Steering, ownership: Ownership, *, learnt: Sequence[tuple[Result, int]], actions: Sequence[Action]
    ) -> None:
        write(steering, ownership, learnt=learnt, actions=actions)
        if any(isinstance(action, Finish) for action in actions):
            journal.ended[ownership.task] = clock.seconds()
        for result, _ in learnt:
            if not isinstance(result, Known):
                journal.learnt(ownership.task, result.number, clock.seconds())

    with ExitStack() as stack:
        simulated = SimpleNamespace(monotonic=clock.monotonic, time_ns=lambda: int(clock.seconds() * 1e9))
        for module in (host_module, live_module):
            stack.enter_context(mock.patch.object(module, "time", simulated))
        stack.enter_context(mock.patch.object(hosting, "write", noting_write))
        yield
