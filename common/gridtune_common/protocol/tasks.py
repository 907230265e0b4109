"""Tasks: submitting, seeing and changing them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from gridtune_common.protocol.states import TaskAction, TaskState


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
        stopped_by: The rule by which the task ended, or by which the service paused it; empty if a person did, and
            while it runs.
        archived_at: When it was moved into the archive, where its export can be read and nothing else.
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
    stopped_by: str = ""
    archived_at: Optional[str] = None


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
        unfit: Why the task fits no worker that was seen lately; empty if it fits one, or if none was seen.
    """

    summary: TaskSummary
    document: dict[str, Any]
    source: str
    seed: int
    versions: dict[str, str]
    wished: int = 0
    known: int = 0
    unfit: str = ""


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
        resources: The canonical ``resources`` section.
    """

    task: str
    name: str
    document: dict[str, Any]
    objectives: list[str]
    constants: dict[str, Any]
    parameters: list[str]
    files: list[FileEntry]
    resources: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FileEntry:
    """A file of a task: its path, size in bytes and SHA-256 in hex."""

    path: str
    size: int
    sha256: str
    executable: bool = False
