"""Tasks and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import PointState, TaskState
from gridtune_steering.bookkeeping.schema import Record, archives, points, task_files, tasks, waiting

_FIND = sa.select(tasks).where(tasks.c.id == sa.bindparam("task"))
_LOCK = _FIND.with_for_update(key_share=True)
#: What was submitted, word for word, and with which versions, is large and seldom wanted.
SLIM = [column for column in tasks.c if column.name not in {"source", "versions"}]
_LOCK_SLIM = sa.select(*SLIM).where(tasks.c.id == sa.bindparam("task")).with_for_update(key_share=True)
_GLANCE = sa.select(
    tasks.c.state,
    sa.exists().where(points.c.task_id == tasks.c.id, points.c.state == PointState.READY.value).label("has_ready"),
    sa.select(waiting.c.until)
    .where(waiting.c.task_id == tasks.c.id, waiting.c.worker == sa.bindparam("p_worker"))
    .scalar_subquery()
    .label("waits_until"),
).where(tasks.c.id == sa.bindparam("task"))


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


def slim_for_update(connection: Connection, task: str) -> Record | None:
    """Like `find_for_update`, without `source` and `versions`."""
    return connection.execute(_LOCK_SLIM, {"task": task}).one_or_none()


def glance(connection: Connection, task: str, worker: str) -> Record | None:
    """A task's state, whether a point is ready (`has_ready`), until when the worker waits for one (`waits_until`)."""
    return connection.execute(_GLANCE, {"task": task, "p_worker": worker}).one_or_none()


def ended_before(connection: Connection, at: datetime, *, limit: int) -> Sequence[str]:
    """The ids of tasks that ended before a time, those that ended first coming first."""
    ended = (TaskState.FINISHED.value, TaskState.CANCELLED.value)
    query = sa.select(tasks.c.id).where(tasks.c.state.in_(ended), tasks.c.ended_at < at)
    return connection.execute(query.order_by(tasks.c.ended_at).limit(limit)).scalars().all()


def page(
    connection: Connection,
    *,
    archived: bool,
    owner: str | None,
    name: str | None,
    state: str | None,
    before: tuple[datetime, str] | None,
    limit: int,
) -> Sequence[Record]:
    """Tasks before a place in the listing, or archived ones, newest first; of one owner, name or state, if given."""
    table = archives if archived else tasks
    query = sa.select(table)
    if owner is not None:
        query = query.where(table.c.owner == owner)
    if name is not None:
        query = query.where(table.c.name == name)
    if state is not None:
        query = query.where(table.c.state == state)
    if before is not None:
        query = query.where(sa.tuple_(table.c.created_at, table.c.id) < sa.tuple_(*_bound(before)))
    return connection.execute(query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)).all()


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


def whole_files(connection: Connection, task: str) -> Sequence[Record]:
    """A task's files with their content."""
    query = sa.select(task_files).where(task_files.c.task_id == task)
    return connection.execute(query.order_by(task_files.c.path)).all()


def file_content(connection: Connection, task: str, path: str) -> bytes | None:
    """The bytes of one file."""
    query = sa.select(task_files.c.content).where(task_files.c.task_id == task, task_files.c.path == path)
    content: bytes | None = connection.execute(query).scalar_one_or_none()
    return content
