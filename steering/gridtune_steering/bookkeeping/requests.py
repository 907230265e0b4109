"""Answers that were given, by request id."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
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


def keep(connection: Connection, token: str, request_id: str, *, fingerprint: str, answer: Any, at: datetime) -> bool:
    """Remember an answer; False if another transaction has done so since `find` was called in this one."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values = {"token_id": token, "request_id": request_id, "fingerprint": fingerprint, "answer": answer, "at": at}
    statement = dialect.insert(requests).values(values).on_conflict_do_nothing().returning(requests.c.request_id)
    return connection.execute(statement).first() is not None


def forget_before(connection: Connection, at: datetime) -> int:
    """Drop answers that nobody will ask for again; returns how many."""
    return connection.execute(sa.delete(requests).where(requests.c.at < at)).rowcount
