"""Databases of older releases, brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gridtune_common.protocol import Parameters, PointOrigin
from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.services import records
from gridtune_steering.testing import ManualClock, steering_in
from servers.postgres import Postgres
from service_bench import OPERATOR, Bench, document, loss_of

_POINT: Parameters = {"x": 0.5, "rate": 0.01, "drop": 0.1, "width": 64, "layers": 2, "kind": "adam", "batch": 16}


@pytest.fixture
def url(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'gridtune.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


def make_old(url: str, *, observed: int) -> str:
    """A database of the first revision, with a running task of one done point; returns the task's id."""
    database = Database(url)
    database.migrate("0001")
    metadata = sa.MetaData()
    metadata.reflect(database.engine)
    now = ManualClock()().replace(tzinfo=None)
    task: dict[str, Any] = {
        "id": "t2t2t2t2", "name": "bench", "owner": "operator", "state": "running", "reason": "",
        "document": document(), "source": "", "seed": 7, "versions": {}, "max_points": 10, "created_at": now,
        "ran_seconds": 0.0, "running_since": now, "host_epoch": 0,
    }  # fmt: skip
    point: dict[str, Any] = {
        "task_id": "t2t2t2t2", "number": 0, "state": "done", "parameters": _POINT, "metrics": {"loss": loss_of(_POINT)},
        "value": loss_of(_POINT), "attempts": 0, "epoch": 1, "message": "", "informed_by": 0, "observed": observed,
        "created_at": now, "ended_at": now,
    }  # fmt: skip
    with database.write() as connection:
        connection.execute(sa.insert(metadata.tables["tasks"]).values(task))
        connection.execute(sa.insert(metadata.tables["points"]).values(point))
    database.close()
    return "t2t2t2t2"


def test_a_first_database_goes_on(url: str, tmp_path: Path) -> None:
    """Its points count as the algorithm's, its tasks go on, and they take points of the user's own."""
    task = make_old(url, observed=0)
    clock = ManualClock()
    bench = Bench(steering_in(tmp_path, clock, database=url), clock)

    bench.wish(task, {**_POINT, "x": 1.5})
    bench.bring(task, {**_POINT, "x": 2.5})
    wished, proposed = bench.lease(task, "a"), bench.lease(task, "b")

    points = records.export(bench.steering, OPERATOR, task).points
    assert [point.origin for point in points] == [PointOrigin.ALGORITHM, PointOrigin.USER, PointOrigin.ALGORITHM]
    assert (wished.point, wished.parameters["x"], proposed.point) == (1, 1.5, 2)
    bench.steering.database.close()
