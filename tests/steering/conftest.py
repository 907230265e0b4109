"""A service without processes, and the few moves that most tests begin with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api_bench import Api, api_on
from gridtune_steering.testing import ManualClock, MemoryStore, steering_in
from servers.postgres import Postgres
from service_bench import Bench


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn."""
    return str(request.param)


@pytest.fixture
def bench(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> Iterator[Bench]:
    """A service on a fresh database of each kind, a clock to turn by hand, and an operator to act as."""
    clock = ManualClock()
    server: Postgres | None = request.getfixturevalue("postgres") if database_kind == "postgresql" else None
    url = server.new_service_database() if server is not None else ""
    steering = steering_in(tmp_path, clock, lease_seconds=60.0, database=url)
    yield Bench(steering, clock)
    steering.database.close()
    if server is not None:
        server.drop(url)


@pytest.fixture
def api(bench: Bench) -> Iterator[Api]:
    """The application on the bench's service."""
    with api_on(bench) as api:
        yield api


@pytest.fixture
def store(bench: Bench) -> MemoryStore:
    """The service's store: for once one in memory, that can be looked into."""
    kept = MemoryStore(bench.clock)
    bench.steering = replace(bench.steering, store=kept)
    return kept
