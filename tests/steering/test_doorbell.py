"""Rings between processes: on one machine by sockets, on many through PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtune_steering.doorbell import Bell, Listener, open_bell
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
        assert (host.wait(0.05), asker.wait(0.05)) == (set(), set())


def test_a_wait_without_a_ring_ends_in_time(bell: Bell) -> None:
    """A listener looks around now and then, whatever rings."""
    with bell.listen_as_host() as listener:
        started = time.monotonic()

        assert listener.wait(0.3) == set()
        assert 0.25 < time.monotonic() - started < 5


def test_a_listener_is_opened_while_the_database_is_away(postgres: Postgres, tmp_path: Path) -> None:
    """A process that is started during an outage need not be started again."""
    bell = open_bell(Settings.from_environment({}, data=tmp_path, database=postgres.new_database()))
    postgres.crash()
    with bell.listen_as_host() as listener:
        postgres.start()

        def rings() -> set[str]:
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
        assert listener.wait(0.1) == set()
        postgres.start()

        def rings() -> set[str]:
            bell.ring_hosts("t1")
            return listener.wait(0.2)

        assert "t1" in wait_for("a ring", rings, timeout=20)
    bell.close()
