"""The optimizer host's loop: own tasks, learn results, make points, do duties."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Mapping

from gridtune_steering import tracing
from gridtune_steering.bookkeeping.database import TROUBLE, in_short
from gridtune_steering.campaign import Action, Campaign, Credit, Result, Tick
from gridtune_steering.doorbell import Listener
from gridtune_steering.host.effort import Effort, to_give_away
from gridtune_steering.host.live import LiveCampaigns, OptimizerBroken
from gridtune_steering.metrics import instruments
from gridtune_steering.objectstore.port import StoreError
from gridtune_steering.services import archiving, collecting, hosting, housekeeping, owning
from gridtune_steering.services.hosting import News, Outdated
from gridtune_steering.services.owning import Ownership, OwnershipLost
from gridtune_steering.services.steering import Steering

_log = logging.getLogger("gridtune.host")
_AWAY = "the database did not answer: %s"
#: How often a host looks around without being rung, in seconds.
_LOOK_AROUND = 1.0
#: For how long a host thinks about points before it hands out those that it has, in seconds.
_BATCH_TIME = 0.05
#: For how long the next host may have to think again what this one has thought, in seconds.
_MOST_REPEATED = 2.0
#: How long to leave an object store alone that does not answer, in seconds.
_STORE_PAUSE = 30.0
#: How long a host leaves orphans to others that are less busy, in seconds.
_LEAVE_TO_OTHERS = 2.0
#: Who thinks about one task for so many seconds leaves the others to those who have time.
_ABSORBED = 3.0
#: A process in which no thread could do anything for so many seconds shows where, and ends.
_FROZEN = 60.0
#: Seconds after which an optimizer is asked again that has failed, each time; then its task is paused.
_SECOND_THOUGHTS = (1.0, 5.0)
#: Rebuilding a campaign may mean to think all of it again: it may take so many times as long as one round.
_REBUILD_FACTOR = 10
#: Seconds between two goes of moving tasks, so that their effect is seen in between.
_SETTLING_TIME = 10.0


class Host:
    """Owns live campaigns. One thread thinks; others do what must not wait for a slow optimizer, nor for each other.

    Args:
        steering: The service's surroundings.
        name: Unique among all hosts that run.
    """

    def __init__(self, steering: Steering, name: str) -> None:
        self._steering = steering
        self._name = name
        self._ownerships: dict[str, Ownership] = {}
        self._live = LiveCampaigns(steering)
        self._effort = Effort()
        self._unsettled: set[str] = set()
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._orphans_since: float | None = None
        self._moved_at = 0.0
        self._look_for_orphans_at = 0.0
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
        steward = threading.Thread(target=self._keep_leases, name="steward", daemon=True)
        steward.start()
        # what others have locked, or a slow object store, must keep neither the leases waiting nor the end
        threading.Thread(target=self._keep_house, name="caretaker", daemon=True).start()
        threading.Thread(target=self._keep_storage, name="collector", daemon=True).start()
        _log.info("host %s is at work", self._name, extra={"action": "host_started"})
        next_look = 0.0
        unfinished: set[str] = set()
        while not self._stopping.is_set():
            patience = 0.0 if unfinished else max(0.0, min(next_look - time.monotonic(), _LOOK_AROUND))
            rang = set(listener.wait(patience)) | unfinished
            try:
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + _LOOK_AROUND
                    rang |= self._in_need()
                    self.drop_idle(older_than=self._steering.settings.idle_seconds)
                unfinished = self.round(rang)
            except TROUBLE as error:
                _log.error(_AWAY, in_short(error), extra={"action": "database_away"})
                unfinished = set()
        steward.join()
        self._leave()

    def round(self, tasks: set[str]) -> set[str]:
        """One batch for each of *tasks*, and for those that nobody owned; returns those that want more."""
        self._part_with(self._leaving & set(self._ownerships))
        new = self._claim() if self._may_have_orphans(tasks) else set()
        return {
            task
            for task in (tasks & set(self._ownerships)) | new
            if not self._stopping.is_set() and self._advance(self._ownerships[task])
        }

    def look_around(self) -> None:
        """All that a host does when nobody rings, once."""
        housekeeping.do_duties(self._steering, self._name)
        self._look_for_orphans_at = 0.0
        unfinished = self.round(set(self._ownerships))
        while unfinished:
            unfinished = self.round(unfinished)

    def drop_idle(self, *, older_than: float) -> None:
        """Drop campaigns from memory that nobody has wanted for so many seconds."""
        for task in self._live.idle(older_than):
            if (ownership := self._ownerships.get(task)) is not None:
                self._keep_for_others(ownership)
            self._live.drop(task)

    def _in_need(self) -> set[str]:
        """The tasks that have something for this host to do, whether they rang or not."""
        now = time.monotonic()
        again = {task for task, moment in self._not_before.items() if moment <= now}
        return owning.wanting(self._steering, self._name) | self._live.overdue() | again | self._unsettled

    def _may_have_orphans(self, rang: set[str]) -> bool:
        """Whether somebody rang whose host this is not, or nobody has looked for a while."""
        now = time.monotonic()
        if rang <= set(self._ownerships) and now < self._look_for_orphans_at:
            return False
        self._look_for_orphans_at = now + _LOOK_AROUND
        return True

    def _claim(self) -> set[str]:
        if not owning.any_orphans(self._steering):
            self._orphans_since = None
            return set()
        now = time.monotonic()
        self._orphans_since = self._orphans_since or now
        if now - self._orphans_since < _LEAVE_TO_OTHERS and self._others_have_more_time():
            return set()
        claimed = owning.claim(self._steering, self._name)
        for ownership in claimed:
            _log.info("took task %s over", ownership.task, extra={"action": "task_claimed", "task": ownership.task})
            self._forget(ownership.task)
            self._ownerships[ownership.task] = ownership
            self._unsettled.add(ownership.task)
        return {ownership.task for ownership in claimed}

    def _others_have_more_time(self) -> bool:
        own = self._effort.load
        return any(load < own for load in owning.loads_of_others(self._steering, self._name))

    def _advance(self, ownership: Ownership) -> bool:
        """Learn what is new, and make the points that workers wait for, as many as fit into a batch.

        Returns:
            Whether more points are wanted.
        """
        task = ownership.task
        if self._not_before.get(task, 0.0) > time.monotonic():
            return False
        try:
            wants_more = self._batch(ownership)
        except Outdated:
            self._live.drop(task)  # it is rebuilt from what is true now
            return True
        except OwnershipLost:
            self._forget(task)  # paused, ended or somebody else's: whoever is to go on rebuilds it
        except OptimizerBroken as error:
            self._live.drop(task)
            self._think_again(ownership, error)
        except TROUBLE:
            self._live.drop(task)  # it may have learnt what was not written down
            raise
        else:
            self._note_success(ownership)
            return wants_more
        return False

    def _batch(self, ownership: Ownership) -> bool:
        began = time.time_ns()
        news = hosting.news(self._steering, ownership)
        started = time.monotonic()
        with self._effort.on(ownership.task), self._live.thinking(ownership, news.elapsed) as campaign:
            learnt, actions = _learn(campaign, news)
            made = _make_points(campaign, news.credit)
        if learnt or made:
            thinking = instruments.THINKING_SECONDS.labels(self._live.algorithm_of(ownership.task))
            thinking.observe(time.monotonic() - started)
        if learnt or actions or made:
            algorithm = self._live.algorithm_of(ownership.task)
            with tracing.round_of(ownership.task, algorithm, learnt=len(learnt), made=len(made), began=began):
                hosting.write(self._steering, ownership, learnt=learnt, actions=[*actions, *made])
        self._live.keep_snapshot(ownership, unless_below=_MOST_REPEATED)
        return 0 < len(made) < news.credit

    def _note_success(self, ownership: Ownership) -> None:
        self._failures.pop(ownership.task, None)
        self._not_before.pop(ownership.task, None)
        if ownership.task in self._unsettled:
            owning.settle(self._steering, ownership)
            self._unsettled.discard(ownership.task)

    def _think_again(self, ownership: Ownership, error: OptimizerBroken) -> None:
        """Let an optimizer that has failed try again from what is written down, or pause its task."""
        task = ownership.task
        n = self._failures[task] = self._failures.get(task, 0) + 1
        _log.error("the optimizer of task %s failed (%d)", task, n, exc_info=error, extra={"action": "task_broken"})
        try:
            if n <= len(_SECOND_THOUGHTS):
                hosting.note_broken(self._steering, ownership, str(error))
                self._not_before[task] = time.monotonic() + _SECOND_THOUGHTS[n - 1]
                return
            hosting.pause_broken(self._steering, ownership, str(error))
        except OwnershipLost:
            _log.info("task %s was taken by another host meanwhile", task)
        self._forget(task)

    def _forget(self, task: str) -> None:
        self._ownerships.pop(task, None)
        self._live.forget(task)
        self._unsettled.discard(task)
        self._failures.pop(task, None)
        self._not_before.pop(task, None)

    def _part_with(self, tasks: set[str]) -> None:
        """Leave some tasks to others, which need not think again what was thought here."""
        self._leaving -= tasks
        for task in tasks:
            self._keep_for_others(self._ownerships[task])
        if tasks:
            owning.give_up(self._steering, self._name, sorted(tasks))
            _log.info("left to others: %s", ", ".join(sorted(tasks)), extra={"action": "tasks_moved"})
        for task in tasks:
            self._forget(task)

    def _leave(self) -> None:
        for ownership in self.ownerships:
            self._keep_for_others(ownership)
        try:
            owning.leave(self._steering, self._name)
        except TROUBLE as error:
            _log.error(_AWAY, in_short(error), extra={"action": "database_away"})  # leases end by themselves

    def _keep_for_others(self, ownership: Ownership) -> None:
        try:
            self._live.keep_snapshot(ownership, unless_below=_BATCH_TIME)
        except (OwnershipLost, *TROUBLE):
            _log.info("no snapshot of task %s", ownership.task)

    def _keep_leases(self) -> None:
        """Renew the leases on this host's tasks, or let others have some of them, until `stop`."""
        while not self._stopping.wait(_LOOK_AROUND):
            faulthandler.dump_traceback_later(_FROZEN, exit=True)  # native code may hold all threads, this one too
            owned = list(self._ownerships)
            shares = self._effort.look(owned)
            try:
                owning.renew(self._steering, self._name, owned, load=self._effort.load)
                self._share(shares)
                self._watch_thinking()
            except TROUBLE as error:  # a database that is busy or away comes back; leases may get lost meanwhile
                _log.error(_AWAY, in_short(error), extra={"action": "database_away"})

        faulthandler.cancel_dump_traceback_later()

    def _keep_house(self) -> None:
        """Do the duties, until `stop`."""
        while not self._stopping.wait(_LOOK_AROUND):
            try:
                housekeeping.do_duties(self._steering, self._name)
            except TROUBLE as error:
                _log.error(_AWAY, in_short(error), extra={"action": "database_away"})

    def _share(self, shares: Mapping[str, float]) -> None:
        """Choose tasks for hosts that have more time."""
        if time.monotonic() - self._moved_at > _SETTLING_TIME:
            chosen = to_give_away(shares, owning.loads_of_others(self._steering, self._name))
            if chosen:
                self._leaving |= set(chosen)
                self._moved_at = time.monotonic()

    def _watch_thinking(self) -> None:
        """Leave the other tasks to others while one takes long, and end if it never ends."""
        if (current := self._effort.current) is None or current[1] < _ABSORBED:
            return
        task, seconds = current
        rest = [name for name in list(self._ownerships) if name != task]
        if rest and owning.loads_of_others(self._steering, self._name):
            owning.give_up(self._steering, self._name, rest)
        limit = self._steering.settings.think_seconds
        if seconds > limit * (_REBUILD_FACTOR if self._live.is_rebuilding else 1):
            trouble = f"its optimizer did not answer for {seconds:.0f} s"
            if (ownership := self._ownerships.get(task)) is not None:
                owning.accuse(self._steering, ownership, trouble)
            _log.critical("task %s: %s; giving up", task, trouble, extra={"action": "host_hangs", "task": task})
            logging.shutdown()
            os._exit(1)  # the thread that hangs cannot be stopped in any other way

    def _keep_storage(self) -> None:
        """Delete from object storage what nobody needs any more, until `stop`."""
        while not self._stopping.wait(_LOOK_AROUND):
            try:
                done = collecting.do_duty(self._steering, self._name)
                n_archived = archiving.do_duty(self._steering, self._name)
            except (*TROUBLE, StoreError) as error:
                why = in_short(error)
                _log.error("storage was not cleaned up, trying again: %s", why, extra={"action": "collecting_failed"})
                self._stopping.wait(_STORE_PAUSE)
                continue
            if n_archived:
                _log.info("archived %d tasks", n_archived, extra={"action": "archived"})
            if done is not None and (done.deleted or done.strays):
                _log.info(
                    "deleted %d objects, and %d that nobody knew",
                    done.deleted,
                    done.strays,
                    extra={"action": "collected"},
                )


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
