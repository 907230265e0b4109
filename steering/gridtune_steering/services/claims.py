"""Which ready point a worker gets, and how many workers wait for one that is still to be made."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping import askers, points
from gridtune_steering.bookkeeping.lookups import ForAsk
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services import retries, workers
from gridtune_steering.services.retries import Place
from gridtune_steering.services.steering import Steering

#: So many points that came back are looked at, however many there are.
_MOST_LOOKED_AT = 20


def claim(
    steering: Steering,
    connection: Connection,
    task: str,
    evaluation: str,
    asker: Place,
    now: datetime,
    *,
    known: ForAsk,
) -> Record | None:
    """Let an evaluation have a ready point: one that came back if its worker may have it, else an untroubled one."""
    if not known.has_ready:
        return None
    troubled = points.troubled(connection, task, limit=_MOST_LOOKED_AT) if known.has_troubled else []
    if troubled:
        elsewhere = workers.others(steering, connection, task, now)
        patience = workers.patience(steering)
        read = [(retries.read_troubles(row.troubles), row.number) for row in troubled]
        allowed = [
            (retries.doubt(troubles, asker), number)
            for troubles, number in read
            if retries.may_try(troubles, asker, elsewhere, now=now, patience=patience)
        ]
        for _, number in sorted(allowed):
            point = points.claim(connection, task, number, evaluation, now=now)
            if point is not None:
                return point
    return points.claim_ready(connection, task, evaluation, now=now)


def credit(steering: Steering, connection: Connection, task: str, now: datetime, *, waiting: int, ready: int) -> int:
    """How many of the workers that are *waiting* wait for a point that does not exist yet."""
    if waiting and ready:
        ready -= _n_untakeable(steering, connection, task, now)
    return max(waiting - ready, 0)


def _n_untakeable(steering: Steering, connection: Connection, task: str, now: datetime) -> int:
    """Of the ready points, those that none of the waiting workers takes now, for they wait for a better place."""
    troubled = points.troubled(connection, task, limit=_MOST_LOOKED_AT)
    if not troubled:
        return 0
    waiting = [
        Place(row.site or "", row.host or row.worker) for row in askers.waiting_places(connection, task, now=now)
    ]
    return retries.n_untakeable(
        [retries.read_troubles(row.troubles) for row in troubled],
        waiting,
        workers.others(steering, connection, task, now),
        now=now,
        patience=workers.patience(steering),
    )
