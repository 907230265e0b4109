"""Statements that are built once: on the way of every ask, tell and heartbeat, building takes longer than executing."""

from __future__ import annotations

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


def _upsert(module: Any, table: sa.Table, keys: Sequence[str], change: Sequence[str]) -> Any:
    statement = module.insert(table)
    if not change:
        return statement.on_conflict_do_nothing(index_elements=keys)
    changed = {name: statement.excluded[name] for name in change}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)
