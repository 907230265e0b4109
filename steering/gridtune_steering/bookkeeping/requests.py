"""Answers that were given, by request id."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, requests


def find(connection: Connection, token: str, request_id: str) -> Record | None:
    """The fingerprint and answer of an earlier call with this id."""
    query = sa.select(requests.c.fingerprint, requests.c.answer)
    return connection.execute(
        query.where(requests.c.token_id == token, requests.c.request_id == request_id)
    ).one_or_none()


def forget(connection: Connection, token: str, request_id: str) -> None:
    """Drop one answer, which is no longer true."""
    connection.execute(sa.delete(requests).where(requests.c.token_id == token, requests.c.request_id == request_id))


def keep(connection: Connection, token: str, request_id: str, *, fingerprint: str, answer: Any, at: datetime) -> None:
    """Remember an answer."""
    connection.execute(
        sa.insert(requests).values(token_id=token, request_id=request_id, fingerprint=fingerprint, answer=answer, at=at)
    )


def forget_before(connection: Connection, at: datetime) -> int:
    """Drop answers that nobody will ask for again; returns how many."""
    return connection.execute(sa.delete(requests).where(requests.c.at < at)).rowcount
