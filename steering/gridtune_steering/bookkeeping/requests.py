"""Answers that were given, by request id."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, requests
from gridtune_steering.bookkeeping.statements import Upsert

_IS = sa.and_(requests.c.token_id == sa.bindparam("token"), requests.c.request_id == sa.bindparam("request"))
_FIND = sa.select(requests.c.fingerprint, requests.c.answer).where(_IS)
_FORGET = sa.delete(requests).where(_IS)
_KEEP = Upsert(requests, keys=("token_id", "request_id"))


def find(connection: Connection, token: str, request_id: str) -> Record | None:
    """The fingerprint and answer of an earlier call with this id."""
    return connection.execute(_FIND, {"token": token, "request": request_id}).one_or_none()


def forget(connection: Connection, token: str, request_id: str) -> None:
    """Drop one answer, which is no longer true."""
    connection.execute(_FORGET, {"token": token, "request": request_id})


def keep(connection: Connection, token: str, request_id: str, *, fingerprint: str, answer: Any, at: datetime) -> bool:
    """Remember an answer; False if another transaction has done so since `find` was called in this one."""
    row = {"token_id": token, "request_id": request_id, "fingerprint": fingerprint, "answer": answer, "at": at}
    return _KEEP.has_inserted(connection, row)


def forget_before(connection: Connection, at: datetime) -> int:
    """Drop answers that nobody will ask for again; returns how many."""
    return connection.execute(sa.delete(requests).where(requests.c.at < at)).rowcount
