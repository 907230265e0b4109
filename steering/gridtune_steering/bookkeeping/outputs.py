"""What running evaluations print, while somebody watches them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import EvaluationState
from gridtune_steering.bookkeeping.schema import Record, evaluations, outputs
from gridtune_steering.bookkeeping.statements import Upsert

_KEEP = Upsert(outputs, keys=("evaluation_id",), change=("start", "end", "text"))


def watch(connection: Connection, evaluation: str, *, until: datetime) -> None:
    """Note that somebody wants to see an evaluation's output until then."""
    connection.execute(sa.update(evaluations).where(evaluations.c.id == evaluation).values(watched_until=until))


def find(connection: Connection, evaluation: str) -> Record | None:
    """The end of what an evaluation has printed."""
    return connection.execute(sa.select(outputs).where(outputs.c.evaluation_id == evaluation)).one_or_none()


def keep(connection: Connection, evaluation: str, *, start: int, end: int, text: str) -> None:
    """Replace the end of what an evaluation has printed."""
    _KEEP(connection, {"evaluation_id": evaluation, "start": start, "end": end, "text": text})


def forget(connection: Connection, evaluation: str) -> None:
    """Drop it: the evaluation has ended."""
    connection.execute(sa.delete(outputs).where(outputs.c.evaluation_id == evaluation))


def forget_ended(connection: Connection) -> None:
    """Drop what belongs to evaluations that have ended without a word of their own."""
    runs = sa.exists().where(
        evaluations.c.id == outputs.c.evaluation_id, evaluations.c.state == EvaluationState.RUNNING.value
    )
    connection.execute(sa.delete(outputs).where(sa.not_(runs)))
