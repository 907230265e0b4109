"""The machines that workers run on: how evaluations end there, which ones are set aside, and who forgives them.

A host that fails one point after the other is set aside for a growing time: it would eat every point there is. A
result clears it, and so does an operator. It is never set aside, nor kept aside, while there is nobody else for the
task: then the points had better fail than wait for ever.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from gridtune_common.protocol import ForgiveHost, WorkerHost, WorkerHosts, WorkerResources
from gridtune_steering.bookkeeping import askers, circumstances, events, points, workers
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services import cursors, setting_aside
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import NotAllowed, NotFound
from gridtune_steering.services.idempotency import once
from gridtune_steering.services.retries import Place
from gridtune_steering.services.setting_aside import Miss, Streak
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.times import iso

#: The service's own hand in the audit log.
_ACTOR = "gridtune/workers"
#: A host is noted as seen no more often than this.
_SEEN_EVERY = timedelta(seconds=20)
#: How often a worker that asks is noted in the time for which it is counted on.
_NOTED_SO_OFTEN = 8
#: Listings show what was seen in this time, and no worker is remembered for longer.
LATELY = timedelta(hours=1)
#: A host that was not seen for so long is forgotten.
_FORGOTTEN_AFTER = timedelta(days=30)
#: A host that comes back from being set aside has one try; its other workers ask again after so many seconds.
_ONE_AT_A_TIME = 15.0
#: The longest that a worker is told to stay away, in seconds: its host may be forgiven meanwhile, or its task end.
_LONGEST_REST = 30.0
_REASON_LIMIT = 500


def patience(steering: Steering) -> timedelta:
    """Who has not asked for so long is not counted on, and no point waits longer for somewhere better."""
    return timedelta(seconds=2 * steering.settings.lease_seconds)


# --- what happens on hosts


def admit(
    steering: Steering,
    connection: Connection,
    task: str,
    worker: str,
    place: Place,
    resources: Mapping[str, Any],
    now: datetime,
    *,
    host: Record | None,
    asker: Record | None,
) -> float:
    """Note that a worker wants a point, or will soon, and what it has.

    Args:
        steering: The service's surroundings.
        connection: The transaction in which it is noted.
        task: Of which task.
        worker: Which worker.
        place: Where it runs.
        resources: What it has.
        now: The time.
        host: What is known of the place's host.
        asker: What was noted of the worker before.

    Returns:
        For how many seconds its host gets none, and then nothing was noted; 0 if it does.
    """
    rest = _rest(steering, connection, task, host, place, now)
    if rest:
        return rest
    # the host goes before its workers, in every transaction, so that none waits for another in a circle
    if host is None or now - host.last_seen_at > _SEEN_EVERY:
        workers.see(connection, place.site, place.host, now=now)
    if not _is_noted(steering, asker, place, resources, now):
        askers.note(connection, task, worker, place.site, place.host, resources=resources, now=now)
    return 0.0


def find(connection: Connection, place: Place) -> Record | None:
    """What is known of a host."""
    return workers.find(connection, place.site, place.host)


def _is_noted(
    steering: Steering, asker: Record | None, place: Place, resources: Mapping[str, Any], now: datetime
) -> bool:
    """Whether a worker's note still says what it would say now; a few seconds do not matter."""
    if asker is None or now - asker.asked_at > patience(steering) / _NOTED_SO_OFTEN:
        return False
    return (asker.site, asker.host, asker.unfit, asker.resources) == (place.site, place.host, "", resources)


def _rest(
    steering: Steering, connection: Connection, task: str, row: Record | None, place: Place, now: datetime
) -> float:
    if row is None or not row.times_set_aside:
        return 0.0
    if row.set_aside_until is not None and row.set_aside_until > now:
        left = min((row.set_aside_until - now).total_seconds(), _LONGEST_REST)
    else:
        left = _ONE_AT_A_TIME if circumstances.runs_at(connection, place.site, place.host) else 0.0
    return left if left and _has_others(steering, connection, task, place, now) else 0.0


def note_done(connection: Connection, evaluation: Record, now: datetime) -> None:
    """A result clears its host."""
    place = Place.of(evaluation)
    if workers.count_done(connection, place.site, place.host, now=now):
        return
    row = workers.take(connection, place.site, place.host, now=now)
    _clear(connection, row, done=row.done + 1)
    if row.times_set_aside:
        _note_return(connection, row, now, actor=_ACTOR, reason="brought a result")


def note_failed(steering: Steering, connection: Connection, evaluation: Record, words: str, now: datetime) -> None:
    """A failure counts against its host, which may be set aside for it."""
    place = Place.of(evaluation)
    row = workers.take(connection, place.site, place.host, now=now)
    streak = Streak.read(row.streak).with_miss(Miss(evaluation.task_id, evaluation.point, now))
    values = {
        "failed": row.failed + 1,
        "failures_in_a_row": row.failures_in_a_row + 1,
        "streak": streak.write(),
    }
    workers.update(connection, place.site, place.host, **values)
    is_aside = row.set_aside_until is not None and row.set_aside_until > now
    if is_aside or not setting_aside.is_suspect(streak, row.times_set_aside):
        return
    if _is_to_blame(steering, connection, evaluation.task_id, place, now):
        _set_aside(connection, evaluation, row, words, now)


def note_permanent(connection: Connection, evaluation: Record, now: datetime) -> None:
    """A failure that would have come anywhere is counted, and says nothing against its host."""
    place = Place.of(evaluation)
    row = workers.take(connection, place.site, place.host, now=now)
    workers.update(connection, place.site, place.host, failed=row.failed + 1)


def note_lost(connection: Connection, lost: Sequence[Record]) -> None:
    """Lost evaluations are counted, and nothing more: hosts that are gone do not eat points."""
    counts = Counter(map(Place.of, lost))
    for place, n in sorted(counts.items(), key=lambda entry: (entry[0].site, entry[0].host)):
        workers.add_lost(connection, place.site, place.host, n)
    for row in lost:
        askers.forget(connection, row.task_id, row.worker)


def note_found(connection: Connection, place: Place) -> None:
    """A worker was not lost after all."""
    workers.add_lost(connection, place.site, place.host, -1)


def clear_blamed(connection: Connection, task: str, now: datetime) -> None:
    """Take hosts back that were set aside for a task which turned out to fail everywhere."""
    for row in workers.blamed_for(connection, task):
        _clear(connection, row)
        _note_return(connection, row, now, actor=_ACTOR, reason=f"task {task} fails everywhere")


def others(steering: Steering, connection: Connection, task: str, now: datetime) -> list[Place]:
    """From where somebody asked lately for points of a task."""
    rows = askers.places(connection, task, since=now - patience(steering))
    return [Place(row.site, row.host) for row in rows]


def is_alone(steering: Steering, connection: Connection, task: str, place: Place, now: datetime) -> bool:
    """Whether a task has no other host that asked lately or evaluates something."""
    return not _has_others(steering, connection, task, place, now)


def forget_old(steering: Steering, connection: Connection, now: datetime) -> None:
    """Drop what nobody needs any more."""
    askers.forget_before(connection, now - max(LATELY, patience(steering)))
    workers.forget_before(connection, now - _FORGOTTEN_AFTER)


def _has_others(steering: Steering, connection: Connection, task: str, place: Place, now: datetime) -> bool:
    if any(other != place for other in others(steering, connection, task, now)):
        return True
    return circumstances.runs_elsewhere(connection, task, place.site, place.host)


def _is_to_blame(steering: Steering, connection: Connection, task: str, place: Place, now: datetime) -> bool:
    """Whether it is rather the host than the points: others are there, and this one alone has brought nothing."""
    if is_alone(steering, connection, task, place, now):
        return False
    return circumstances.succeeded_elsewhere(connection, task, place.site, place.host) or not points.any_done(
        connection, task
    )


def _set_aside(connection: Connection, evaluation: Record, row: Record, words: str, now: datetime) -> None:
    length = setting_aside.length(row.times_set_aside)
    n_failures = row.failures_in_a_row + 1
    reason = f"{n_failures} failures in a row here, the last: {words}"[:_REASON_LIMIT]
    until = now + length
    workers.update(
        connection,
        row.site,
        row.host,
        times_set_aside=row.times_set_aside + 1,
        set_aside_until=until,
        reason=reason,
        blamed_task=evaluation.task_id,
    )
    askers.forget_host(connection, row.site, row.host)
    details = {"site": row.site, "host": row.host, "until": iso(until), "reason": reason}
    _note(connection, "worker.set_aside", now, actor=_ACTOR, task=evaluation.task_id, details=details)


def _clear(connection: Connection, row: Record, **values: Any) -> None:
    cleared = {
        "failures_in_a_row": 0,
        "streak": [],
        "times_set_aside": 0,
        "set_aside_until": None,
        "reason": "",
        "blamed_task": None,
    }
    workers.update(connection, row.site, row.host, **cleared, **values)


def _note_return(connection: Connection, row: Record, now: datetime, *, actor: str, reason: str) -> None:
    details = {"site": row.site, "host": row.host, "reason": reason}
    _note(connection, "worker.taken_back", now, actor=actor, task=row.blamed_task, details=details)


def _note(
    connection: Connection, kind: str, now: datetime, *, actor: str, task: str | None, details: dict[str, Any]
) -> None:
    events.add(connection, at=now, actor=actor, kind=kind, task=task, details=details)


# --- what operators see and do


def listing(steering: Steering, caller: Caller, *, everything: bool, after: str | None, limit: int) -> WorkerHosts:
    """One page of the hosts that were seen lately, or of all that are remembered, by site and name.

    Raises:
        NotAllowed: The caller is no operator.
        Unusable: The cursor is none of ours.
    """
    _refuse_users(caller)
    now = steering.clock()
    seen_since = None if everything else now - LATELY
    start = cursors.pair(after) if after is not None else None
    with steering.database.read() as connection:
        presence = _Presence(steering, connection, now)
        rows = workers.page(connection, seen_since=seen_since, after=start, limit=limit + 1)
    items = [presence.host(row) for row in rows[:limit]]
    last = cursors.encode_pair(items[-1].site, items[-1].host) if len(rows) > limit else None
    return WorkerHosts(items, next=last)


def forgive(steering: Steering, caller: Caller, message: ForgiveHost) -> WorkerHosts:
    """Give a host points again, whatever failed there.

    Raises:
        NotAllowed: The caller is no operator.
        NotFound: No such host.
    """
    _refuse_users(caller)
    now = steering.clock()
    with steering.database.write() as connection:

        def effect() -> WorkerHosts:
            rows = workers.named(connection, message.host, message.site)
            if not rows:
                raise NotFound("host", message.host)
            for row in rows:
                _clear(connection, row)
                _note_return(connection, row, now, actor=caller.user, reason=f"forgiven by {caller.user}")
            presence = _Presence(steering, connection, now)
            return WorkerHosts([presence.host(row) for row in workers.named(connection, message.host, message.site)])

        return once(connection, caller, "forgive host", message, WorkerHosts, effect, now=now)


def _refuse_users(caller: Caller) -> None:
    if not caller.sees_all:
        raise NotAllowed("workers of all users are for operators to see")


class _Presence:
    """Who is at work where: what asks and leases tell beyond the counters of hosts."""

    def __init__(self, steering: Steering, connection: Connection, now: datetime) -> None:
        lease = timedelta(seconds=steering.settings.lease_seconds)
        running = circumstances.running(connection)
        self._now = now
        self._workers: dict[Place, set[str]] = defaultdict(set)
        self._tasks: dict[Place, set[str]] = defaultdict(set)
        self._seen: dict[Place, datetime] = {}
        self._resources: dict[Place, list[WorkerResources]] = defaultdict(list)
        lately = askers.since(connection, now - max(LATELY, patience(steering)))
        wanting = [row for row in lately if not row.unfit and row.asked_at > now - patience(steering)]
        self._add(wanting, lambda row: row.asked_at)
        self._add(running, lambda row: row.lease_expires_at - lease)
        for row in [*lately, *running]:
            self._add_resources(Place.of(row), WorkerResources(**row.resources))

    def _add_resources(self, place: Place, resources: WorkerResources) -> None:
        if resources != WorkerResources() and resources not in self._resources[place]:
            self._resources[place].append(resources)

    def _add(self, rows: Sequence[Record], seen_at: Any) -> None:
        for row in rows:
            place = Place.of(row)
            self._workers[place].add(row.worker)
            self._tasks[place].add(row.task_id)
            self._seen[place] = max(seen_at(row), self._seen.get(place, seen_at(row)))

    def host(self, row: Record) -> WorkerHost:
        """A host as operators see it."""
        place = Place(row.site, row.host)
        is_aside = row.set_aside_until is not None and row.set_aside_until > self._now
        return WorkerHost(
            site=row.site,
            host=row.host,
            last_seen_at=iso(max(row.last_seen_at, self._seen.get(place, row.last_seen_at))),
            workers=len(self._workers.get(place, ())),
            tasks=sorted(self._tasks.get(place, ())),
            done=row.done,
            failed=row.failed,
            lost=row.lost,
            failures_in_a_row=row.failures_in_a_row,
            set_aside_until=iso(row.set_aside_until) if is_aside else None,
            reason=row.reason if is_aside else "",
            resources=self._resources.get(place, []),
        )
