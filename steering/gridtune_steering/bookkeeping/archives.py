"""Tasks that were moved into the object store: what is listed of them, and where the rest is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, archives, events, points, tasks, tokens

#: The kind of the objects in which archived tasks are; no agent uploads any.
KIND = "archive"
#: The last words on a task, which stay as long as the database.
LAST_WORDS = ("task.archived", "task.deleted")


def find(connection: Connection, task: str) -> Record | None:
    """An archived task by its id."""
    return connection.execute(sa.select(archives).where(archives.c.id == task)).one_or_none()


def find_for_update(connection: Connection, task: str) -> Record | None:
    """An archived task by its id, locked until the transaction ends."""
    return connection.execute(sa.select(archives).where(archives.c.id == task).with_for_update()).one_or_none()


def insert(connection: Connection, **values: Any) -> None:
    """Note where a task has gone."""
    connection.execute(sa.insert(archives).values(**values))


def delete(connection: Connection, task: str) -> None:
    """Forget an archived task; its object is then collected."""
    connection.execute(sa.delete(archives).where(archives.c.id == task))


def lock_points(connection: Connection, task: str) -> None:
    """Wait for all who change a task's points, and keep others from it until the transaction ends."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a large task may take longer than a request
        connection.execute(sa.select(points.c.number).where(points.c.task_id == task).with_for_update()).all()


def remove_rows(connection: Connection, task: str) -> None:
    """Remove a task with all that refers to it, and its lines in the log."""
    connection.execute(sa.delete(tasks).where(tasks.c.id == task))
    connection.execute(sa.delete(events).where(events.c.task_id == task))


# --- what would otherwise grow for ever


def forget_events(connection: Connection, *, before: datetime, limit: int) -> int:
    """Drop old lines of the log that belong to no task any more, but for its last word; returns how many."""
    is_orphan = sa.or_(events.c.task_id.is_(None), ~sa.exists().where(tasks.c.id == events.c.task_id))
    old = sa.select(events.c.id).where(events.c.at < before, events.c.kind.not_in(LAST_WORDS), is_orphan)
    return connection.execute(sa.delete(events).where(events.c.id.in_(old.limit(limit)))).rowcount


def forget_tokens(connection: Connection, *, before: datetime) -> int:
    """Drop tokens that have opened nothing for long: ended, or made long ago for a task that is gone."""
    has_no_task = sa.and_(
        tokens.c.task_id.is_not(None),
        tokens.c.created_at < before,
        ~sa.exists().where(tasks.c.id == tokens.c.task_id),
    )
    is_over = sa.or_(tokens.c.expires_at < before, tokens.c.revoked_at < before, has_no_task)
    return connection.execute(sa.delete(tokens).where(is_over)).rowcount
