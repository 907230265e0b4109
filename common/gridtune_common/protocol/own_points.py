"""The user's own points and results."""

from __future__ import annotations

from dataclasses import dataclass, field

from gridtune_common.protocol.states import Metrics, Parameters


@dataclass(frozen=True)
class OwnPoint:
    """A point that the user wants to be tried."""

    parameters: Parameters


@dataclass(frozen=True)
class AddPoints:
    """Try these points next, ahead of what the optimizer proposes; at most 1,000 in one message."""

    request_id: str
    points: list[OwnPoint]


@dataclass(frozen=True)
class AddedPoints:
    """How many points were queued, and how many of the user's own wait now, these included."""

    added: int
    waiting: int


@dataclass(frozen=True)
class KnownResult:
    """A result from elsewhere: a whole point, and a finite number for each objective among its metrics."""

    parameters: Parameters
    metrics: Metrics


@dataclass(frozen=True)
class ImportResults:
    """Let the optimizer learn these results; at most 10,000 in one message.

    They are no points of the task: they count for no stop rule and are never the best.

    Attributes:
        source: Where they come from, in words.
    """

    request_id: str
    results: list[KnownResult]
    source: str = ""


@dataclass(frozen=True)
class ImportedResults:
    """How many results were taken, and how many were skipped for each reason."""

    taken: int
    skipped: dict[str, int] = field(default_factory=dict)
