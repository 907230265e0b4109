"""Whose turn it is to do what one optimizer host does for all, now and then."""

from __future__ import annotations

from datetime import timedelta

from gridtune_steering.bookkeeping import duties
from gridtune_steering.services.steering import Steering

#: For how long a host that takes a duty has it to itself.
_DUTY_TIME = timedelta(minutes=10)


def take(steering: Steering, duty: str, host: str, every: timedelta) -> bool:
    """Take a duty for this host, if it is time for it and nobody else has it."""
    now = steering.clock()
    with steering.database.read() as connection:
        last = duties.last_run(connection, duty)
    if last is not None and now - last < every:
        return False
    with steering.database.write() as connection:
        before = duties.take(connection, duty, host, now=now, until=now + _DUTY_TIME)
    return before is not None and (before.last_run_at is None or now - before.last_run_at >= every)
