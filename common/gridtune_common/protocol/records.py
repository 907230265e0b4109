"""What the bookkeeping tells: points, evaluations, events, the best, exports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from gridtune_common.protocol.evaluations import Usage
from gridtune_common.protocol.states import EvaluationState, Metrics, Parameters, PointOrigin, PointState
from gridtune_common.protocol.storage import StoredObject
from gridtune_common.protocol.tasks import Objective, ShippedFile, Task
from gridtune_common.protocol.workers import WorkerResources


@dataclass(frozen=True)
class Point:
    """A point with all that is known of it.

    Attributes:
        value: The value of the first objective.
        attempts: How many attempts have failed or were lost; what was given back does not count.
        metrics: The final metrics; empty until the point is done.
        informed_by: How many results the optimizer had learnt when it proposed this point.
        observed: This point's place in the order in which the optimizer learnt results, from 0.
        origin: Who proposed it.
    """

    number: int
    state: PointState
    parameters: Parameters
    metrics: Metrics
    attempts: int
    created_at: str
    value: Optional[float] = None
    started_at: Optional[str] = None
    ended_at: Optional[str] = None
    informed_by: int = 0
    observed: Optional[int] = None
    message: str = ""
    worker: str = ""
    site: str = ""
    origin: PointOrigin = PointOrigin.ALGORITHM


@dataclass(frozen=True)
class PointPage:
    """Points by number; ``next`` is the cursor of the next page, None on the last."""

    items: list[Point]
    next: Optional[str] = None


@dataclass(frozen=True)
class Evaluation:
    """One attempt at a point, by one worker.

    Attributes:
        resumed_from: The checkpoint that it was given to go on from.
        usage: What its payload used; None while it runs, and if its agent did not say.
    """

    id: str
    point: int
    epoch: int
    attempt: int
    state: EvaluationState
    worker: str
    site: str
    host: str
    agent_version: str
    started_at: str
    lease_expires_at: str
    ended_at: Optional[str] = None
    cause: str = ""
    message: str = ""
    exit_code: Optional[int] = None
    output_tail: str = ""
    metrics: Metrics = field(default_factory=dict)
    resources: WorkerResources = field(default_factory=WorkerResources)
    resumed_from: Optional[str] = None
    usage: Optional[Usage] = None


@dataclass(frozen=True)
class StoredReport:
    """A report with the evaluation that made it."""

    evaluation: str
    step: int
    metrics: Metrics
    at: str


@dataclass(frozen=True)
class PointDetail:
    """A point with its evaluations, oldest first, its reports in order of arrival, and its checkpoints and logs."""

    point: Point
    evaluations: list[Evaluation]
    reports: list[StoredReport]
    objects: list[StoredObject] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """A line of the audit log: who did what to whom, and when."""

    id: int
    at: str
    actor: str
    kind: str
    task: Optional[str] = None
    point: Optional[int] = None
    evaluation: Optional[str] = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EventPage:
    """Events, oldest first; ``next`` continues after the last one, also when it is the newest yet."""

    items: list[Event]
    next: Optional[str] = None


@dataclass(frozen=True)
class Best:
    """The best point so far, and the middle one to compare it with; with several objectives, the Pareto front.

    Attributes:
        objective: The first objective's metric; ``goal`` belongs to it.
        point: None while no point is done. With several objectives, the first of ``front``.
        median: The median of the first objective over all done points.
        objectives: All objectives, in the task file's order.
        front: With several objectives, all points that no other point dominates, best in the first objective first;
            None with one. A point dominates another if it is at least as good in every objective and better in one.
    """

    goal: str
    objective: str
    point: Optional[Point] = None
    median: Optional[float] = None
    n_done: int = 0
    objectives: list[Objective] = field(default_factory=list)
    front: Optional[list[Point]] = None


@dataclass(frozen=True)
class StoredWish:
    """A point of the user's own; ``point`` is its number once it is made."""

    parameters: Parameters
    created_at: str
    created_by: str
    point: Optional[int] = None


@dataclass(frozen=True)
class StoredKnownResult:
    """A result from elsewhere, with its place in the order in which the optimizer learnt results, from 0."""

    number: int
    parameters: Parameters
    metrics: Metrics
    source: str
    created_at: str
    observed: Optional[int] = None


@dataclass(frozen=True)
class Export:
    """Everything the bookkeeping holds of one task.

    Attributes:
        files: The task's files, if it was archived; otherwise they are fetched one by one.
    """

    format: int
    exported_at: str
    task: Task
    points: list[Point]
    evaluations: list[Evaluation]
    reports: list[StoredReport]
    events: list[Event]
    wishes: list[StoredWish] = field(default_factory=list)
    known: list[StoredKnownResult] = field(default_factory=list)
    files: list[ShippedFile] = field(default_factory=list)
