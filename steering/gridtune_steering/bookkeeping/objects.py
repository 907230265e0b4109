"""What is in object storage, and what is to be deleted from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.protocol import EvaluationState, ObjectKind, PointState
from gridtune_steering.bookkeeping.archives import KIND as ARCHIVE
from gridtune_steering.bookkeeping.schema import Record, archives, evaluations, objects, points, tasks

#: States in which nobody will go on with a point.
_ENDED = (
    PointState.DONE.value,
    PointState.FAILED.value,
    PointState.STOPPED.value,
    PointState.CANCELLED.value,
)


_CHECKPOINTS = (
    sa.select(objects)
    .where(
        objects.c.task_id == sa.bindparam("task"),
        objects.c.point == sa.bindparam("p_point"),
        objects.c.kind == ObjectKind.CHECKPOINT.value,
        objects.c.committed_at.is_not(None),
        objects.c.doomed_at.is_(None),
    )
    .order_by(objects.c.number.desc())
)


def insert(connection: Connection, **values: Any) -> None:
    """Note an upload that was begun."""
    connection.execute(sa.insert(objects).values(**values))


def insert_archive(
    connection: Connection, task: Record, *, id_: str, key: str, size: int, sha256: str, now: datetime
) -> None:
    """Note the object that a task was moved to."""
    insert(
        connection,
        id=id_,
        kind=ARCHIVE,
        task_id=task.id,
        owner=task.owner,
        point=-1,
        evaluation_id="",
        key=key,
        upload="",
        part_size=size,
        size=size,
        sha256=sha256,
        format="json.gz",
        interrupted=False,
        created_at=now,
        committed_at=now,
        doom="",
    )


def find(connection: Connection, object_: str) -> Record | None:
    """An object by its id."""
    return connection.execute(sa.select(objects).where(objects.c.id == object_)).one_or_none()


def commit(connection: Connection, object_: str, *, now: datetime) -> None:
    """From now on the object exists."""
    connection.execute(sa.update(objects).where(objects.c.id == object_).values(committed_at=now))


def checkpoints(connection: Connection, task: str, point: int) -> Sequence[Record]:
    """The committed checkpoints of a point that are wanted, newest first."""
    return connection.execute(_CHECKPOINTS, {"task": task, "p_point": point}).all()


def has_checkpoints(connection: Connection, task: str) -> bool:
    """Whether any checkpoint of a task was ever committed and is still there."""
    query = sa.select(objects.c.number).where(
        objects.c.task_id == task,
        objects.c.kind == ObjectKind.CHECKPOINT.value,
        objects.c.committed_at.is_not(None),
    )
    return connection.execute(query.limit(1)).first() is not None


def newest_checkpoint(connection: Connection, evaluation: str) -> Record | None:
    """The newest committed checkpoint of one evaluation, wanted or not."""
    query = sa.select(objects).where(
        objects.c.evaluation_id == evaluation,
        objects.c.kind == ObjectKind.CHECKPOINT.value,
        objects.c.committed_at.is_not(None),
    )
    return connection.execute(query.order_by(objects.c.number.desc()).limit(1)).one_or_none()


def of_point(connection: Connection, task: str, point: int) -> Sequence[Record]:
    """All objects of a point, oldest first."""
    query = sa.select(objects).where(objects.c.task_id == task, objects.c.point == point)
    return connection.execute(query.order_by(objects.c.number)).all()


def total_size(connection: Connection, *, task: str | None = None, owner: str | None = None) -> int:
    """Bytes of all objects of a task or of a user; uploads on their way count, those that were given up do not.

    Nor do archived tasks: they are there by the operators' will.
    """
    query = sa.select(sa.func.coalesce(sa.func.sum(objects.c.size), 0)).where(
        sa.or_(objects.c.committed_at.is_not(None), objects.c.doomed_at.is_(None)), objects.c.kind != ARCHIVE
    )
    if task is not None:
        query = query.where(objects.c.task_id == task)
    if owner is not None:
        query = query.where(objects.c.owner == owner)
    return int(connection.execute(query).scalar_one())


def use_by_task(connection: Connection, *, owner: str | None) -> Sequence[Record]:
    """Number and bytes of objects by task, of one user or of all; the name is null where the task is gone."""

    def bytes_where(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, objects.c.size), else_=0)), 0)

    is_committed = objects.c.committed_at.is_not(None)
    committed = bytes_where(is_committed).label("committed_bytes")
    name = sa.func.coalesce(tasks.c.name, archives.c.name)
    query = (
        sa.select(
            objects.c.task_id,
            objects.c.owner,
            name.label("name"),
            sa.func.count().label("n_objects"),
            committed,
            bytes_where(sa.not_(is_committed)).label("pending_bytes"),
            bytes_where(objects.c.doomed_at.is_not(None)).label("doomed_bytes"),
        )
        .select_from(
            objects.outerjoin(tasks, tasks.c.id == objects.c.task_id).outerjoin(
                archives, archives.c.id == objects.c.task_id
            )
        )
        .group_by(objects.c.task_id, objects.c.owner, name)
    )
    if owner is not None:
        query = query.where(objects.c.owner == owner)
    return connection.execute(query.order_by(committed.desc(), objects.c.task_id)).all()


# --- the end of objects


def doom_with_deltas(connection: Connection, checkpoint: Record, *, at: datetime, why: str) -> None:
    """Let a checkpoint be deleted at a time, and with it those that lean on it, also if they are still on their way."""
    query = sa.select(objects.c.id).where(
        objects.c.task_id == checkpoint.task_id,
        objects.c.point == checkpoint.point,
        objects.c.base_id == checkpoint.id,
    )
    deltas = connection.execute(query).scalars().all()
    doom(connection, deltas, at=at, why=f"its base is given up: {why}")
    doom(connection, [checkpoint.id], at=at, why=why)


def doom(connection: Connection, ids: Sequence[str], *, at: datetime, why: str) -> None:
    """Let objects be deleted at a time, unless they are to go earlier."""
    if ids:
        earlier = sa.or_(objects.c.doomed_at.is_(None), objects.c.doomed_at > at)
        connection.execute(sa.update(objects).where(objects.c.id.in_(ids), earlier).values(doomed_at=at, doom=why))


def doom_pending(connection: Connection, evaluation: str, kind: ObjectKind, *, at: datetime) -> None:
    """Give up the uploads of this kind that an evaluation has begun: it sends one after the other."""
    connection.execute(
        sa.update(objects)
        .where(
            objects.c.evaluation_id == evaluation,
            objects.c.kind == kind.value,
            objects.c.committed_at.is_(None),
            objects.c.doomed_at.is_(None),
        )
        .values(doomed_at=at, doom="another upload was begun")
    )


def last_commit(connection: Connection, task: str, point: int) -> datetime | None:
    """When a checkpoint of a point was committed last; None if never, or long ago."""
    query = sa.select(sa.func.max(objects.c.committed_at, type_=objects.c.committed_at.type)).where(
        objects.c.task_id == task, objects.c.point == point, objects.c.kind == ObjectKind.CHECKPOINT.value
    )
    moment: datetime | None = connection.execute(query).scalar_one()
    return moment


def doom_finished_points(connection: Connection, *, at: datetime) -> int:
    """Let the checkpoints of points be deleted that nobody will go on with."""
    is_over = sa.exists().where(
        points.c.task_id == objects.c.task_id, points.c.number == objects.c.point, points.c.state.in_(_ENDED)
    )
    return connection.execute(
        sa.update(objects)
        .where(objects.c.kind == ObjectKind.CHECKPOINT.value, objects.c.doomed_at.is_(None), is_over)
        .values(doomed_at=at, doom="its point has ended")
    ).rowcount


def doom_abandoned(connection: Connection, *, begun_before: datetime, at: datetime) -> int:
    """Let uploads be deleted that were begun long ago, and whose evaluation has ended."""
    runs = sa.exists().where(
        evaluations.c.id == objects.c.evaluation_id, evaluations.c.state == EvaluationState.RUNNING.value
    )
    return connection.execute(
        sa.update(objects)
        .where(
            objects.c.committed_at.is_(None),
            objects.c.doomed_at.is_(None),
            objects.c.created_at < begun_before,
            sa.not_(runs),
        )
        .values(doomed_at=at, doom="its upload was given up")
    ).rowcount


def doom_all_of(connection: Connection, task: str, *, at: datetime, why: str) -> None:
    """Let all objects of a task be deleted at a time, unless they are to go earlier."""
    earlier = sa.or_(objects.c.doomed_at.is_(None), objects.c.doomed_at > at)
    connection.execute(sa.update(objects).where(objects.c.task_id == task, earlier).values(doomed_at=at, doom=why))


def doom_of_deleted_tasks(connection: Connection, *, at: datetime) -> int:
    """Let everything be deleted that belongs to no task any more; an archived task has its archive alone."""
    exists = sa.exists().where(tasks.c.id == objects.c.task_id)
    is_archive = sa.and_(objects.c.kind == ARCHIVE, sa.exists().where(archives.c.object_id == objects.c.id))
    return connection.execute(
        sa.update(objects)
        .where(sa.or_(objects.c.doomed_at.is_(None), objects.c.doomed_at > at), sa.not_(exists), sa.not_(is_archive))
        .values(doomed_at=at, doom="its task was deleted")
    ).rowcount


def due(connection: Connection, *, now: datetime, limit: int) -> Sequence[Record]:
    """What is to be deleted now."""
    query = sa.select(objects).where(objects.c.doomed_at <= now)
    return connection.execute(query.order_by(objects.c.doomed_at).limit(limit)).all()


def delete(connection: Connection, ids: Sequence[str]) -> None:
    """Forget objects that are deleted."""
    if ids:
        connection.execute(sa.delete(objects).where(objects.c.id.in_(ids)))


def known_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of *keys* that the bookkeeping knows; a few hundred at most."""
    return set(connection.execute(sa.select(objects.c.key).where(objects.c.key.in_(keys))).scalars())
