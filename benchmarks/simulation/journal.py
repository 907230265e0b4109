"""What a simulation has seen: who held which point, what was acknowledged and learnt when, how long everything took."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field

from gridtune_common.protocol import Lease

from .clock import Cost

#: Into how many parts the time is cut.
PARTS = 10


class Times:
    """Seconds, in the parts of the time in which they were seen."""

    def __init__(self) -> None:
        self._parts = [array("d") for _ in range(PARTS)]

    def add(self, part: int, seconds: float) -> None:
        """One more."""
        self._parts[part].append(seconds)

    def of_part(self, part: int) -> array[float]:
        """Those of one part."""
        return self._parts[part]

    @property
    def all(self) -> list[float]:
        """All of them."""
        return [seconds for part in self._parts for seconds in part]


@dataclass(slots=True)
class Work:
    """What one kind of work came to: the seconds of each call on the wall, and of processor time by part."""

    wall: Times = field(default_factory=Times)
    cpu: list[float] = field(default_factory=lambda: [0.0] * PARTS)


@dataclass(slots=True)
class Statement:
    """What one statement came to, in the first and second half of the time."""

    n: list[int] = field(default_factory=lambda: [0, 0])
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])


@dataclass(slots=True)
class Journal:
    """Notes of one simulation.

    Attributes:
        seconds: How long it is to last.
        is_over: Whether that time is over: what comes then is not measured.
        holders: Who holds a point, by task and number, as far as workers know.
        acknowledged: The loss that was accepted, and when, by evaluation.
        done_by: The evaluation by which a point was done, by task and number.
        unlearnt: When a result was acknowledged that no optimizer has learnt yet, by task and number.
        overtime: For how long workers went on after the end of their task.
        ended: When a task has ended.
        vanished: Evaluations whose workers have vanished.
        flaws: What must not happen, and was seen to happen.
    """

    seconds: float
    is_over: bool = False
    works: dict[tuple[str, str], Work] = field(default_factory=lambda: defaultdict(Work))
    statements: dict[tuple[str, str], Statement] = field(default_factory=lambda: defaultdict(Statement))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    asks: Times = field(default_factory=Times)
    learning: Times = field(default_factory=Times)
    queues: dict[str, Times] = field(default_factory=lambda: defaultdict(Times))
    overtime: Times = field(default_factory=Times)
    ended: dict[str, float] = field(default_factory=dict)
    holders: dict[tuple[str, int], str] = field(default_factory=dict)
    acknowledged: dict[str, tuple[float, float]] = field(default_factory=dict)
    done_by: dict[tuple[str, int], str] = field(default_factory=dict)
    unlearnt: dict[tuple[str, int], float] = field(default_factory=dict)
    vanished: set[str] = field(default_factory=set)
    flaws: list[str] = field(default_factory=list)

    def part(self, now: float) -> int:
        """Which part of the time it is."""
        return min(int(now / self.seconds * PARTS), PARTS - 1)

    def worked(self, who: str, kind: str, now: float, cost: Cost) -> None:
        """Work was done, by the web side or the hosts."""
        if not self.is_over:
            work, part = self.works[who, kind], self.part(now)
            work.wall.add(part, cost.wall)
            work.cpu[part] += cost.cpu

    def stated(self, who: str, statement: str, now: float, seconds: float) -> None:
        """The database has answered."""
        if not self.is_over:
            known = self.statements[who, statement]
            half = int(now >= self.seconds / 2)
            known.n[half] += 1
            known.seconds[half] += seconds

    def queued(self, where: str, now: float, seconds: float) -> None:
        """Something waited before its work began."""
        if not self.is_over:
            self.queues[where].add(self.part(now), seconds)

    def leased(self, lease: Lease, *, now: float, waited: float) -> None:
        """A worker has got a point; how long it waited counts if nobody had that point before."""
        if not self.is_over and lease.epoch == 1:
            self.asks.add(self.part(now), waited)
        self.counts["points that were handed out"] += 1
        self.counts["of them, points that came back"] += lease.epoch > 1
        key, evaluation = (lease.task, lease.point), lease.evaluation
        if key in self.holders:
            self.flaws.append(f"point {lease.point} of {lease.task} went to {evaluation}; {self.holders[key]} had it")
        if key in self.done_by:
            self.flaws.append(f"point {lease.point} of {lease.task} went to {evaluation} after it was done")
        self.holders[key] = evaluation

    def let_go(self, task: str, point: int, evaluation: str) -> None:
        """A worker does not hold a point any more."""
        if self.holders.get((task, point)) == evaluation:
            del self.holders[task, point]

    def told(self, task: str, point: int, evaluation: str, loss: float, now: float) -> None:
        """A result was acknowledged."""
        if (task, point) in self.done_by:
            self.flaws.append(f"point {point} of {task} was done twice, by {evaluation} the second time")
        self.acknowledged[evaluation] = (loss, now)
        self.done_by[task, point] = evaluation

    def stored(self, task: str, point: int, now: float) -> None:
        """A result is in the database, and waits to be learnt."""
        self.unlearnt.setdefault((task, point), now)

    def learnt(self, task: str, point: int, now: float) -> None:
        """An optimizer has learnt a result."""
        since = self.unlearnt.pop((task, point), None)
        if since is not None and not self.is_over:
            self.learning.add(self.part(now), max(now - since, 0.0))

    def stopped(self, task: str, now: float) -> None:
        """A worker was told to stop."""
        if task not in self.ended:
            self.flaws.append(f"a worker of {task} was told to stop, but the task goes on")
        elif not self.is_over:
            self.overtime.add(self.part(now), now - self.ended[task])
