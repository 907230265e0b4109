"""What is true of the whole service now, for operators; asked as often as they like, read from the database seldom."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from gridtune_common.protocol import TaskState
from gridtune_steering.bookkeeping import census
from gridtune_steering.metrics.state import State
from gridtune_steering.services.steering import Steering

#: How old an answer may be, and how old the size of the storage in it, which takes longer to find out.
_FRESH, _FRESH_SIZE = timedelta(seconds=5), timedelta(seconds=60)


class Census:
    """Takes the service's census, and remembers it for a few seconds. Safe to share between threads."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._lock = threading.Lock()
        self._taken: tuple[datetime, State] | None = None
        self._measured: tuple[datetime, int] | None = None

    def take(self) -> State:
        """The state as it is, or was a few seconds ago.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database does not answer.
        """
        now = self._steering.clock()
        with self._lock:  # who comes meanwhile gets the same answer
            if self._taken is None or not now - _FRESH < self._taken[0] <= now:
                with self._steering.database.read() as connection:
                    self._taken = now, self._count(connection, now)
            return self._taken[1]

    def _count(self, connection: Connection, now: datetime) -> State:
        tasks = census.tasks_by_state(connection)
        n_ready, ready_since = census.ready(connection)
        return State(
            tasks={state.value: tasks.get(state.value, 0) for state in TaskState},
            running=census.running_by_site(connection),
            waiting=census.n_waiting(connection, now=now),
            ready=n_ready,
            oldest_ready_seconds=_age(ready_since, now),
            oldest_unlearnt_seconds=_age(census.oldest_unlearnt(connection), now),
            stored_bytes=self._stored_bytes(connection, now),
        )

    def _stored_bytes(self, connection: Connection, now: datetime) -> int:
        if self._measured is None or not now - _FRESH_SIZE < self._measured[0] <= now:
            self._measured = now, census.stored_bytes(connection)
        return self._measured[1]


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
