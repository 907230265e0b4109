"""What a point can go on from, and which checkpoint is not to be trusted."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from gridtune_common.protocol import Checkpoint
from gridtune_steering.bookkeeping import objects
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.steering import Steering

#: How many of a point's checkpoints are kept where the task does not say.
_KEPT = 2


def to_resume_from(connection: Connection, task: Record, point: int) -> list[Checkpoint]:
    """What a point can go on from, newest first."""
    return [
        Checkpoint(id=row.id, size=row.size, sha256=row.sha256, format=row.format, step=row.step)
        for row in objects.checkpoints(connection, task.id, point)[: kept(task)]
    ]


def mistrust(steering: Steering, connection: Connection, row: Record, now: datetime) -> None:
    """Give the checkpoint up from which an evaluation went on, if it failed without making a newer one.

    The checkpoint may be what makes the training fail; the next attempt goes on from the one before, and at last
    begins anew.
    """
    if row.resumed_from is None or objects.newest_checkpoint(connection, row.id) is not None:
        return
    at = now + timedelta(seconds=steering.settings.storage_grace_seconds)
    objects.doom(connection, [row.resumed_from], at=at, why="the evaluation that went on from it failed")


def kept(task: Record) -> int:
    """How many checkpoints of a point the task wants to be kept."""
    rule = (task.document.get("payload") or {}).get("checkpoint") or {}
    return int(rule.get("keep", _KEPT))
