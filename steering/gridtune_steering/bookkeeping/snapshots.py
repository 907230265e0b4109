"""Snapshots of optimizers, one a task: the newest replaces the one before."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, snapshots


def put(connection: Connection, task: str, **values: Any) -> None:
    """Keep a snapshot instead of the task's last one."""
    connection.execute(sa.delete(snapshots).where(snapshots.c.task_id == task))
    connection.execute(sa.insert(snapshots).values(task_id=task, **values))


def find(connection: Connection, task: str) -> Record | None:
    """The task's snapshot."""
    return connection.execute(sa.select(snapshots).where(snapshots.c.task_id == task)).one_or_none()
