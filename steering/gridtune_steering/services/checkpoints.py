"""What a point can go on from, and which checkpoint is not to be trusted."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from gridtune_common.protocol import Checkpoint, CheckpointBase, ObjectKind
from gridtune_steering.bookkeeping import objects
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.steering import Steering

#: How many of a point's checkpoints are kept where the task does not say.
_KEPT = 2


def to_resume_from(connection: Connection, task: Record, point: int, *, deltas: bool) -> list[Checkpoint]:
    """What a point can go on from, newest first; without *deltas* whole ones alone.

    These are as many as the task wants to be kept, and the bases of those, which are good for more than that.
    """
    wanted = {row.id: row for row in objects.checkpoints(connection, task.id, point)}
    rows = [row for row in wanted.values() if row.base_id is None or (deltas and row.base_id in wanted)]
    return [_checkpoint(row, wanted.get(row.base_id)) for row in rows]


def _checkpoint(row: Record, base: Record | None) -> Checkpoint:
    return Checkpoint(
        id=row.id,
        size=row.size,
        sha256=row.sha256,
        format=row.format,
        step=row.step,
        base=None if base is None else CheckpointBase(base.id, base.size, base.sha256, base.format),
    )


def why_no_base(connection: Connection, row: Record, base: str) -> str | None:
    """Why a checkpoint of an evaluation cannot lean on another one; None if it can."""
    found = objects.find(connection, base)
    if found is None or (found.task_id, found.point) != (row.task_id, row.point):
        return f"there is no checkpoint {base!r} of this point"
    if found.kind != ObjectKind.CHECKPOINT.value or found.base_id is not None:
        return f"{base!r} is no whole checkpoint"
    if found.committed_at is None:
        return f"{base!r} was not committed"
    if found.doomed_at is not None:
        return f"{base!r} is not kept any more: {found.doom}"
    return None


def superseded(connection: Connection, task: Record, point: int) -> list[str]:
    """The checkpoints of a point that are not needed: neither among the newest, nor the base of one of these."""
    rows = objects.checkpoints(connection, task.id, point)
    newest, older = rows[: kept(task)], rows[kept(task) :]
    needed = {row.base_id for row in newest}
    return [row.id for row in older if row.id not in needed]


def mistrust(steering: Steering, connection: Connection, row: Record, now: datetime) -> None:
    """Give the checkpoint up from which an evaluation went on, if it failed without making a newer one.

    The checkpoint may be what makes the training fail; the next attempt goes on from the one before, and at last
    begins anew.
    """
    if row.resumed_from is None or objects.newest_checkpoint(connection, row.id) is not None:
        return
    suspect = objects.find(connection, row.resumed_from)
    if suspect is not None:
        at = now + timedelta(seconds=steering.settings.storage_grace_seconds)
        why = "the evaluation that went on from it failed"
        objects.doom_with_deltas(connection, suspect, at=at, why=why)


def kept(task: Record) -> int:
    """How many checkpoints of a point the task wants to be kept."""
    rule = (task.document.get("payload") or {}).get("checkpoint") or {}
    return int(rule.get("keep", _KEPT))
