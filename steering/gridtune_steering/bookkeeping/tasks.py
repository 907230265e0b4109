"""Tasks and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, task_files, tasks

_FIND = sa.select(tasks).where(tasks.c.id == sa.bindparam("task"))
_LOCK = _FIND.with_for_update(key_share=True)


def insert(connection: Connection, **values: Any) -> None:
    """Add a task."""
    connection.execute(sa.insert(tasks).values(**values))


def insert_files(connection: Connection, files: Sequence[Mapping[str, Any]]) -> None:
    """Add a task's files."""
    if files:
        connection.execute(sa.insert(task_files), [dict(file) for file in files])


def find(connection: Connection, task: str) -> Record | None:
    """A task by its id."""
    return connection.execute(_FIND, {"task": task}).one_or_none()


def find_for_update(connection: Connection, task: str) -> Record | None:
    """A task by its id, locked until the transaction ends; rows that refer to it may be added meanwhile."""
    return connection.execute(_LOCK, {"task": task}).one_or_none()


def page(
    connection: Connection,
    *,
    owner: str | None,
    name: str | None,
    state: str | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Record]:
    """Tasks before a place in the listing, newest first; of one owner, name or state, if given."""
    query = sa.select(tasks)
    if owner is not None:
        query = query.where(tasks.c.owner == owner)
    if name is not None:
        query = query.where(tasks.c.name == name)
    if state is not None:
        query = query.where(tasks.c.state == state)
    if before is not None:
        query = query.where(sa.tuple_(tasks.c.created_at, tasks.c.id) < sa.tuple_(*_bound(before)))
    return connection.execute(query.order_by(tasks.c.created_at.desc(), tasks.c.id.desc()).limit(limit)).all()


def _bound(place: tuple[datetime, str]) -> tuple[Any, Any]:
    return sa.literal(place[0], tasks.c.created_at.type), sa.literal(place[1])


def update(connection: Connection, task: str, **values: Any) -> None:
    """Change columns of a task."""
    connection.execute(sa.update(tasks).where(tasks.c.id == task).values(**values))


def delete(connection: Connection, task: str) -> None:
    """Remove a task with its files, points, evaluations and reports."""
    connection.execute(sa.delete(tasks).where(tasks.c.id == task))


def files(connection: Connection, task: str) -> Sequence[Record]:
    """A task's files without their content."""
    columns = [task_files.c.path, task_files.c.size, task_files.c.sha256, task_files.c.executable]
    return connection.execute(sa.select(*columns).where(task_files.c.task_id == task).order_by(task_files.c.path)).all()


def file_content(connection: Connection, task: str, path: str) -> bytes | None:
    """The bytes of one file."""
    query = sa.select(task_files.c.content).where(task_files.c.task_id == task, task_files.c.path == path)
    content: bytes | None = connection.execute(query).scalar_one_or_none()
    return content
