"""The campaigns that a host holds in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from gridtune_steering.campaign import Campaign
from gridtune_steering.services import hosting
from gridtune_steering.services.owning import Ownership, OwnershipLost
from gridtune_steering.services.steering import Steering


class OptimizerBroken(Exception):  # noqa: N818 - named for the fact
    """The task's optimizer raised; the task cannot go on before somebody has looked at it."""


@dataclass(slots=True)
class _Live:
    """A campaign, when it was wanted last, and the seconds of thought that no snapshot holds yet."""

    campaign: Campaign
    algorithm: str
    used_at: float = field(default_factory=time.monotonic)
    unkept: float = 0.0


class LiveCampaigns:
    """Campaigns by task: rebuilt when they are wanted, dropped when nobody has wanted them for a while."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._live: dict[str, _Live] = {}
        self._ends: dict[str, float] = {}  # when a task's time is over; known also of campaigns that were dropped
        self.is_rebuilding = False

    @contextmanager
    def thinking(self, ownership: Ownership, elapsed: float) -> Iterator[Campaign]:
        """The campaign of a task, to think about; what the optimizer raises is its fault.

        Args:
            ownership: The hold on the task.
            elapsed: For how many seconds the task has run.

        Raises:
            OwnershipLost: The task is not this host's any more.
            OptimizerBroken: The optimizer raised.
        """
        started = time.monotonic()
        with _blaming_the_optimizer():
            live = self._live.get(ownership.task) or self._rebuild(ownership)
            yield live.campaign
        live.used_at = time.monotonic()
        live.unkept += live.used_at - started
        if (limit := live.campaign.wall_time_seconds) is not None:
            self._ends[ownership.task] = live.used_at + limit - elapsed

    def _rebuild(self, ownership: Ownership) -> _Live:
        self.is_rebuilding = True
        try:
            live = self._live[ownership.task] = _Live(
                hosting.load(self._steering, ownership), hosting.algorithm_of(self._steering, ownership.task)
            )
        finally:
            self.is_rebuilding = False
        return live

    def keep_snapshot(self, ownership: Ownership, *, unless_below: float) -> None:
        """Keep the optimizer's state, if making its points since the last time took more than so many seconds.

        Raises:
            OwnershipLost: The task is not this host's any more.
        """
        live = self._live.get(ownership.task)
        if live is None or live.unkept <= unless_below:
            return
        live.unkept = 0.0
        if (snapshot := live.campaign.snapshot()) is not None:
            hosting.keep(self._steering, ownership, snapshot)

    def algorithm_of(self, task: str) -> str:
        """What a task whose campaign is here calls its optimizer."""
        return self._live[task].algorithm

    def overdue(self) -> set[str]:
        """The tasks whose time is over."""
        now = time.monotonic()
        return {task for task, end in self._ends.items() if end <= now}

    def idle(self, seconds: float) -> list[str]:
        """The tasks whose campaigns nobody has wanted for so long."""
        before = time.monotonic() - seconds
        return [task for task, live in self._live.items() if live.used_at < before]

    def drop(self, task: str) -> None:
        """Drop a campaign, to be rebuilt from what is written down when it is wanted."""
        self._live.pop(task, None)

    def forget(self, task: str) -> None:
        """Drop all that is known of a task, which is not this host's any more."""
        self._live.pop(task, None)
        self._ends.pop(task, None)

    def __contains__(self, task: object) -> bool:
        return task in self._live


@contextmanager
def _blaming_the_optimizer() -> Iterator[None]:
    """Tell what an optimizer library raises from this service's own errors."""
    try:
        yield
    except (OwnershipLost, SQLAlchemyError):
        raise
    except Exception as error:  # a library can raise anything, and its task alone shall suffer
        raise OptimizerBroken(f"the optimizer failed: {type(error).__name__}: {error}") from error
