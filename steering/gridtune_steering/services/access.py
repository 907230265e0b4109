"""Who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Connection

from gridtune_common.protocol import Scope
from gridtune_steering.bookkeeping import archives, tasks
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.errors import NotFound, TaskArchived
from gridtune_steering.services.times import iso


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request: a user, by a token of some scope."""

    user: str
    scope: Scope
    token: str
    task: str | None = None
    expires_at: datetime | None = None

    @property
    def sees_all(self) -> bool:
        """Whether other users' tasks are visible."""
        return self.scope is Scope.OPERATOR

    def may_see(self, task: Record) -> bool:
        """Whether the task is visible."""
        if self.scope is Scope.TASK:
            return bool(self.task == task.id)
        return self.sees_all or bool(self.user == task.owner)


def visible_task(connection: Connection, caller: Caller, task: str) -> Record:
    """The task with this id, if the caller may see it. Names are looked up in listings: they are not unique.

    Raises:
        NotFound: There is none, or it is somebody else's.
        TaskArchived: It is in the archive.
    """
    return seen(connection, caller, task, tasks.find(connection, task))


def owned_task(connection: Connection, caller: Caller, task: str) -> Record:
    """Like `visible_task`, for changing it: locked until the transaction ends.

    Raises:
        NotFound: There is none, or it is somebody else's.
        TaskArchived: It is in the archive.
    """
    return seen(connection, caller, task, tasks.find_for_update(connection, task))


def seen(connection: Connection, caller: Caller, task: str, row: Record | None) -> Record:
    """The row of a task that was looked up already, or not found, if the caller may see it.

    Raises:
        NotFound: There is none, or it is somebody else's.
        TaskArchived: It is in the archive.
    """
    archived = archives.find(connection, task) if row is None else None
    found = archived if row is None else row
    if found is None or not caller.may_see(found):
        raise NotFound("task", task)
    if row is None:
        raise TaskArchived(task, iso(found.archived_at))
    return row
