"""Tokens are looked up now and then, not with each request; what was revoked is refused in seconds all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import CreateToken, Scope
from gridtune_steering.bookkeeping import tokens as rows
from gridtune_steering.services import tokens
from gridtune_steering.services.errors import NotAuthenticated
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.token_cache import TokenCache
from service_bench import OPERATOR, Bench, on_sqlite


def create(steering: Steering, **more: Any) -> tuple[str, str]:
    """Make a token; returns its id and its secret."""
    created = tokens.create(steering, OPERATOR, CreateToken(new_request_id(), Scope.USER, user="ann", **more))
    return created.token.id, created.secret


def neighbour(bench: Bench, **settings: Any) -> Steering:
    """Another process on the same database, with a memory of its own."""
    known = replace(bench.steering.settings, **settings)
    return replace(bench.steering, settings=known, token_cache=TokenCache())


def lets_in(steering: Steering, secret: str) -> bool:
    """Whether a secret opens anything."""
    try:
        tokens.authenticate(steering, secret)
    except NotAuthenticated:
        return False
    return True


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that were looked up in the database."""
    found: list[str] = []
    find = rows.find_by_hash

    def remembering(connection: Any, digest: str) -> Any:
        found.append(digest)
        return find(connection, digest)

    monkeypatch.setattr(rows, "find_by_hash", remembering)
    return found


def test_a_revoked_token_is_refused_within_seconds(bench: Bench) -> None:
    """At once in the process that revoked it, and after five seconds everywhere."""
    other = neighbour(bench)
    name, secret = create(bench.steering)
    assert lets_in(bench.steering, secret)
    assert lets_in(other, secret)

    tokens.revoke(bench.steering, OPERATOR, name)
    at_once = lets_in(bench.steering, secret), lets_in(other, secret)
    bench.clock.advance(5)

    assert at_once == (False, True)
    assert not lets_in(other, secret)


@on_sqlite
def test_the_time_is_not_renewed_by_use(bench: Bench) -> None:
    """A token that is shown all the time is looked up all the same."""
    other = neighbour(bench)
    name, secret = create(bench.steering)
    lets_in(other, secret)
    tokens.revoke(bench.steering, OPERATOR, name)

    answers = []
    for _ in range(6):
        bench.clock.advance(1)
        answers.append(lets_in(other, secret))

    assert answers == [True, True, True, True, False, False]


@on_sqlite
def test_expiry_is_seen_at_once(bench: Bench) -> None:
    """It is in what is remembered."""
    _, secret = create(bench.steering, lifetime_seconds=2)
    assert lets_in(bench.steering, secret)

    bench.clock.advance(2)

    assert not lets_in(bench.steering, secret)


@on_sqlite
def test_a_token_is_looked_up_once_in_a_while(bench: Bench, looked_up: list[str]) -> None:
    """A hundred requests in five seconds ask the database once; those who want it otherwise set it to zero."""
    _, secret = create(bench.steering)
    strict = neighbour(bench, token_cache_seconds=0.0)

    for _ in range(100):
        lets_in(bench.steering, secret)
    n_remembered = len(looked_up)
    for _ in range(3):
        lets_in(strict, secret)

    assert (n_remembered, len(looked_up)) == (1, 4)


@on_sqlite
def test_a_token_that_was_unknown_is_soon_looked_up_again(bench: Bench, looked_up: list[str]) -> None:
    """Another process may have made it meanwhile; guesses do not trouble the database each time."""
    other = neighbour(bench)
    name, secret = create(bench.steering)
    with bench.steering.database.write() as connection:
        row = rows.find(connection, name)
        assert row is not None
        connection.exec_driver_sql("DELETE FROM tokens")
    guesses = [lets_in(other, secret) for _ in range(5)]
    n_guesses = len(looked_up)
    with bench.steering.database.write() as connection:
        rows.insert(connection, **row._asdict())

    bench.clock.advance(1)

    assert (guesses, n_guesses) == (5 * [False], 1)
    assert lets_in(other, secret)


@on_sqlite
def test_guesses_do_not_drive_out_who_is_known(bench: Bench, looked_up: list[str]) -> None:
    """They are remembered in a place of their own, and few of them."""
    _, secret = create(bench.steering)
    lets_in(bench.steering, secret)
    for number in range(1100):
        lets_in(bench.steering, f"guess {number}")
    looked_up.clear()

    lets_in(bench.steering, secret)
    lets_in(bench.steering, "guess 1099")
    lets_in(bench.steering, "guess 0")

    assert len(looked_up) == 1


@on_sqlite
def test_what_was_read_before_a_revocation_is_not_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the request that read it was slow and ends after it."""
    name, secret = create(bench.steering)
    find = rows.find_by_hash

    def slow(connection: Any, digest: str) -> Any:
        row = find(connection, digest)
        monkeypatch.setattr(rows, "find_by_hash", find)
        bench.steering.token_cache.forget(name)  # as a revocation does that comes just now
        return row

    monkeypatch.setattr(rows, "find_by_hash", slow)
    lets_in(bench.steering, secret)
    with bench.steering.database.write() as connection:
        rows.revoke(connection, name, now=bench.clock())

    assert not lets_in(bench.steering, secret)


@on_sqlite
def test_a_clock_that_is_put_back_prolongs_nothing(bench: Bench) -> None:
    """What was read in the future is read anew."""
    other = neighbour(bench)
    name, secret = create(bench.steering)
    lets_in(other, secret)
    tokens.revoke(bench.steering, OPERATOR, name)

    bench.clock.advance(-3600)

    assert not lets_in(other, secret)
