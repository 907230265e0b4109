"""Tokens, by the hash of their secret."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import Record, tokens

_BY_HASH = sa.select(tokens).where(tokens.c.hash == sa.bindparam("digest"))


def insert(connection: Connection, **values: Any) -> None:
    """Add a token."""
    connection.execute(sa.insert(tokens).values(**values))


def find(connection: Connection, token: str) -> Record | None:
    """A token by its id."""
    return connection.execute(sa.select(tokens).where(tokens.c.id == token)).one_or_none()


def find_by_hash(connection: Connection, digest: str) -> Record | None:
    """A token by the SHA-256 of its secret."""
    return connection.execute(_BY_HASH, {"digest": digest}).one_or_none()


def of_user(connection: Connection, user: str | None) -> Sequence[Record]:
    """The tokens of one user, or of all, newest first."""
    query = sa.select(tokens)
    if user is not None:
        query = query.where(tokens.c.user == user)
    return connection.execute(query.order_by(tokens.c.created_at.desc(), tokens.c.id)).all()


def revoke(connection: Connection, token: str, *, now: datetime) -> None:
    """Make a token useless; an earlier revocation keeps its time."""
    connection.execute(
        sa.update(tokens).where(tokens.c.id == token, tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    )
