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
class Credit:
    """*workers* wait for a point that does not exist yet; each is worth one new point."""

    workers: int


@dataclass(frozen=True, slots=True)
class Tick:
    """*elapsed* seconds have passed since the task began to run, pauses left out."""

    elapsed: float


Event = Told | Failed | Credit | Tick


@dataclass(frozen=True, slots=True)
class Suggest:
    """Make this point; *informed_by* is how many results were known when it was proposed."""

    number: int
    parameters: Parameters
    informed_by: int


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


Action = Suggest | Finish
