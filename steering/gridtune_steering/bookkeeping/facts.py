"""What all processes of the service have to agree on."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.schema import facts
from gridtune_steering.bookkeeping.statements import Upsert

_STATE = Upsert(facts, keys=("name",), change=("value",))

#: The fingerprint of the key that the service's secrets are derived from.
SERVICE_KEY = "service_key"


def find(connection: Connection, name: str) -> str | None:
    """A fact; None if nobody has stated it."""
    return connection.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def state(connection: Connection, name: str, value: str) -> None:
    """State a fact, in place of what was stated before."""
    _STATE(connection, {"name": name, "value": value})
