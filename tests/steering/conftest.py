"""A service without processes, and the few moves that most tests begin with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gridtune_steering.testing import ManualClock, MemoryStore, steering_in
from service_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A service on a fresh database, a clock to turn by hand, and an operator to act as."""
    clock = ManualClock()
    steering = steering_in(tmp_path, clock, lease_seconds=60.0)
    yield Bench(steering, clock)
    steering.database.close()


@pytest.fixture
def store(bench: Bench) -> MemoryStore:
    """The service's store: for once one in memory, that can be looked into."""
    kept = MemoryStore(bench.clock)
    bench.steering = replace(bench.steering, store=kept)
    return kept
