"""What a database server does to those who use it: each mishap costs a transaction, and no more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from gridtune_steering.bookkeeping import duties
from gridtune_steering.bookkeeping.database import TROUBLE, Database
from servers.postgres import Postgres

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """A database on a server."""
    url = postgres.new_service_database()
    opened = Database(url)
    yield opened
    opened.close()
    postgres.drop(url)


def answers(database: Database) -> bool:
    """Whether a transaction comes to its end."""
    with database.write() as connection:
        return bool(connection.execute(sa.text("SELECT 1")).scalar_one())


@pytest.mark.parametrize("last_word", ["SELECT 1", None], ids=["at a statement", "at the commit"])
def test_who_stands_still_in_a_transaction_loses_it(database: Database, last_word: str | None) -> None:
    """A process that is frozen keeps its rows from nobody for long; it finds out, and may try again."""
    with pytest.raises(TROUBLE):
        _stand_still(database, last_word)

    assert answers(database)


def test_nobody_waits_for_ever_for_a_row(database: Database) -> None:
    """Whoever gives up may try again."""
    _taken(database, "reaping", "a")
    with database.write() as frozen:
        _lock(frozen, "reaping")
        with pytest.raises(TROUBLE):
            _wait_for(database, "reaping")

    assert answers(database)


def test_a_server_that_is_back_costs_each_connection_in_use_one_try(database: Database, postgres: Postgres) -> None:
    """What lay in the pool is thrown away with the first connection that is found to be dead."""
    with database.read(), database.read(), database.read():
        pass
    postgres.crash()
    with pytest.raises(TROUBLE):
        answers(database)
    postgres.start()

    assert all(answers(database) for _ in range(5))


def test_a_duty_that_is_being_taken_is_left_to_its_taker(database: Database) -> None:
    """Nobody waits for a host that was frozen while it took a duty."""
    _taken(database, "reaping", "a")
    with database.write() as frozen:
        _lock(frozen, "reaping")

        assert not _taken(database, "reaping", "a")
    assert _taken(database, "reaping", "a")


def _stand_still(database: Database, last_word: str | None) -> None:
    with database.write() as connection:
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        time.sleep(0.5)
        if last_word:
            connection.execute(sa.text(last_word))


def _wait_for(database: Database, duty: str) -> None:
    with database.write() as connection:
        connection.execute(sa.text("SET LOCAL lock_timeout = '50ms'"))
        _lock(connection, duty)


def _taken(database: Database, duty: str, holder: str) -> bool:
    with database.write() as connection:
        return duties.take(connection, duty, holder, now=NOW, until=NOW + timedelta(seconds=10)) is not None


def _lock(connection: sa.Connection, duty: str) -> None:
    connection.execute(sa.text("SELECT * FROM duties WHERE name = :duty FOR UPDATE"), {"duty": duty})
