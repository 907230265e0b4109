"""Results from elsewhere, which a task's optimizer learns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import KnownResult
from gridtune_steering.bookkeeping.schema import Record, known_results


def add(connection: Connection, task: str, results: Sequence[KnownResult], *, source: str, now: datetime) -> None:
    """Add results, numbered on from those that are there."""
    newest = sa.select(sa.func.max(known_results.c.number)).where(known_results.c.task_id == task)
    first = (connection.execute(newest).scalar_one() or 0) + 1
    rows = [
        {
            "task_id": task,
            "number": number,
            "parameters": result.parameters,
            "metrics": result.metrics,
            "source": source,
            "created_at": now,
        }
        for number, result in enumerate(results, first)
    ]
    if rows:
        connection.execute(sa.insert(known_results), rows)


def of_task(connection: Connection, task: str) -> Sequence[Record]:
    """All of a task's, by number."""
    query = sa.select(known_results).where(known_results.c.task_id == task)
    return connection.execute(query.order_by(known_results.c.number)).all()


def count(connection: Connection, task: str) -> int:
    """How many there are."""
    query = sa.select(sa.func.count()).where(known_results.c.task_id == task)
    return connection.execute(query).scalar_one()


# --- what an optimizer host reads and writes


def learnt(connection: Connection, task: str) -> Sequence[Record]:
    """Those that the optimizer has learnt."""
    query = sa.select(known_results).where(known_results.c.task_id == task, known_results.c.observed.is_not(None))
    return connection.execute(query).all()


def unobserved(connection: Connection, task: str) -> Sequence[Record]:
    """Those that the optimizer has not learnt, in order of their numbers."""
    query = sa.select(known_results).where(known_results.c.task_id == task, known_results.c.observed.is_(None))
    return connection.execute(query.order_by(known_results.c.number)).all()


def observe(connection: Connection, task: str, places: Sequence[tuple[int, int]]) -> None:
    """Note, by number, the places of results in the order of learning."""
    if not places:
        return
    statement = (
        sa.update(known_results)
        .where(known_results.c.task_id == task, known_results.c.number == sa.bindparam("learnt_number"))
        .values(observed=sa.bindparam("place"))
    )
    connection.execute(statement, [{"learnt_number": number, "place": place} for number, place in places])
