"""The audit log: written in the transaction of what it tells of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.database import announcement
from gridtune_steering.bookkeeping.schema import Record, events

_COLUMNS = [column for column in events.c if column.name != "id"]
_ADD = sa.insert(events).inline()
# PostgreSQL draws the number of a line when it has the lock, in the same statement
_LINE = [sa.bindparam(f"p_{column.name}", type_=column.type).label(column.name) for column in _COLUMNS]
_ANNOUNCE = (
    sa.insert(events)
    .inline()
    .from_select(
        [column.name for column in _COLUMNS],
        sa.select(*_LINE).select_from(announcement(sa.bindparam("p_task_id", type_=events.c.task_id.type))),
    )
)


def add(
    connection: Connection,
    *,
    at: datetime,
    actor: str,
    kind: str,
    task: str | None = None,
    point: int | None = None,
    evaluation: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one line."""
    line = {
        "at": at,
        "actor": actor,
        "kind": kind,
        "task_id": task,
        "point": point,
        "evaluation_id": evaluation,
        "details": dict(details or {}),
    }
    _write(connection, [line], task)


def add_many(
    connection: Connection, lines: Sequence[Mapping[str, Any]], *, at: datetime, actor: str, task: str
) -> None:
    """Write several lines about one task; each has ``kind`` and may have ``point``, ``evaluation_id``, ``details``."""
    if not lines:
        return
    common = {"at": at, "actor": actor, "task_id": task, "point": None, "evaluation_id": None, "details": {}}
    _write(connection, [{**common, **line} for line in lines], task)


def _write(connection: Connection, lines: Sequence[Mapping[str, Any]], task: str | None) -> None:
    if task is None or connection.dialect.name != "postgresql":
        connection.execute(_ADD, lines)
    else:
        connection.execute(_ANNOUNCE, [{f"p_{name}": value for name, value in line.items()} for line in lines])


def page(connection: Connection, task: str, *, kind: str | None, after: int, limit: int) -> Sequence[Record]:
    """Lines of one task after line *after*, oldest first; complete on a connection of ``read_settled(task)``."""
    query = sa.select(events).where(events.c.task_id == task, events.c.id > after)
    if kind is not None:
        query = query.where(events.c.kind == kind)
    return connection.execute(query.order_by(events.c.id).limit(limit)).all()


def newest(connection: Connection, task: str) -> int | None:
    """The number of a task's last line."""
    query = sa.select(sa.func.max(events.c.id)).where(events.c.task_id == task)
    number: int | None = connection.execute(query).scalar_one()
    return number


def tells_of(connection: Connection, task: str) -> bool:
    """Whether there is, or ever was, a task with this id here."""
    return connection.execute(sa.select(events.c.id).where(events.c.task_id == task).limit(1)).first() is not None
