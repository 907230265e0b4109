"""A task's past, written into the database at once: as many finished points as if workers had told them.

Rows are those that the service itself would have left: points, evaluations, audit log and kept answers, so that tables
and indexes have their size. Through the API the same takes a thousand times as long.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from gridtune_common.client import new_request_id
from gridtune_common.protocol import EvaluationState, PointState
from gridtune_common.space import SearchSpace
from gridtune_steering.bookkeeping import schema
from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.identity.secrets import new_id

from .objective import SPACE, loss_of

_BATCH = 1000
_APART = timedelta(seconds=1)


def preload(database: Database, task: str, n: int) -> None:
    """Give a task, which no host may own just now, *n* finished points that its optimizer has learnt."""
    with database.write() as connection:
        for first in range(0, n, _BATCH):
            lives = [_life(task, number, n) for number in range(first, min(first + _BATCH, n))]
            for table in (schema.points, schema.evaluations, schema.events, schema.requests):
                connection.execute(sa.insert(table), [row for life in lives for row in life[table.name]])
    with database.write() as connection:
        connection.exec_driver_sql("ANALYZE")  # autovacuum would have, meanwhile


def random_results(n: int, seed: int = 1) -> Iterable[tuple[dict[str, Any], float]]:
    """Points of the benchmark's space with their losses."""
    rng, space = random.Random(seed), SearchSpace.parse(SPACE)
    for _ in range(n):
        parameters = space.sample(rng)
        yield parameters, loss_of(parameters)


def _life(task: str, number: int, n: int) -> dict[str, list[dict[str, Any]]]:
    """The rows that one point leaves."""
    [(parameters, loss)] = random_results(1, seed=number)
    begun = datetime.now(UTC) - (n - number + 1) * _APART
    done, evaluation, worker = begun + _APART / 2, new_id(16), f"past{number % 16}"
    kept = {"token_id": "past", "fingerprint": "0" * 64, "at": done}
    return {
        "points": [_point(task, number, evaluation, parameters, loss, begun, done)],
        "evaluations": [
            {
                "id": evaluation,
                "task_id": task,
                "point": number,
                "epoch": 1,
                "attempt": 1,
                "state": EvaluationState.DONE.value,
                "worker": worker,
                "site": "",
                "host": "",
                "agent_version": "",
                "resources": {},
                "started_at": begun,
                "lease_expires_at": done,
                "ended_at": done,
                "metrics": {"loss": loss},
            }
        ],
        "events": [
            _event(task, number, None, "gridtune/host", "point.suggested", begun, {"informed_by": number}),
            _event(task, number, evaluation, "operator", "evaluation.started", begun, {"worker": worker, "epoch": 1}),
            _event(task, number, evaluation, "operator", "point.done", done, {"worker": worker, "value": loss}),
        ],
        "requests": [
            {**kept, "request_id": new_request_id(), "answer": {"task": task, "parameters": parameters}},
            {**kept, "request_id": new_request_id(), "answer": {"accepted": True, "reason": ""}},
        ],
    }


def _point(
    task: str, number: int, evaluation: str, parameters: dict[str, Any], loss: float, begun: datetime, done: datetime
) -> dict[str, Any]:
    return {
        "task_id": task,
        "number": number,
        "state": PointState.DONE.value,
        "origin": "algorithm",
        "parameters": parameters,
        "metrics": {"loss": loss},
        "value": loss,
        "epoch": 1,
        "evaluation_id": evaluation,
        "informed_by": number,
        "observed": number,
        "created_at": begun,
        "started_at": begun,
        "ended_at": done,
    }


def _event(
    task: str, point: int, evaluation: str | None, actor: str, kind: str, at: datetime, details: dict[str, Any]
) -> dict[str, Any]:
    return {
        "at": at,
        "actor": actor,
        "kind": kind,
        "task_id": task,
        "point": point,
        "evaluation_id": evaluation,
        "details": details,
    }
