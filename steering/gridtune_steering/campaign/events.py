"""What goes into a campaign, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gridtune_common.protocol import Parameters


@dataclass(frozen=True, slots=True)
class Told:
    """A point is done. *metrics* hold a finite number for each objective."""

    number: int
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Failed:
    """A point ended without a result and will not be tried again."""

    number: int


@dataclass(frozen=True, slots=True)
class Known:
    """A result from elsewhere, for the optimizer to learn from; it counts for no stop rule.

    *number* is negative and its own: -1 for the first such result of the task, -2 for the next.
    """

    number: int
    parameters: Parameters
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Wish:
    """The user wants this point tried, ahead of what the optimizer would propose.

    *name* tells wishes apart: while one waits, it may be handed in again, which changes nothing.
    """

    name: str
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Credit:
    """*workers* wait for a point that does not exist yet; each is worth one new point."""

    workers: int


@dataclass(frozen=True, slots=True)
class Tick:
    """*elapsed* seconds have passed since the task began to run, pauses left out."""

    elapsed: float


Event = Told | Failed | Known | Wish | Credit | Tick
Result = Told | Failed | Known


class Origin(Enum):
    """Who proposed a point."""

    INITIAL = "initial"  #: The task file, as one of its initial points.
    USER = "user"  #: The user, while the task ran.
    ALGORITHM = "algorithm"  #: The optimizer.


@dataclass(frozen=True, slots=True)
class Suggest:
    """Make this point.

    Attributes:
        number: Its number, from 0.
        parameters: Its parameters.
        informed_by: How many results were known when it was proposed.
        origin: Who proposed it.
        wish: The wish that it fulfils, if it is the user's.
    """

    number: int
    parameters: Parameters
    informed_by: int
    origin: Origin = Origin.ALGORITHM
    wish: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """The optimizer chose what to do from now on, and says why."""

    text: str


class StopRule(Enum):
    """The rules that end a task."""

    POINTS = "points"  #: The budget is used up and every point has ended.
    TARGET = "target"  #: The first objective is good enough.
    PATIENCE = "patience"  #: Nothing better for too long.
    WALL_TIME = "wall_time"  #: The time is over.
    SPACE = "space"  #: Every point of a finite space has been tried.


@dataclass(frozen=True, slots=True)
class Finish:
    """End the task by *rule*, for *reason* in words; what still runs is not needed any more."""

    rule: StopRule
    reason: str


Action = Suggest | Note | Finish
