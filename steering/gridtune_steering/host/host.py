"""The optimizer host's loop: own tasks, learn results, make points, do duties."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError

from gridtune_steering.bookkeeping.database import TROUBLE
from gridtune_steering.campaign import Action, Campaign, Credit, Result, Tick
from gridtune_steering.doorbell import Listener
from gridtune_steering.metrics import instruments
from gridtune_steering.objectstore.port import StoreError
from gridtune_steering.services import collecting, hosting
from gridtune_steering.services.hosting import News, Outdated, Ownership, OwnershipLost
from gridtune_steering.services.steering import Steering

_log = logging.getLogger("gridtune.host")
#: How often a host looks around without being rung, in seconds.
_LOOK_AROUND = 1.0
#: For how long a host thinks about points before it hands out those that it has, in seconds.
_BATCH_TIME = 0.05
#: For how long the next host may have to think again what this one has thought, in seconds.
_MOST_REPEATED = 2.0
#: How long to leave an object store alone that does not answer, in seconds.
_STORE_PAUSE = 30.0


class Host:
    """Owns live campaigns. One thread thinks; another does what must not wait for a slow optimizer.

    Args:
        steering: The service's surroundings.
        name: Unique among all hosts that run.
    """

    def __init__(self, steering: Steering, name: str) -> None:
        self._steering = steering
        self._name = name
        self._ownerships: dict[str, Ownership] = {}
        self._campaigns: dict[str, Campaign] = {}
        self._thought: dict[str, float] = {}
        self._stopping = threading.Event()

    @property
    def ownerships(self) -> list[Ownership]:
        """The tasks that it owns, as far as it knows."""
        return list(self._ownerships.values())

    def stop(self) -> None:
        """Ask the loop to end. Callable from a signal handler, since the main thread never waits for this event."""
        self._stopping.set()

    def run(self, listener: Listener) -> None:
        """Work until `stop`, woken through *listener*; then leave all tasks to others."""
        steward = threading.Thread(target=self._keep_house, name="steward", daemon=True)
        steward.start()
        # a slow object store must keep neither the tasks nor their leases waiting, nor the end of this process
        threading.Thread(target=self._keep_storage, name="collector", daemon=True).start()
        _log.info("host %s is at work", self._name, extra={"action": "host_started"})
        next_look = 0.0
        unfinished: set[str] = set()
        while not self._stopping.is_set():
            patience = 0.0 if unfinished else max(0.0, min(next_look - time.monotonic(), _LOOK_AROUND))
            rang = listener.wait(patience) | unfinished
            if time.monotonic() >= next_look:
                rang |= set(self._ownerships)
                next_look = time.monotonic() + _LOOK_AROUND
            unfinished = self.round(rang)
        steward.join()
        hosting.leave(self._steering, self._name)

    def round(self, tasks: set[str]) -> set[str]:
        """One batch for each of *tasks*, and for those that nobody owned; returns those that want more."""
        new = self._claim()
        return {
            task
            for task in (tasks & set(self._ownerships)) | new
            if not self._stopping.is_set() and self._advance(self._ownerships[task])
        }

    def look_around(self) -> None:
        """All that a host does when nobody rings, once."""
        hosting.do_duties(self._steering, self._name)
        unfinished = self.round(set(self._ownerships))
        while unfinished:
            unfinished = self.round(unfinished)

    def _claim(self) -> set[str]:
        claimed = hosting.claim(self._steering, self._name)
        for ownership in claimed:
            _log.info("took task %s over", ownership.task, extra={"action": "task_claimed", "task": ownership.task})
            self._ownerships[ownership.task] = ownership
            self._campaigns.pop(ownership.task, None)
        return {ownership.task for ownership in claimed}

    def _advance(self, ownership: Ownership) -> bool:
        """Learn what is new, and make the points that workers wait for, as many as fit into a batch.

        Returns:
            Whether more points are wanted.
        """
        try:
            return self._batch(ownership)
        except Outdated:
            self._campaigns.pop(ownership.task)  # it is rebuilt from what is true now
            return True
        except OwnershipLost:
            self._drop(ownership.task)  # paused, ended or somebody else's: whoever is to go on rebuilds it
        except OptimizerBroken as error:
            self._drop(ownership.task)
            self._pause(ownership, error)
        return False

    def _batch(self, ownership: Ownership) -> bool:
        news = hosting.news(self._steering, ownership)
        campaign = self._campaigns.get(ownership.task)
        started = time.monotonic()
        with _blaming_the_optimizer():
            if campaign is None:
                campaign = self._campaigns[ownership.task] = hosting.load(self._steering, ownership)
            learnt, actions = _learn(campaign, news)
            made = _make_points(campaign, news.credit)
        if learnt or made:
            instruments.THINKING_SECONDS.labels(news.algorithm).observe(time.monotonic() - started)
        if learnt or actions or made:
            hosting.write(self._steering, ownership, learnt=learnt, actions=[*actions, *made])
        self._keep_snapshot(ownership, campaign, time.monotonic() - started)
        return 0 < len(made) < news.credit

    def _keep_snapshot(self, ownership: Ownership, campaign: Campaign, seconds: float) -> None:
        """Keep the optimizer's state whenever making the points since the last time would take a while again."""
        self._thought[ownership.task] = self._thought.get(ownership.task, 0.0) + seconds
        if self._thought[ownership.task] > _MOST_REPEATED:
            self._thought[ownership.task] = 0.0
            if (snapshot := campaign.snapshot()) is not None:
                hosting.keep(self._steering, ownership, snapshot)

    def _drop(self, task: str) -> None:
        self._ownerships.pop(task, None)
        self._campaigns.pop(task, None)
        self._thought.pop(task, None)

    def _pause(self, ownership: Ownership, error: OptimizerBroken) -> None:
        _log.error("task %s is paused", ownership.task, exc_info=error, extra={"action": "task_broken"})
        try:
            hosting.pause_broken(self._steering, ownership, str(error))
        except OwnershipLost:
            _log.info("task %s was taken by another host meanwhile", ownership.task)

    def _keep_house(self) -> None:
        """Renew the leases on this host's tasks and do the duties, until `stop`."""
        while not self._stopping.wait(_LOOK_AROUND):
            try:
                hosting.renew(self._steering, self._name)
                hosting.do_duties(self._steering, self._name)
            except TROUBLE:  # a database that is busy or away comes back; leases may get lost meanwhile
                _log.exception("the database did not answer", extra={"action": "database_away"})

    def _keep_storage(self) -> None:
        """Delete from object storage what nobody needs any more, until `stop`."""
        while not self._stopping.wait(_LOOK_AROUND):
            try:
                done = collecting.do_duty(self._steering, self._name)
            except (*TROUBLE, StoreError):
                _log.exception("storage was not cleaned up; trying again", extra={"action": "collecting_failed"})
                self._stopping.wait(_STORE_PAUSE)
                continue
            if done is not None and (done.deleted or done.strays):
                _log.info(
                    "deleted %d objects, and %d that nobody knew",
                    done.deleted,
                    done.strays,
                    extra={"action": "collected"},
                )


class OptimizerBroken(Exception):  # noqa: N818 - named for the fact
    """The task's optimizer raised; the task cannot go on before somebody has looked at it."""


@contextmanager
def _blaming_the_optimizer() -> Iterator[None]:
    """Tell what an optimizer library raises from this service's own errors."""
    try:
        yield
    except (OwnershipLost, SQLAlchemyError):
        raise
    except Exception as error:  # a library can raise anything, and its task alone shall suffer
        raise OptimizerBroken(f"the optimizer failed: {type(error).__name__}: {error}") from error


def _learn(campaign: Campaign, news: News) -> tuple[list[tuple[Result, int]], list[Action]]:
    learnt: list[tuple[Result, int]] = []
    actions: list[Action] = []
    for wish in news.wishes:
        actions += campaign.handle(wish)
    for result in news.results:
        learnt.append((result, campaign.n_observed))
        actions += campaign.handle(result)
    return learnt, actions + campaign.handle(Tick(news.elapsed))


def _make_points(campaign: Campaign, credit: int) -> list[Action]:
    made: list[Action] = []
    started = time.monotonic()
    while len(made) < credit and time.monotonic() - started < _BATCH_TIME:
        more = campaign.handle(Credit(1))
        if not more:
            break
        made += more
    return made
