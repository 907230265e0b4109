"""Duties: work that one optimizer host at a time does for all, under a lease."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, duties
from gridtune_steering.bookkeeping.statements import Upsert

_BEGIN = Upsert(duties, keys=("name",))


def take(connection: Connection, name: str, holder: str, *, now: datetime, until: datetime) -> Record | None:
    """Take or keep a duty; returns its row, as it was before, or None if another holder has it, or is taking it."""
    _BEGIN(connection, {"name": name, "holder": holder, "lease_until": until})
    found = sa.select(duties).where(duties.c.name == name).with_for_update(skip_locked=True)
    row = connection.execute(found).one_or_none()
    if row is None or (row.holder != holder and row.lease_until > now):
        return None
    connection.execute(
        sa.update(duties).where(duties.c.name == name).values(holder=holder, lease_until=until, last_run_at=now)
    )
    return row


def last_run(connection: Connection, name: str) -> datetime | None:
    """When a duty was last taken or kept; None if never."""
    moment: datetime | None = connection.execute(
        sa.select(duties.c.last_run_at).where(duties.c.name == name)
    ).scalar_one_or_none()
    return moment


def suspend(connection: Connection, name: str, *, until: datetime) -> None:
    """Let a duty rest until then."""
    connection.execute(sa.update(duties).where(duties.c.name == name).values(suspended_until=until))
