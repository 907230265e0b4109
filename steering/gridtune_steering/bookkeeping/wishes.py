"""Points that users want to be tried."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import Parameters
from gridtune_steering.bookkeeping.schema import Record, wishes


def add(connection: Connection, task: str, parameters: Parameters, *, by: str, now: datetime) -> int:
    """Queue one point; returns the wish's id."""
    made = connection.execute(
        sa.insert(wishes).values(task_id=task, parameters=parameters, created_at=now, created_by=by)
    )
    (wish,) = made.inserted_primary_key or (0,)
    return int(wish)


def waiting(connection: Connection, task: str, *, limit: int | None = None) -> Sequence[Record]:
    """Wishes without a point, oldest first."""
    query = sa.select(wishes).where(wishes.c.task_id == task, wishes.c.point.is_(None))
    return connection.execute(query.order_by(wishes.c.id).limit(limit)).all()


def count_waiting(connection: Connection, task: str) -> int:
    """How many wishes have no point yet."""
    query = sa.select(sa.func.count()).where(wishes.c.task_id == task, wishes.c.point.is_(None))
    return connection.execute(query).scalar_one()


def of_task(connection: Connection, task: str) -> Sequence[Record]:
    """All wishes, oldest first."""
    return connection.execute(sa.select(wishes).where(wishes.c.task_id == task).order_by(wishes.c.id)).all()


def fulfil(connection: Connection, wish: int, point: int) -> None:
    """Note which point a wish became."""
    connection.execute(sa.update(wishes).where(wishes.c.id == wish).values(point=point))
