"""Rings between processes: on one machine by sockets, on many through PostgreSQL."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtune_steering.doorbell import Bell, Listener, WaitingRoom, open_bell
from gridtune_steering.settings import Settings
from real_service import wait_for
from servers.postgres import Postgres


@pytest.fixture(params=["sockets", "postgresql"])
def bell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bell]:
    """A bell of each kind."""
    url = ""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    opened = open_bell(Settings.from_environment({}, data=tmp_path, database=url))
    yield opened
    opened.close()
    opened.remove()


def heard(listener: Listener, n: int) -> set[str]:
    """What rings until *n* tasks have rung."""
    rang: set[str] = set()

    def has_all() -> bool:
        rang.update(listener.wait(0.1))
        return len(rang) >= n

    wait_for(f"{n} rings", has_all, timeout=10, pace=0)
    return rang


def test_every_host_hears_every_ring(bell: Bell) -> None:
    """Whoever owns the task among them, acts."""
    with bell.listen_as_host() as one, bell.listen_as_host() as other:
        for task in ("t1", "t2", "t1"):
            bell.ring_hosts(task)

        assert heard(one, 2) == heard(other, 2) == {"t1", "t2"}


def test_hosts_and_askers_have_bells_of_their_own(bell: Bell) -> None:
    """What wakes a host does not wake the asks, and the other way round."""
    with bell.listen_as_host() as host, bell.listen_as_asker() as asker:
        bell.ring_hosts("t1")
        bell.ring_askers("t2")

        assert (heard(host, 1), heard(asker, 1)) == ({"t1"}, {"t2"})
        assert (host.wait(0.05), asker.wait(0.05)) == (Counter(), Counter())


def test_a_wait_without_a_ring_ends_in_time(bell: Bell) -> None:
    """A listener looks around now and then, whatever rings."""
    with bell.listen_as_host() as listener:
        started = time.monotonic()

        assert listener.wait(0.3) == Counter()
        assert 0.25 < time.monotonic() - started < 5


def test_a_listener_is_opened_while_the_database_is_away(postgres: Postgres, tmp_path: Path) -> None:
    """A process that is started during an outage need not be started again."""
    bell = open_bell(Settings.from_environment({}, data=tmp_path, database=postgres.new_database()))
    postgres.crash()
    with bell.listen_as_host() as listener:
        postgres.start()

        def rings() -> Counter[str]:
            bell.ring_hosts("t1")
            return listener.wait(0.2)

        assert "t1" in wait_for("a ring", rings, timeout=20)
    bell.close()


def test_a_database_that_comes_back_rings_again(postgres: Postgres, tmp_path: Path) -> None:
    """Rings get lost while it is away; the bell and the ears do not."""
    bell = open_bell(Settings.from_environment({}, data=tmp_path, database=postgres.new_database()))
    with bell.listen_as_host() as listener:
        postgres.crash()
        bell.ring_hosts("lost")
        assert listener.wait(0.1) == Counter()
        postgres.start()

        def rings() -> Counter[str]:
            bell.ring_hosts("t1")
            return listener.wait(0.2)

        assert "t1" in wait_for("a ring", rings, timeout=20)
    bell.close()


class ScriptedListener:
    """Rings when it is told to."""

    def __init__(self) -> None:
        self.rings: queue.Queue[Counter[str]] = queue.Queue()

    def wait(self, timeout: float) -> Counter[str]:
        """Wait for what was put into `rings`."""
        return self.rings.get()

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> ScriptedListener:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Waiters:
    """Threads that wait for a task, and note when they were called."""

    def __init__(self, n: int, *, finds: bool) -> None:
        self.listener = ScriptedListener()
        self.room = WaitingRoom(self.listener)
        self.called: list[int] = []
        self._finds = finds
        for number in range(n):
            threading.Thread(target=self._wait, args=(number,), daemon=True).start()
        wait_for("all to wait", lambda: len(self.room._waiting.get("t", ())) == n)  # noqa: SLF001 - nobody else knows

    def _wait(self, number: int) -> None:
        self.room.wait("t", since=self.room.mark(), timeout=30)
        self.called.append(number)
        if self._finds:
            self.room.call_next("t")

    def ring(self, n: int = 1) -> None:
        """Ring for so many who wait for the task."""
        self.listener.rings.put(Counter(t=n))


def test_a_ring_calls_one() -> None:
    """Who finds nothing calls nobody: a hundred waiting asks are not a hundred looks at the database a ring."""
    waiters = Waiters(5, finds=False)

    waiters.ring()
    wait_for("the first", lambda: waiters.called)
    time.sleep(0.2)
    after_one = list(waiters.called)
    waiters.ring()
    wait_for("the second", lambda: len(waiters.called) > 1)

    assert len(after_one) == 1


def test_a_ring_calls_as_many_as_it_is_for() -> None:
    """Three new points have three asks look at once, and not one after the other."""
    waiters = Waiters(5, finds=False)

    waiters.ring(3)
    wait_for("three", lambda: len(waiters.called) == 3)
    time.sleep(0.2)

    assert len(waiters.called) == 3


def test_rings_add_up(bell: Bell) -> None:
    """A listener that was busy learns for how many there is something; one for all reaches everyone."""
    with bell.listen_as_asker() as asker:
        bell.ring_askers("t1", 2)
        bell.ring_askers("t1", 1)
        bell.ring_askers("t2")
        rang: Counter[str] = Counter()

        def has_all() -> bool:
            rang.update(asker.wait(0.1))
            return rang["t1"] == 3 and rang["t2"] > 1000

        wait_for("all rings", has_all, timeout=10, pace=0)


def test_who_leaves_it_to_others_calls_the_next() -> None:
    """One ring reaches as many as pass it on."""
    waiters = Waiters(5, finds=True)

    waiters.ring()

    wait_for("all of them", lambda: len(waiters.called) == 5)


def test_a_ring_between_looking_and_waiting_is_not_missed() -> None:
    """Whoever marked the moment before it looked returns at once."""
    listener = ScriptedListener()
    room = WaitingRoom(listener)
    mark = room.mark()
    listener.rings.put(Counter("t"))
    wait_for("the ring", lambda: room.mark() > mark)
    started = time.monotonic()

    room.wait("t", since=mark, timeout=30)

    assert time.monotonic() - started < 5
