"""The duties of optimizer hosts: return lost points and clear what is out of date. One host does them for all."""

from __future__ import annotations

from datetime import timedelta

from gridtune_steering.bookkeeping import duties, hosts, points, requests
from gridtune_steering.services import leases, workers
from gridtune_steering.services.steering import Steering

_REAPING, _SERVING = "reaping", "serving"
#: When web processes or the reaper were silent for so long, they were away.
_LONGEST_GAP = timedelta(seconds=5)
#: Hosts that were not seen for so long are forgotten.
_FORGOTTEN_AFTER = timedelta(hours=1)


def note_presence(steering: Steering) -> None:
    """A web process says that agents can reach it."""
    now = steering.clock()
    with steering.database.write() as connection:
        duties.take(connection, _SERVING, "any", now=now, until=now)


def do_duties(steering: Steering, host: str) -> None:
    """Return lost points and clear what is out of date, if this host holds the duty.

    When nobody was there to hear them, or to notice, silent agents are not lost: they first get a whole lease to say
    that they are alive.
    """
    now = steering.clock()
    lease = timedelta(seconds=steering.settings.lease_seconds)
    with steering.database.write() as connection:
        duty = duties.take(connection, _REAPING, host, now=now, until=now + 2 * _LONGEST_GAP)
        if duty is None:
            return
        heard = duties.last_run(connection, _SERVING)
        was_away = any(last is None or now - last > _LONGEST_GAP for last in (duty.last_run_at, heard))
        if was_away:
            duties.suspend(connection, _REAPING, until=now + lease)
        points.forget_waiting_before(connection, now)
        workers.forget_old(steering, connection, now)
        hosts.forget_before(connection, now - _FORGOTTEN_AFTER)
        requests.forget_before(connection, now - timedelta(seconds=steering.settings.request_memory_seconds))
        is_suspended = was_away or (duty.suspended_until is not None and duty.suspended_until > now)
    if not is_suspended:
        leases.reap(steering, at=now)  # not at this moment: the database may have stood still, and nobody was heard
