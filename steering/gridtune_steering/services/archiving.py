"""Ended tasks leave the database for the object store, so that it stays small; their export stays readable.

The object comes first, then one transaction in which the rows go and the archive appears. Whatever is killed in
between, the task is either here or there, and the next try works: an object that no archive names is a stray, which
`collecting` finds. A change between the export and the transaction shows in the log; then nothing is done.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from gridtune_common import wire
from gridtune_common.protocol import Export, ShippedFile, TaskState, TaskSummary
from gridtune_steering.bookkeeping import archives, events, objects, tasks
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.identity.secrets import new_id
from gridtune_steering.objectstore.port import NoSuchObject, StoreError
from gridtune_steering.services import records, turns
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import Conflict, NotAllowed, NotFound, TaskArchived
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.storage import PREFIX
from gridtune_steering.services.times import iso

_log = logging.getLogger("gridtune.archiving")
#: The service's own hand in the audit log.
_ACTOR = "gridtune/host"
_ARCHIVING, _FORGETTING = "archiving", "forgetting"
_ARCHIVE_EVERY, _FORGET_EVERY = timedelta(minutes=1), timedelta(hours=6)
#: Tasks that are archived in one go, and lines of the log that are dropped in one transaction.
_BATCH, _LINES = 20, 10_000
#: How long tokens are remembered that open nothing any more.
_TOKENS_REMEMBERED = timedelta(days=90)


def do_duty(steering: Steering, host: str) -> int:
    """Archive what is old enough and forget what nobody needs, if it is time for it; returns how many were archived.

    Raises:
        StoreError: The store cannot take it; the next round tries again.
    """
    if turns.take(steering, _FORGETTING, host, _FORGET_EVERY):
        forget(steering)
    after = steering.settings.archive_after_seconds
    if not after or not turns.take(steering, _ARCHIVING, host, _ARCHIVE_EVERY):
        return 0
    with steering.database.read() as connection:
        due = tasks.ended_before(connection, steering.clock() - timedelta(seconds=after), limit=_BATCH)
    return sum(_try_to_archive(steering, task) for task in due)


def _try_to_archive(steering: Steering, task: str) -> bool:
    try:
        _archive(steering, task, _ACTOR)
    except (Conflict, NotFound) as error:  # somebody works on it
        _log.info("task %s is not archived: %s", task, error, extra={"action": "not_archived", "task": task})
        return False
    return True


def archive(steering: Steering, caller: Caller, task: str) -> TaskSummary:
    """Move an ended task into the object store. One that is there already stays there.

    Raises:
        NotAllowed: The caller is no operator.
        NotFound: There is no such task.
        Conflict: It has not ended, or it changed meanwhile.
        StoreError: The store does not take it.
    """
    if not caller.sees_all:
        raise NotAllowed("only operators archive tasks")
    return _archive(steering, task, caller.user)


def _archive(steering: Steering, task: str, actor: str) -> TaskSummary:
    try:
        return _move(steering, task, actor)
    except NotFound:
        with steering.database.read() as connection:
            kept = archives.find(connection, task)
        if kept is None:
            raise
        return wire.decode(TaskSummary, kept.summary)


def _move(steering: Steering, task: str, actor: str) -> TaskSummary:
    now = steering.clock()
    exported = _exported(steering, task, now)
    content = gzip.compress(wire.dump(exported).encode(), mtime=0)
    id_ = new_id(16)
    key = f"{PREFIX}{task}/archive/{id_}"
    with _unless_noted(steering, key):
        steering.store.write(key, content)
        if steering.store.read(key, len(content) + 1) != content:
            raise StoreError(f"the store does not give back what was written to {key}; nothing was archived")
        with steering.database.write() as connection:
            _switch(steering, connection, exported, id_, key, content, actor, now)
    return exported.task.summary


def _exported(steering: Steering, task: str, now: datetime) -> Export:
    with steering.database.read_settled(task) as connection:
        row = _ended(tasks.find(connection, task), task)
        exported = records.everything(connection, row, now)
        files = [
            ShippedFile(file.path, base64.b64encode(file.content).decode(), file.executable)
            for file in tasks.whole_files(connection, task)
        ]
    summary = replace(exported.task.summary, archived_at=iso(now))
    return replace(exported, task=replace(exported.task, summary=summary), files=files)


@contextmanager
def _unless_noted(steering: Steering, key: str) -> Iterator[None]:
    """Take an object away again whose archive was not written down; were it noted after all, it would be needed."""
    try:
        yield
    except (Conflict, NotFound):
        with contextlib.suppress(StoreError):
            steering.store.delete([key])
        raise


def _switch(
    steering: Steering,
    connection: Connection,
    exported: Export,
    id_: str,
    key: str,
    content: bytes,
    actor: str,
    now: datetime,
) -> None:
    """The rows go, and the archive is there."""
    summary = exported.task.summary
    row = _ended(tasks.find_for_update(connection, summary.id), summary.id)
    archives.lock_points(connection, row.id)
    if events.newest(connection, row.id) != exported.events[-1].id:
        raise Conflict("the task changed while it was archived; try again")
    grace = timedelta(seconds=steering.settings.storage_grace_seconds)
    objects.doom_all_of(connection, row.id, at=now + grace, why="its task was archived")
    archives.remove_rows(connection, row.id)
    archives.insert(
        connection,
        id=row.id,
        name=row.name,
        owner=row.owner,
        state=row.state,
        summary=wire.encode(summary),
        object_id=id_,
        created_at=row.created_at,
        archived_at=now,
    )
    objects.insert_archive(connection, row, id_=id_, key=key, size=len(content), sha256=_sha256(content), now=now)
    details = {"object": id_, "size": len(content), "name": row.name, "owner": row.owner}
    events.add(connection, at=now, actor=actor, kind="task.archived", task=row.id, details=details)


def _ended(row: Record | None, task: str) -> Record:
    if row is None:
        raise NotFound("task", task)
    if row.state not in {TaskState.FINISHED.value, TaskState.CANCELLED.value}:
        raise Conflict(f"the task is {row.state}; only ended tasks are archived")
    return row


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- reading


def export(steering: Steering, caller: Caller, task: str) -> Export:
    """Everything that is known of a task, wherever it is.

    Raises:
        NotFound: No such task.
        StoreError: The store does not give an archived one.
    """
    try:
        return records.export(steering, caller, task)
    except TaskArchived:
        return wire.decode(Export, json.loads(_read(steering, task)))


def document(steering: Steering, caller: Caller, task: str) -> bytes:
    """The same as JSON: of an archived task as it was written, which may be by an older gridtune.

    Raises:
        NotFound: No such task.
        StoreError: The store does not give an archived one.
    """
    try:
        return wire.dump(records.export(steering, caller, task)).encode()
    except TaskArchived:
        return _read(steering, task)


def _read(steering: Steering, task: str) -> bytes:
    with steering.database.read() as connection:
        kept = archives.find(connection, task)
        stored = objects.find(connection, kept.object_id) if kept is not None else None
    if stored is None:  # deleted just now
        raise NotFound("task", task)
    try:
        content = steering.store.read(stored.key, stored.size + 1)
    except NoSuchObject as error:
        raise StoreError(f"the archive of task {task} is not in the store: {stored.key}; restore it there") from error
    if _sha256(content) != stored.sha256:
        raise StoreError(f"the archive of task {task} is damaged: {stored.key} has another checksum; restore it there")
    return gzip.decompress(content)


# --- forgetting


def forget(steering: Steering) -> None:
    """Drop what would otherwise grow for ever: tokens that open nothing, and the log of tasks that are gone."""
    now = steering.clock()
    with steering.database.write() as connection:
        archives.forget_tokens(connection, before=now - _TOKENS_REMEMBERED)
    if memory := steering.settings.event_memory_seconds:
        dropped = _LINES
        while dropped == _LINES:
            with steering.database.write() as connection:
                dropped = archives.forget_events(connection, before=now - timedelta(seconds=memory), limit=_LINES)
