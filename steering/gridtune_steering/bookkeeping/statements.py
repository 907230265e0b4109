"""Statements that are built once: on the way of every ask, tell and heartbeat, building takes longer than executing."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

_DIALECTS = {"postgresql": postgresql, "sqlite": sqlite}


class Upsert:
    """An INSERT that gives way to a row that is there already.

    Args:
        table: Where to.
        keys: The columns of the row's key.
        change: The columns that a row which is there takes over; none to leave it as it is.
    """

    def __init__(self, table: sa.Table, *, keys: Sequence[str], change: Sequence[str] = ()) -> None:
        self._statements = {name: _upsert(module, table, keys, change) for name, module in _DIALECTS.items()}
        self._telling = {name: statement.returning(table.c[keys[0]]) for name, statement in self._statements.items()}

    def __call__(self, connection: Connection, *rows: Mapping[str, Any]) -> None:
        """Insert rows, which all have the same columns."""
        connection.execute(self._statements[connection.dialect.name], rows if len(rows) > 1 else rows[0])

    def has_inserted(self, connection: Connection, row: Mapping[str, Any]) -> bool:
        """Insert a row; tells whether it was new."""
        return connection.execute(self._telling[connection.dialect.name], row).first() is not None


def _record(name: str, columns: Sequence[sa.ColumnElement[Any]]) -> Any:
    names = [column.key or "" for column in columns]
    return namedtuple(name, names)


def _upsert(module: Any, table: sa.Table, keys: Sequence[str], change: Sequence[str]) -> Any:
    statement = module.insert(table)
    if not change:
        return statement.on_conflict_do_nothing(index_elements=keys)
    changed = {name: statement.excluded[name] for name in change}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


class SideBySide:
    """Columns of several tables in one SELECT, whose rows fall apart again into a record for each table.

    Args:
        parts: The columns by the name of their record; the first column of each is never null in its table.
    """

    def __init__(self, **parts: Sequence[sa.ColumnElement[Any]]) -> None:
        self._kinds: list[Any] = [_record(name, part) for name, part in parts.items()]
        self.columns = [column.label(f"{name}_{column.key}") for name, part in parts.items() for column in part]

    def split(self, row: Sequence[Any]) -> list[Any]:
        """The records of one row; None for a table that had nothing to join."""
        values, start, records = tuple(row), 0, []
        for kind in self._kinds:
            end = start + len(kind._fields)
            records.append(None if values[start] is None else kind._make(values[start:end]))
            start = end
        return records
