"""What a try that failed, was lost or was given back means for its point, and who may try next.

Values in, values out: no clock, no database. The services act on what is decided here.

====================  ====================================================  ======================
the try …             counts for                                            next worker
====================  ====================================================  ======================
failed by itself      ``retry.attempts``                                    another host, another site
failed by its node    ``retry.infrastructure``                              any once, then another host
was lost              ``retry.lost``                                        another host
was given back        ``retry.stalled``, if it brought nothing forward      any
====================  ====================================================  ======================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from gridtune_common.protocol import FailureCause
from gridtune_common.taskfile import Retry
from gridtune_steering.bookkeeping.schema import Record

#: So many failures are remembered with their places.
_REMEMBERED: Final = 20


class Blame(Enum):
    """Whose fault it is that a try did not end well."""

    PAYLOAD = "payload"  #: The training's own, as far as one can tell.
    INFRASTRUCTURE = "infrastructure"  #: The node's.
    LOST = "lost"  #: Nobody knows: the worker fell silent.


_NODES_FAULT: Final = frozenset({FailureCause.INFRASTRUCTURE, FailureCause.START})


def blame_for(cause: FailureCause) -> Blame:
    """Whose fault a failure is."""
    return Blame.INFRASTRUCTURE if cause in _NODES_FAULT else Blame.PAYLOAD


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs; one that does not name its host is a host of its own."""

    site: str
    host: str

    @classmethod
    def of(cls, worker: Any) -> Place:
        """The place of an evaluation, an ask or anything else with the fields ``site``, ``host`` and ``worker``."""
        return cls(worker.site, worker.host or worker.worker)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A try that did not end well: where, when, and by whose fault."""

    place: Place
    blame: Blame
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What went wrong with a point so far.

    Attributes:
        attempts: All tries that failed or were lost.
        lost: Those that were lost; ``infrastructure`` are those that failed by their nodes.
        stalled: Stretches in a row that were given back without having brought the training forward.
        troubles: The newest of these tries, oldest first.
    """

    attempts: int = 0
    lost: int = 0
    infrastructure: int = 0
    stalled: int = 0
    troubles: tuple[Trouble, ...] = ()

    @classmethod
    def of(cls, point: Record) -> Tally:
        """Read it from a point's row."""
        return cls(
            attempts=point.attempts,
            lost=point.lost,
            infrastructure=point.infrastructure,
            stalled=point.stalled,
            troubles=read_troubles(point.troubles),
        )

    def columns(self) -> dict[str, Any]:
        """Write it to a point's row."""
        return {
            "attempts": self.attempts,
            "lost": self.lost,
            "infrastructure": self.infrastructure,
            "stalled": self.stalled,
            "troubles": [_write_trouble(trouble) for trouble in self.troubles],
        }

    @property
    def own(self) -> int:
        """Tries that the training failed by itself."""
        return self.attempts - self.lost - self.infrastructure

    def count(self, blame: Blame, since: datetime | None) -> int:
        """How many tries ended so; if *since* is given, after that, as far as that is remembered."""
        total = {Blame.LOST: self.lost, Blame.INFRASTRUCTURE: self.infrastructure, Blame.PAYLOAD: self.own}[blame]
        if since is None:
            return total
        before = sum(trouble.blame is blame and trouble.at <= since for trouble in self.troubles)
        forgotten = total - sum(trouble.blame is blame for trouble in self.troubles)
        return total - before - (forgotten if self.troubles and self.troubles[0].at <= since else 0)

    def with_trouble(self, trouble: Trouble) -> Tally:
        """One try more did not end well."""
        return replace(
            self,
            attempts=self.attempts + 1,
            lost=self.lost + (trouble.blame is Blame.LOST),
            infrastructure=self.infrastructure + (trouble.blame is Blame.INFRASTRUCTURE),
            troubles=(*self.troubles, trouble)[-_REMEMBERED:],
        )

    def without_last_loss(self) -> Tally:
        """The last try was not lost after all."""
        return replace(self, attempts=self.attempts - 1, lost=max(self.lost - 1, 0), troubles=self.troubles[:-1])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a point: it has failed for good or waits for the next worker; *message* says why."""

    tally: Tally
    has_failed: bool
    message: str = ""


def after_trouble(
    tally: Tally,
    trouble: Trouble,
    rules: Retry,
    reason: str,
    *,
    permanent: bool = False,
    saved_at: datetime | None = None,
) -> Verdict:
    """A try failed or was lost.

    A training of many stretches meets many bad nodes, so those are forgotten that it had met before its last
    checkpoint, which was committed at *saved_at*.
    """
    now = tally.with_trouble(trouble)
    if permanent:
        return Verdict(now, True, reason)
    lost, infrastructure = (now.count(blame, saved_at) for blame in (Blame.LOST, Blame.INFRASTRUCTURE))
    if trouble.blame is Blame.LOST and lost >= rules.lost:
        hint = f"; {_times(lost, 'worker was', 'workers were')} lost with this point (retry.lost)"
        return Verdict(now, True, f"{reason}{hint}: does it need more memory than there is?")
    if trouble.blame is Blame.INFRASTRUCTURE and infrastructure >= rules.infrastructure:
        hint = f"; {_times(infrastructure, 'try', 'tries')} failed by their nodes (retry.infrastructure)"
        return Verdict(now, True, f"{reason}{hint}")
    return Verdict(now, trouble.blame is Blame.PAYLOAD and now.own >= rules.attempts, reason)


def after_stretch(tally: Tally, rules: Retry, *, has_advanced: bool) -> Verdict:
    """A try was given back for want of time, further on than the point had ever been or not."""
    now = replace(tally, stalled=0 if has_advanced else tally.stalled + 1)
    if now.stalled < rules.stalled:
        return Verdict(now, False)
    stretches = _times(now.stalled, "stretch", "stretches in a row")
    cure = "give workers more walltime, or save checkpoints more often (payload.checkpoint.interval)"
    return Verdict(now, True, f"{stretches} ended before the training got any further (retry.stalled); {cure}")


def may_try(
    troubles: Sequence[Trouble], asker: Place, others: Iterable[Place], *, now: datetime, patience: timedelta
) -> bool:
    """Whether a point is for this asker, or should wait a little for somewhere better.

    A point waits only for places that are there and that less speaks against, and never longer than *patience* after
    its last failure; so none starves.
    """
    if not troubles or now - troubles[-1].at >= patience:
        return True
    mine = doubt(troubles, asker)
    return all(mine <= doubt(troubles, other) for other in others)


def doubt(troubles: Iterable[Trouble], place: Place) -> tuple[int, int]:
    """What speaks against trying a point there: the training's failures at the site, and all failures on the host.

    The first failure of the host itself is forgiven, for it may have been a moment's weakness.
    """
    at_site = [trouble for trouble in troubles if trouble.place.site == place.site]
    on_host = [trouble.blame for trouble in at_site if trouble.place == place]
    own = sum(trouble.blame is Blame.PAYLOAD for trouble in at_site)
    return own, len(on_host) - min(on_host.count(Blame.INFRASTRUCTURE), 1)


def n_untakeable(
    points: Sequence[Sequence[Trouble]],
    waiting: Sequence[Place],
    others: Sequence[Place],
    *,
    now: datetime,
    patience: timedelta,
) -> int:
    """How many of the points that came back none of the waiting workers takes, if each takes at most one."""
    free = list(waiting)
    left = 0
    for troubles in points:
        taker = next((place for place in free if may_try(troubles, place, others, now=now, patience=patience)), None)
        if taker is None:
            left += 1
        else:
            free.remove(taker)
    return left


def read_troubles(kept: Sequence[dict[str, str]]) -> tuple[Trouble, ...]:
    """Read a point's column of troubles."""
    return tuple(map(_read_trouble, kept))


def _times(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _write_trouble(trouble: Trouble) -> dict[str, str]:
    place = trouble.place
    return {"site": place.site, "host": place.host, "blame": trouble.blame.value, "at": trouble.at.isoformat()}


def _read_trouble(kept: dict[str, str]) -> Trouble:
    return Trouble(Place(kept["site"], kept["host"]), Blame(kept["blame"]), datetime.fromisoformat(kept["at"]))
