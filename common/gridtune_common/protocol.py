"""The wire protocol: every message between agents, users and the steering service, as frozen dataclasses.

One definition for all: agents use these classes as they are, steering validates requests against them and derives its
OpenAPI document from them. The protocol is additive only: a field may be added with a default, none is renamed, removed
or given another meaning; whoever reads a message ignores fields that it does not know.

Times are ISO 8601 in UTC. Durations are in seconds. A metric that is not a finite number travels as ``null``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional, Union

#: Sent by both sides in the header below; grows only if a client must know of a change.
PROTOCOL_VERSION = 1
PROTOCOL_HEADER = "Gridtune-Protocol"

#: The value of one hyperparameter, or of a constant.
Value = Union[bool, int, float, str, None]
Parameters = dict[str, Value]
Metrics = dict[str, Optional[float]]


class TaskState(str, Enum):
    """The states of a task. Values are only ever added."""

    RUNNING = "running"  #: Points are proposed and handed out.
    PAUSED = "paused"  #: No point is handed out; running evaluations go on to their end.
    FINISHED = "finished"  #: A stop rule was met; ``reason`` says which.
    CANCELLED = "cancelled"  #: Ended by its owner or an operator.


class PointState(str, Enum):
    """The states of a point. Values are only ever added."""

    READY = "ready"  #: Waits for a worker.
    RUNNING = "running"  #: One worker holds its lease.
    PAUSED = "paused"  #: Waits for a promotion to a larger budget.
    DONE = "done"  #: Finished with its metrics.
    STOPPED = "stopped"  #: Ended early by the scheduler; its last report counts.
    FAILED = "failed"  #: Its attempts are used up, or the error was permanent.
    CANCELLED = "cancelled"  #: The task ended first.


class PointOrigin(str, Enum):
    """Who proposed a point. Values are only ever added."""

    INITIAL = "initial"  #: The task file, as one of its initial points.
    USER = "user"  #: The user, while the task ran.
    ALGORITHM = "algorithm"  #: The optimizer.


class EvaluationState(str, Enum):
    """The states of an evaluation. Values are only ever added."""

    RUNNING = "running"  #: Holds the lease of its point.
    DONE = "done"  #: Delivered the point's result.
    FAILED = "failed"  #: The training or its surroundings failed; ``cause`` says how.
    RELEASED = "released"  #: Gave its point back unfinished (walltime, shutdown).
    LOST = "lost"  #: Its lease expired without a word.
    STOPPED = "stopped"  #: Was told to stop: by the scheduler, a rival's result, or the task's end.


class FailureCause(str, Enum):
    """Why an evaluation failed. Values are only ever added."""

    EXIT_CODE = "exit_code"  #: The payload ended with a code other than 0.
    SIGNAL = "signal"  #: The payload was killed by a signal that the agent did not send.
    NO_RESULT = "no_result"  #: The payload ended well but left no metrics.
    INVALID_RESULT = "invalid_result"  #: The metrics cannot be used: objective missing, or not a finite number.
    REPORTED = "reported"  #: The payload itself said ``status: failed`` in its result.
    TIMEOUT = "timeout"  #: The payload ran longer than ``payload.timeout``.
    START = "start"  #: The command could not be started.
    INFRASTRUCTURE = "infrastructure"  #: The node failed: disk, download, image.


class ReleaseCause(str, Enum):
    """Why an evaluation gave its point back. Values are only ever added."""

    WALLTIME = "walltime"  #: The worker's time is nearly over.
    SHUTDOWN = "shutdown"  #: The agent was asked to end.
    STOPPED = "stopped"  #: Steering told the evaluation to stop.


class TaskAction(str, Enum):
    """What the owner of a task can do with it."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    EXTEND = "extend"


class Advice(str, Enum):
    """What an evaluation should do next."""

    CONTINUE = "continue"  #: Go on; the lease was renewed.
    STOP = "stop"  #: End now; the result is not needed any more.
    LOST = "lost"  #: The lease is gone and another worker may hold the point; end now.


# --- tasks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShippedFile:
    """A file that travels with a task.

    Attributes:
        path: Where it goes, relative to the working directory.
        content: Base64 of its bytes.
        executable: Whether it gets the executable bit.
    """

    path: str
    content: str
    executable: bool = False


@dataclass(frozen=True)
class SubmitTask:
    """Register a task.

    Attributes:
        document: The task file's content as an object.
        source: The task file as the user wrote it, kept word for word.
        files: The files named under ``payload.files``.
    """

    request_id: str
    document: dict[str, Any]
    source: str = ""
    files: list[ShippedFile] = field(default_factory=list)


@dataclass(frozen=True)
class ChangeTask:
    """Pause, resume, cancel or extend a task; ``points`` is how many more points ``extend`` grants."""

    request_id: str
    action: TaskAction
    points: int = 0


@dataclass(frozen=True)
class PointCounts:
    """How many points of a task are in each state."""

    ready: int = 0
    running: int = 0
    paused: int = 0
    done: int = 0
    stopped: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True)
class Objective:
    """A metric, and whether the task has to ``minimize`` or ``maximize`` it."""

    metric: str
    goal: str


@dataclass(frozen=True)
class TaskSummary:
    """A task in a listing.

    Attributes:
        objective: The first objective's metric; ``goal`` belongs to it.
        points: The budget; None without a ``stop.points`` rule.
        best: The best value of the first objective so far.
        objectives: All objectives, in the task file's order.
        n_front: With several objectives, how many points are on the Pareto front; None with one.
    """

    id: str
    name: str
    owner: str
    state: TaskState
    algorithm: str
    created_at: str
    counts: PointCounts
    objective: str
    goal: str
    reason: str = ""
    points: Optional[int] = None
    best: Optional[float] = None
    best_point: Optional[int] = None
    ended_at: Optional[str] = None
    objectives: list[Objective] = field(default_factory=list)
    n_front: Optional[int] = None


@dataclass(frozen=True)
class Task:
    """A task, whole, with what is needed to understand and repeat it.

    Attributes:
        document: The canonical task document, every default filled in.
        source: The task file as submitted.
        seed: The seed in force: the task file's, or the one drawn at submission.
        versions: gridtune's, Python's and the optimizer library's version at submission.
        wished: How many points of the user's own wait to be made.
        known: How many results from elsewhere the optimizer was given.
    """

    summary: TaskSummary
    document: dict[str, Any]
    source: str
    seed: int
    versions: dict[str, str]
    wished: int = 0
    known: int = 0


@dataclass(frozen=True)
class TaskPage:
    """Tasks, newest first; ``next`` is the cursor of the next page, None on the last."""

    items: list[TaskSummary]
    next: Optional[str] = None


@dataclass(frozen=True)
class Payload:
    """What an agent needs to evaluate any point of a task, fetched once.

    Attributes:
        document: The canonical ``payload`` section.
        objectives: The names of the metrics that a result must have.
        constants: Added to every point's parameters.
        parameters: The names of all parameters, so that inactive ones are known too.
        files: What to fetch from ``/tasks/T/files/PATH``.
    """

    task: str
    name: str
    document: dict[str, Any]
    objectives: list[str]
    constants: dict[str, Any]
    parameters: list[str]
    files: list[FileEntry]


@dataclass(frozen=True)
class FileEntry:
    """A file of a task: its path, size in bytes and SHA-256 in hex."""

    path: str
    size: int
    sha256: str
    executable: bool = False


# --- the user's own points and results --------------------------------------------------------------------------------


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


# --- evaluations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """A worker wants a point.

    Attributes:
        worker: Names one slot of one agent, unique among all that run.
        wait: How long to wait for a point, in seconds; the service may wait less.
        remaining_seconds: What is left of the worker's walltime, if it has one.
    """

    request_id: str
    worker: str
    site: str = ""
    host: str = ""
    agent_version: str = ""
    resources: dict[str, Any] = field(default_factory=dict)
    remaining_seconds: Optional[float] = None
    wait: float = 0.0


@dataclass(frozen=True)
class Lease:
    """A point, handed to a worker, which must renew the lease before it expires.

    Attributes:
        epoch: Grows with each lease of the same point; to be sent with every call about this evaluation.
        attempt: 1 for the first try; grows with each failure and each lost worker.
        lease_seconds: How long the lease holds from now without a heartbeat.
        parameters: The active parameters, without the task's constants.
    """

    task: str
    evaluation: str
    epoch: int
    attempt: int
    point: int
    parameters: Parameters
    lease_seconds: float
    heartbeat_seconds: float


@dataclass(frozen=True)
class Heartbeat:
    """A worker is alive and still holds its point."""

    epoch: int


@dataclass(frozen=True)
class Report:
    """Metrics of an evaluation at a step of its training."""

    step: int
    metrics: Metrics


@dataclass(frozen=True)
class Reports:
    """Intermediate metrics, many at once; a step that was reported before is ignored. Renews the lease."""

    epoch: int
    reports: list[Report]


@dataclass(frozen=True)
class Verdict:
    """The answer to a heartbeat or report: what to do, and for how long the lease holds from now."""

    advice: Advice
    reason: str = ""
    lease_seconds: float = 0.0


@dataclass(frozen=True)
class Tell:
    """An evaluation ended with its final metrics.

    Attributes:
        leaving: The worker will not ask again, so no new point need be made for it.
        reports: The last reports, so that they are stored with the result or not at all.
    """

    request_id: str
    epoch: int
    metrics: Metrics
    exit_code: Optional[int] = None
    output_tail: str = ""
    leaving: bool = False
    reports: list[Report] = field(default_factory=list)


@dataclass(frozen=True)
class Fail:
    """An evaluation ended without a result.

    Attributes:
        permanent: Trying again cannot help, so the point fails at once.
        output_tail: The end of what the payload printed.
    """

    request_id: str
    epoch: int
    cause: FailureCause
    message: str = ""
    exit_code: Optional[int] = None
    output_tail: str = ""
    permanent: bool = False
    leaving: bool = False
    reports: list[Report] = field(default_factory=list)


@dataclass(frozen=True)
class Release:
    """A worker gives its point back unfinished; this is no failure and counts no attempt."""

    request_id: str
    epoch: int
    cause: ReleaseCause
    message: str = ""
    output_tail: str = ""
    leaving: bool = False
    reports: list[Report] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """Whether the end of an evaluation changed its point; ``reason`` says why not."""

    accepted: bool
    reason: str = ""


# --- bookkeeping ------------------------------------------------------------------------------------------------------


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
    """One attempt at a point, by one worker."""

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
    resources: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredReport:
    """A report with the evaluation that made it."""

    evaluation: str
    step: int
    metrics: Metrics
    at: str


@dataclass(frozen=True)
class PointDetail:
    """A point with its evaluations, oldest first, and its reports in order of arrival."""

    point: Point
    evaluations: list[Evaluation]
    reports: list[StoredReport]


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
    """Everything the bookkeeping holds of one task."""

    format: int
    exported_at: str
    task: Task
    points: list[Point]
    evaluations: list[Evaluation]
    reports: list[StoredReport]
    events: list[Event]
    wishes: list[StoredWish] = field(default_factory=list)
    known: list[StoredKnownResult] = field(default_factory=list)


# --- identity ---------------------------------------------------------------------------------------------------------


class Scope(str, Enum):
    """What a token may do. Values are only ever added."""

    OPERATOR = "operator"  #: Everything.
    USER = "user"  #: Submit tasks, and see and change one's own.
    TASK = "task"  #: Evaluate points of one task, and nothing else: what travels to worker nodes.


@dataclass(frozen=True)
class CreateToken:
    """Make a token.

    Attributes:
        user: Who acts with it; empty for the caller. Only operators may name others.
        task: The task of a token with scope ``task``.
        lifetime_seconds: None for one that does not expire.
    """

    request_id: str
    scope: Scope
    name: str = ""
    user: str = ""
    task: Optional[str] = None
    lifetime_seconds: Optional[float] = None


@dataclass(frozen=True)
class Token:
    """A token without its secret."""

    id: str
    name: str
    user: str
    scope: Scope
    created_at: str
    task: Optional[str] = None
    expires_at: Optional[str] = None
    revoked_at: Optional[str] = None


@dataclass(frozen=True)
class CreatedToken:
    """A new token with its secret, which is shown this once and not kept."""

    token: Token
    secret: str


@dataclass(frozen=True)
class TokenList:
    """The tokens that the caller may see."""

    items: list[Token]


# --- the service itself -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Health:
    """Whether the service is alive, or ready: ``checks`` names what was looked at and what was found."""

    status: str
    version: str
    checks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """Who the caller is to the service."""

    user: str
    scope: Scope
    token: str
    task: Optional[str] = None


@dataclass(frozen=True)
class ProblemError:
    """One thing wrong with a request: where, and what to write instead."""

    path: str
    message: str


@dataclass(frozen=True)
class Problem:
    """An error, as RFC 9457 describes it, with ``errors`` for what is wrong with the request's body."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    errors: list[ProblemError] = field(default_factory=list)
