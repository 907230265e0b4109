"""Checkpoints and logs of evaluations: begin, commit, fetch, report damage, and how much there is.

The rules, for whoever changes them:

* nothing talks to the object store inside a transaction: a slow store must not hold the database;
* a checkpoint is committed under its point's lock by who holds the point's lease, so that a worker that was given up
  can never put its own in front of a newer one; its key carries the evaluation, so it cannot overwrite one either;
* signed addresses are made for each answer and kept nowhere;
* what is committed is handed out; what is doomed is not, and is deleted when its time has come;
* a delta is worth nothing without its base: the base is kept as long as the delta, and goes with no delta left behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from gridtune_common.errors import Flaw
from gridtune_common.protocol import (
    ArchiveFormat,
    BeginUpload,
    CommitUpload,
    Download,
    EvaluationState,
    ObjectKind,
    Outcome,
    ReportDamage,
    Storage,
    StorageUse,
    StoredObject,
    Upload,
)
from gridtune_common.units import show_bytes
from gridtune_steering.bookkeeping import evaluations, objects
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.identity.secrets import new_id
from gridtune_steering.objectstore.port import ObjectStore, UploadIncomplete
from gridtune_steering.services import checkpoints, leases
from gridtune_steering.services import evaluations as life
from gridtune_steering.services.access import Caller, visible_task
from gridtune_steering.services.errors import Conflict, NotFound, QuotaExceeded, SteeringError, Unusable
from gridtune_steering.services.idempotency import once
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.times import iso

#: Objects up to this size travel in one part, larger ones in parts of at least this size.
_PART_SIZE = 32 * 2**20
#: Parts of one object, at most; larger objects have larger parts.
_MOST_PARTS = 1000
#: The largest object.
_MOST_BYTES = 5 * 2**40
_FORMATS = {
    ObjectKind.CHECKPOINT: tuple(form.value for form in ArchiveFormat),
    ObjectKind.LOG: ("gz",),
}
_DELTAS = tuple(form.value for form in ArchiveFormat if form.is_delta)
#: Where everything lies in the store.
PREFIX = "tasks/"


@dataclass(frozen=True)
class _Begun:
    """What is kept of the answer to a begun upload: its addresses are made anew each time."""

    object: str


def begin(steering: Steering, caller: Caller, evaluation: str, message: BeginUpload) -> Upload:
    """Take note of an upload, and say where its parts go.

    Raises:
        NotFound: No such evaluation.
        Unusable: Size, checksum or format make no sense.
        Conflict: The evaluation does not hold its point (any more), or the base is not kept (any more).
        QuotaExceeded: The task or its owner has too much stored.
    """
    _check(message)
    now = steering.clock()
    with steering.database.read() as connection:
        row = _visible_evaluation(connection, caller, evaluation)
        _check_right(connection, row, message)
    id_ = new_id(16)
    key = f"{PREFIX}{row.task_id}/{row.point}/{evaluation}/{id_}"
    part_size = _part_size(message.size, steering.store)
    upload = steering.store.begin(key, message.size, len(_sizes(message.size, part_size)))
    try:
        begun = _note(steering, caller, evaluation, message, id_, key, part_size, upload, now)
    except SteeringError:
        steering.store.abandon(key, upload)
        raise
    if begun.object != id_:  # the same request had been answered before
        steering.store.abandon(key, upload)
    return addresses(steering, caller, evaluation, begun.object)


def _note(
    steering: Steering,
    caller: Caller,
    evaluation: str,
    message: BeginUpload,
    id_: str,
    key: str,
    part_size: int,
    upload: str,
    now: datetime,
) -> _Begun:
    with steering.database.write() as connection:
        row, task = life.visible(connection, caller, evaluation)

        def effect() -> _Begun:
            _check_right(connection, row, message)
            objects.doom_pending(connection, evaluation, message.kind, at=now)
            _check_quota(steering, connection, task, message.size)
            objects.insert(
                connection,
                id=id_,
                kind=message.kind.value,
                task_id=task.id,
                owner=task.owner,
                point=row.point,
                evaluation_id=evaluation,
                key=key,
                upload=upload,
                part_size=part_size,
                size=message.size,
                sha256=message.sha256,
                format=message.format,
                step=message.step,
                interrupted=message.interrupted,
                base_id=message.base,
                created_at=now,
                doom="",
            )
            return _Begun(id_)

        return once(connection, caller, f"begin upload {evaluation}", message, _Begun, effect, now=now)


def addresses(steering: Steering, caller: Caller, evaluation: str, object_: str) -> Upload:
    """Where the parts of an upload go, with fresh signatures.

    Raises:
        NotFound: No such evaluation, or no such upload of it.
    """
    with steering.database.read() as connection:
        row = _own_object(connection, caller, evaluation, object_)
    lifetime = timedelta(seconds=steering.settings.address_seconds)
    sizes = _sizes(row.size, row.part_size)
    return Upload(
        id=row.id,
        urls=steering.store.part_urls(row.key, row.upload, sizes, lifetime),
        part_size=row.part_size,
        expires_seconds=lifetime.total_seconds(),
    )


def commit(steering: Steering, caller: Caller, evaluation: str, object_: str, message: CommitUpload) -> Outcome:
    """Make an upload an object. A checkpoint needs its point's lease, and renews it; older ones are given up.

    Raises:
        NotFound: No such evaluation, or no such upload of it.
        Conflict: Parts are missing.
    """
    now = steering.clock()
    with steering.database.read() as connection:
        found = _own_object(connection, caller, evaluation, object_)
    if found.committed_at is None and found.doomed_at is None:
        try:
            steering.store.finish(found.key, found.upload, _sizes(found.size, found.part_size))
        except UploadIncomplete as error:
            raise Conflict(f"the upload is not complete: {error}; send what is missing and commit again") from error
    with steering.database.write() as connection:
        row, task = life.visible(connection, caller, evaluation)

        def effect() -> Outcome:
            stored = _own_object(connection, caller, evaluation, object_)
            return _commit(steering, connection, caller, row, task, stored, message, now)

        return once(connection, caller, f"commit {object_}", message, Outcome, effect, now=now)


def _commit(
    steering: Steering,
    connection: Connection,
    caller: Caller,
    row: Record,
    task: Record,
    stored: Record,
    message: CommitUpload,
    now: datetime,
) -> Outcome:
    if stored.doomed_at is not None:
        return Outcome(False, stored.doom)
    if stored.kind == ObjectKind.LOG.value:
        objects.commit(connection, stored.id, now=now)
        return Outcome(True)
    if row.epoch != message.epoch or not leases.hold(steering, connection, caller, row, now):
        reason = f"the evaluation is {row.state}: {row.message}" if row.epoch == message.epoch else "another epoch"
        objects.doom(connection, [stored.id], at=now, why="its evaluation had lost its point")
        return Outcome(False, reason)
    if stored.base_id is not None and (flaw := checkpoints.why_no_base(connection, row, stored.base_id)) is not None:
        objects.doom(connection, [stored.id], at=now, why=f"its base is given up: {flaw}")
        return Outcome(False, flaw)
    objects.commit(connection, stored.id, now=now)
    until = now + timedelta(seconds=steering.settings.storage_grace_seconds)
    older = checkpoints.superseded(connection, task, row.point)
    objects.doom(connection, older, at=until, why="there are newer ones")
    details = {"object": stored.id, "step": stored.step, "size": stored.size, "interrupted": stored.interrupted}
    details |= {"base": stored.base_id} if stored.base_id is not None else {}
    life.note(connection, caller.user, row, "checkpoint.committed", now, **details)
    return Outcome(True)


def download(steering: Steering, caller: Caller, evaluation: str, object_: str) -> Download:
    """Where an evaluation finds a checkpoint of its point.

    Raises:
        NotFound: No such evaluation, or no such object of its point.
    """
    with steering.database.read() as connection:
        row = _visible_evaluation(connection, caller, evaluation)
        stored = objects.find(connection, object_)
    is_of_point = stored is not None and (stored.task_id, stored.point) == (row.task_id, row.point)
    if stored is None or not is_of_point or stored.committed_at is None:
        raise NotFound("object", object_)
    return _address(steering, stored)


def fetch(steering: Steering, caller: Caller, task: str, object_: str) -> Download:
    """Where a task's owner finds one of its objects.

    Raises:
        NotFound: No such task or object.
    """
    with steering.database.read() as connection:
        visible_task(connection, caller, task)
        stored = objects.find(connection, object_)
    if stored is None or stored.task_id != task or stored.committed_at is None:
        raise NotFound("object", object_)
    return _address(steering, stored)


def report_damage(steering: Steering, caller: Caller, evaluation: str, object_: str, message: ReportDamage) -> Outcome:
    """Take a checkpoint out of use that could not be restored.

    Raises:
        NotFound: No such evaluation, or no such object of its point.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row, _task = life.visible(connection, caller, evaluation)
        stored = objects.find(connection, object_)
        if stored is None or (stored.task_id, stored.point) != (row.task_id, row.point):
            raise NotFound("object", object_)

        def effect() -> Outcome:
            if row.state != EvaluationState.RUNNING.value or row.epoch != message.epoch:
                return Outcome(False, f"the evaluation is {row.state}")
            at = now + timedelta(seconds=steering.settings.storage_grace_seconds)
            objects.doom_with_deltas(connection, stored, at=at, why="it is damaged")
            detail = message.detail[: life.MESSAGE_LIMIT]
            life.note(connection, caller.user, row, "checkpoint.damaged", now, object=object_, message=detail)
            return Outcome(True)

        return once(connection, caller, f"damaged {object_}", message, Outcome, effect, now=now)


def use(steering: Steering, caller: Caller) -> Storage:
    """What is stored for the tasks that the caller may see, the largest first."""
    with steering.database.read() as connection:
        rows = objects.use_by_task(connection, owner=None if caller.sees_all else caller.user)
    items = [
        StorageUse(
            task=row.task_id,
            name=row.name or "",
            owner=row.owner,
            n_objects=row.n_objects,
            committed_bytes=int(row.committed_bytes),
            pending_bytes=int(row.pending_bytes),
            doomed_bytes=int(row.doomed_bytes),
        )
        for row in rows
    ]
    settings = steering.settings
    return Storage(items, settings.storage_task_quota or None, settings.storage_user_quota or None)


def stored_object(row: Record) -> StoredObject:
    """An object as its owner sees it."""
    return StoredObject(
        id=row.id,
        kind=ObjectKind(row.kind),
        point=row.point,
        evaluation=row.evaluation_id,
        size=row.size,
        sha256=row.sha256,
        format=row.format,
        created_at=iso(row.created_at),
        step=row.step,
        committed_at=iso(row.committed_at),
        doomed_at=iso(row.doomed_at),
        doom=row.doom,
        base=row.base_id,
    )


# --- checks


def _check(message: BeginUpload) -> None:
    flaws = []
    if not 0 <= message.size <= _MOST_BYTES:
        flaws.append(Flaw("size", f"{message.size} is no number of bytes from 0 to {_MOST_BYTES}"))
    if len(message.sha256) != 64 or not set(message.sha256) <= set("0123456789abcdef"):
        flaws.append(Flaw("sha256", "is no SHA-256 in lower-case hex"))
    if message.format not in _FORMATS[message.kind]:
        known = ", ".join(_FORMATS[message.kind])
        flaws.append(Flaw("format", f"{message.format!r} is no format of a {message.kind.value}; known are {known}"))
    if (message.base is not None) != (message.format in _DELTAS):
        flaws.append(Flaw("base", f"belongs to the formats {', '.join(_DELTAS)}, and to no other"))
    if flaws:
        raise Unusable("the upload cannot begin", flaws)


def _check_right(connection: Connection, row: Record, message: BeginUpload) -> None:
    """Logs may come after the end; checkpoints need the point, and deltas a base."""
    if row.epoch != message.epoch:
        raise Conflict(f"epoch {message.epoch} is not this evaluation's")
    alive = {EvaluationState.RUNNING.value, EvaluationState.LOST.value}  # a lost one may come back with its commit
    if message.kind is ObjectKind.CHECKPOINT and row.state not in alive:
        raise Conflict(f"the evaluation is {row.state}; its checkpoints are not needed any more")
    flaw = None if message.base is None else checkpoints.why_no_base(connection, row, message.base)
    if flaw is not None:
        raise Conflict(f"{flaw}; send a whole checkpoint")


def _check_quota(steering: Steering, connection: Connection, task: Record, size: int) -> None:
    quotas = [
        ("task", steering.settings.storage_task_quota, {"task": task.id}),
        ("user", steering.settings.storage_user_quota, {"owner": task.owner}),
    ]
    for whose, quota, scope in quotas:
        if quota and (used := objects.total_size(connection, **scope)) + size > quota:
            stored = f"{show_bytes(used)} of {show_bytes(quota)} are used"
            raise QuotaExceeded(f"{show_bytes(size)} more do not fit into the {whose}'s storage quota: {stored}")


def _part_size(size: int, store: ObjectStore) -> int:
    most = min(_MOST_PARTS, store.max_parts)
    return max(_PART_SIZE, store.min_part_size, math.ceil(size / most))


def _sizes(size: int, part_size: int) -> list[int]:
    """The sizes of an object's parts; an empty object has one empty part."""
    whole, rest = divmod(size, part_size)
    return [part_size] * whole + ([rest] if rest or not whole else [])


def _visible_evaluation(connection: Connection, caller: Caller, evaluation: str) -> Record:
    row = evaluations.find(connection, evaluation)
    if row is None:
        raise NotFound("evaluation", evaluation)
    visible_task(connection, caller, row.task_id)
    return row


def _own_object(connection: Connection, caller: Caller, evaluation: str, object_: str) -> Record:
    _visible_evaluation(connection, caller, evaluation)
    stored = objects.find(connection, object_)
    if stored is None or stored.evaluation_id != evaluation:
        raise NotFound("upload", object_)
    return stored


def _address(steering: Steering, stored: Record) -> Download:
    lifetime = timedelta(seconds=steering.settings.address_seconds)
    return Download(steering.store.download_url(stored.key, lifetime), lifetime.total_seconds())
