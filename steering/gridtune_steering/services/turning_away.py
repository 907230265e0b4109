"""Workers that do not fit a task: they get no point of it, and if no other worker is there, its owner is told why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy.engine import Connection

from gridtune_common.protocol import Ask
from gridtune_steering.bookkeeping import askers, circumstances, events, tasks, workers
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.matching import Needs, misfits
from gridtune_steering.services.retries import Place
from gridtune_steering.services.workers import LATELY

#: The service's own hand in the audit log.
_ACTOR = "gridtune/workers"
#: So many different reasons are told.
_MOST_REASONS = 3
_REASON_LIMIT = 500


def turn_away(connection: Connection, task: Record, message: Ask, now: datetime) -> str:
    """Note a worker that does not fit a task, and in the task's log if it fits nobody from now on.

    Returns:
        Why it does not fit; empty if it does, and then nothing was noted.
    """
    reasons = misfits(Needs.of(task.document), message.resources, site=message.site, host=message.host)
    if not reasons:
        return ""
    why = " and ".join(reasons)[:_REASON_LIMIT]
    known_before = fits_nobody(connection, task.id, now)
    if not known_before:
        tasks.find_for_update(connection, task.id)  # of two workers that come at once, one alone is the first
        known_before = fits_nobody(connection, task.id, now)
    place = Place.of(message)
    workers.see(connection, place.site, place.host, now=now)
    has = asdict(message.resources)
    askers.note(connection, task.id, message.worker, place.site, place.host, resources=has, unfit=why, now=now)
    if not known_before and (reason := fits_nobody(connection, task.id, now)):
        details = {"reason": reason}
        events.add(connection, at=now, actor=_ACTOR, kind="task.fits_nobody", task=task.id, details=details)
    return why


def fits_nobody(connection: Connection, task: str, now: datetime) -> str:
    """Why a task fits no worker that was seen lately; empty if it fits one, or if none was seen."""
    since = now - LATELY
    reasons = askers.unfit(connection, task, since=since)
    if not reasons or askers.any_fit(connection, task, since=since):
        return ""
    return "" if circumstances.ran_since(connection, task, since) else _in_words(reasons)


def _in_words(reasons: Sequence[Record]) -> str:
    n_workers = sum(row.n for row in reasons)
    who = "the one worker" if n_workers == 1 else f"none of the {n_workers} workers"
    verb = "does not fit" if n_workers == 1 else "fits"
    told = [row.unfit if len(reasons) == 1 else f"{row.unfit} ({_workers(row.n)})" for row in reasons[:_MOST_REASONS]]
    rest = sum(row.n for row in reasons[_MOST_REASONS:])
    others = [f"other reasons ({_workers(rest)})"] if rest else []
    return f"{who} seen in the last hour {verb}: {'; '.join([*told, *others])}"


def _workers(n: int) -> str:
    return "1 worker" if n == 1 else f"{n} workers"
