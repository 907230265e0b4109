"""Keeping object storage clean: what nobody needs any more is doomed, and deleted after its time of grace.

Bookkeeping comes first and last: an object is marked, deleted from the store, and only then forgotten. Whatever is
killed in between, the next round goes on there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeVar

from gridtune_steering.bookkeeping import events, objects, outputs
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services import turns
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.storage import PREFIX

T = TypeVar("T")

_COLLECTING, _SEARCHING = "collecting", "searching"
#: How often the bookkeeping is looked through, and how often the whole store.
_COLLECT_EVERY = timedelta(minutes=1)
_SEARCH_EVERY = timedelta(hours=6)
_BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a round did: how many objects it doomed and deleted, and how many in the store nobody knew."""

    doomed: int = 0
    deleted: int = 0
    strays: int = 0


def do_duty(steering: Steering, host: str) -> Collected | None:
    """Collect if it is time for it and this host's turn; None if not.

    Raises:
        StoreAway: The store does not answer; the next round goes on.
    """
    found = None
    if turns.take(steering, _COLLECTING, host, _COLLECT_EVERY):
        found = collect(steering)
    if turns.take(steering, _SEARCHING, host, _SEARCH_EVERY):
        strays = search(steering)
        found = Collected(doomed=found.doomed if found else 0, deleted=found.deleted if found else 0, strays=strays)
    return found


def collect(steering: Steering) -> Collected:
    """Doom what is not needed any more, and delete what has been doomed long enough.

    Raises:
        StoreAway: The store does not answer.
    """
    doomed = _doom(steering)
    deleted = 0
    with steering.database.write() as connection:
        outputs.forget_ended(connection)
    while due := _due(steering):
        _delete(steering, due)
        deleted += len(due)
    return Collected(doomed=doomed, deleted=deleted)


def _doom(steering: Steering) -> int:
    now, settings = steering.clock(), steering.settings
    long_ago = now - timedelta(seconds=settings.storage_abandon_seconds)
    grace = timedelta(seconds=settings.storage_grace_seconds)
    with steering.database.write() as connection:
        return (
            objects.doom_finished_points(connection, at=now + timedelta(seconds=settings.storage_keep_seconds))
            + objects.doom_abandoned(connection, begun_before=long_ago, at=now)
            + objects.doom_of_deleted_tasks(connection, at=now + grace)
        )


def _due(steering: Steering) -> Sequence[Record]:
    with steering.database.read() as connection:
        return objects.due(connection, now=steering.clock(), limit=_BATCH)


def _delete(steering: Steering, due: Sequence[Record]) -> None:
    for row in due:
        if row.committed_at is None:
            steering.store.abandon(row.key, row.upload)
    steering.store.delete([row.key for row in due])  # also of uploads: it may have been finished but not committed
    with steering.database.write() as connection:
        objects.delete(connection, [row.id for row in due])


def search(steering: Steering) -> int:
    """Delete from the store what the bookkeeping does not know: left by a process that was killed in between.

    Only of tasks of this database: the store may have been given to another service by mistake, or the database may be
    older than what is stored.

    Raises:
        StoreAway: The store does not answer.
    """
    before = steering.clock() - timedelta(seconds=steering.settings.storage_abandon_seconds)
    store = steering.store
    strays = 0
    for batch in _batches(found for found in store.listing(PREFIX) if found.modified_at < before):
        unknown = _unknown(steering, [found.key for found in batch])
        store.delete(unknown)
        strays += len(unknown)
    for uploads in _batches(found for found in store.unfinished(PREFIX) if found.begun_at < before):
        unknown = _unknown(steering, [found.key for found in uploads])
        for found in uploads:
            if found.key in unknown:
                store.abandon(found.key, found.upload)
                strays += 1
    return strays


def _unknown(steering: Steering, keys: Sequence[str]) -> list[str]:
    tasks = {key: key.removeprefix(PREFIX).partition("/")[0] for key in keys}
    with steering.database.read() as connection:
        known = objects.known_keys(connection, keys)
        ours = {task for task in set(tasks.values()) if events.tells_of(connection, task)}
    return [key for key in keys if key not in known and tasks[key] in ours]


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
