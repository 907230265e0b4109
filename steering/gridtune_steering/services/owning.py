"""Which optimizer host owns which task.

A host owns a task for as long as it renews its lease and nobody takes the task away; the task's epoch counts its owners
and fences off those who lost it. Taking a task is a strike against it, taken back when the host has got one round of it
done: a task whose optimizer takes its hosts down, one after the other, is paused instead of being handed on for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gridtune_common import __version__
from gridtune_common.protocol import TaskState
from gridtune_steering.bookkeeping import hosts, tasks
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.metrics import instruments
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.tasks import pause

#: The hosts' hand in the audit log.
ACTOR = "gridtune/host"
#: Tasks that a host takes over in one go, so that several hosts share them.
_CLAIM_LIMIT = 10
#: A host does not renew a lease on a task of which so much is left.
_NEARLY_WHOLE = 0.75
#: So many hosts in a row may get nothing done of a task.
_MOST_STRIKES = 3


class OwnershipLost(Exception):  # noqa: N818 - named for the fact
    """The task belongs to another host by now, or to none; nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """A host's hold on a task: good as long as the database knows the same epoch."""

    task: str
    host: str
    epoch: int


def owned(row: Record | None, ownership: Ownership) -> Record:
    """The task's row.

    Raises:
        OwnershipLost: The task is not this host's any more.
    """
    if (
        row is None
        or row.host != ownership.host
        or row.host_epoch != ownership.epoch
        or row.state != TaskState.RUNNING.value
    ):
        raise OwnershipLost(ownership.task)
    return row


def any_orphans(steering: Steering) -> bool:
    """Whether there are running tasks that no live host owns."""
    with steering.database.read() as connection:
        return hosts.has_orphans(connection, now=steering.clock())


def claim(steering: Steering, host: str) -> list[Ownership]:
    """Take over running tasks that no live host owns.

    One that others have failed with is taken alone: it takes nothing else down with its host.
    """
    now = steering.clock()
    until = now + timedelta(seconds=steering.settings.host_lease_seconds)
    with steering.database.write() as connection:
        found = hosts.orphans(connection, now=now, limit=_CLAIM_LIMIT)
        poisoned = [row for row in found if row.strikes >= _MOST_STRIKES]
        for row in poisoned:
            pause(connection, row, _why(row), actor=ACTOR, now=now, stopped_by="optimizer")
        untried = [row.id for row in found if not row.strikes]
        suspects = [row.id for row in found if 0 < row.strikes < _MOST_STRIKES]
        claimed = hosts.own(connection, host, untried or suspects[:1], until=until)
    instruments.TASK_CLAIMS.inc(len(claimed))
    for row in poisoned:
        steering.bell.ring_askers(row.id)
    return [Ownership(task=row.id, host=host, epoch=row.host_epoch) for row in claimed]


def _why(row: Record) -> str:
    known = f": {row.trouble}" if row.trouble else ""
    return f"{row.strikes} optimizer hosts in a row ended while they worked on this task{known}"


def settle(steering: Steering, ownership: Ownership) -> None:
    """A round of the task was done: there is nothing wrong with it."""
    with steering.database.write() as connection:
        row = tasks.find_for_update(connection, ownership.task)
        if row is not None and row.host_epoch == ownership.epoch and row.strikes:
            tasks.update(connection, ownership.task, strikes=0, trouble="")


def accuse(steering: Steering, ownership: Ownership, trouble: str) -> None:
    """A task is about to take its host down, and why."""
    with steering.database.write() as connection:
        row = tasks.find_for_update(connection, ownership.task)
        if row is not None and row.host_epoch == ownership.epoch:
            tasks.update(connection, ownership.task, strikes=max(row.strikes, 1), trouble=trouble)


def renew(steering: Steering, host: str, names: Sequence[str], *, load: float = 0.0) -> None:
    """Keep the tasks that a host knows to be its own, and let the other hosts know how busy it is.

    Leases that are nearly whole stay as they are: to write each second for each task is what costs most when there are
    many. One that it does not know of, for the connection broke when it took the task over, becomes free in time.
    """
    now, lease = steering.clock(), timedelta(seconds=steering.settings.host_lease_seconds)
    with steering.database.write() as connection:
        hosts.see(connection, host, version=__version__, load=load, now=now)
        hosts.renew(connection, host, names, until=now + lease, due=now + _NEARLY_WHOLE * lease)


def n_at_work(steering: Steering, machine: str) -> int:
    """How many hosts of one machine, by its name, have signed in within the time of their leases."""
    lease = timedelta(seconds=steering.settings.host_lease_seconds)
    with steering.database.read() as connection:
        seen = hosts.seen_since(connection, steering.clock() - lease)
    return sum(host.name.startswith(f"{machine}/") for host in seen)


def loads_of_others(steering: Steering, host: str) -> list[float]:
    """How busy the other hosts are that were seen lately."""
    now = steering.clock()
    with steering.database.read() as connection:
        seen = hosts.seen_since(connection, now - timedelta(seconds=steering.settings.host_lease_seconds / 2))
    return [row.load for row in seen if row.name != host]


def wanting(steering: Steering, host: str) -> set[str]:
    """Of a host's tasks, those with results to learn, or with workers that wait for a point that may still be made."""
    with steering.database.read() as connection:
        return set(hosts.wanting(connection, host, now=steering.clock()))


def give_up(steering: Steering, host: str, names: list[str]) -> None:
    """Leave some tasks of a host to others, at once."""
    with steering.database.write() as connection:
        hosts.give_up(connection, host, names)
    for name in names:
        steering.bell.ring_hosts(name)


def leave(steering: Steering, host: str) -> None:
    """Leave all tasks of a host to others, at once."""
    with steering.database.write() as connection:
        hosts.give_up_all(connection, host)
        hosts.forget(connection, host)
    steering.bell.ring_hosts("")  # whoever hears it looks for orphans
