"""Evaluations: how a worker gets a point, keeps it and ends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from gridtune_common.protocol.states import Advice, EvaluationState, FailureCause, Metrics, Parameters, ReleaseCause
from gridtune_common.protocol.storage import Checkpoint
from gridtune_common.protocol.workers import WorkerResources


@dataclass(frozen=True)
class Ask:
    """A worker wants a point.

    Attributes:
        worker: Names one slot of one agent, unique among all that run.
        wait: How long to wait for a point, in seconds; the service may wait less.
        resources: What the worker has.
        remaining_seconds: What is left of the worker's walltime, if it has one.
        takes_deltas: Whether it can go on from a checkpoint that has a base; others are given whole ones alone.
    """

    request_id: str
    worker: str
    site: str = ""
    host: str = ""
    agent_version: str = ""
    resources: WorkerResources = field(default_factory=WorkerResources)
    remaining_seconds: Optional[float] = None
    wait: float = 0.0
    takes_deltas: bool = False


@dataclass(frozen=True)
class Lease:
    """A point, handed to a worker, which must renew the lease before it expires.

    Attributes:
        epoch: Grows with each lease of the same point; to be sent with every call about this evaluation.
        attempt: 1 for the first try; grows with each failure and each lost worker.
        lease_seconds: How long the lease holds from now without a heartbeat.
        parameters: The active parameters, without the task's constants.
        checkpoints: What the training can go on from, newest first; the next one is for when one is damaged.
    """

    task: str
    evaluation: str
    epoch: int
    attempt: int
    point: int
    parameters: Parameters
    lease_seconds: float
    heartbeat_seconds: float
    checkpoints: list[Checkpoint] = field(default_factory=list)


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
    """The answer to a heartbeat or report: what to do, and for how long the lease holds from now.

    Attributes:
        watched: Somebody wants to see what the payload prints; send it for as long as this is so.
    """

    advice: Advice
    reason: str = ""
    lease_seconds: float = 0.0
    watched: bool = False


@dataclass(frozen=True)
class Sign:
    """A heartbeat, or reports, of one of several evaluations."""

    evaluation: str
    epoch: int
    reports: list[Report] = field(default_factory=list)


@dataclass(frozen=True)
class Signs:
    """Signs of life of several evaluations, as an agent with many slots sends them; 100 at most."""

    signs: list[Sign]


@dataclass(frozen=True)
class Verdicts:
    """The answer to each of several signs of life, in their order."""

    verdicts: list[Verdict]


@dataclass(frozen=True)
class Output:
    """What a payload has printed since the last message. Renews the lease.

    Attributes:
        start: The offset of its first byte in the whole output; ``end`` that of the byte after its last.
    """

    epoch: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class LiveOutput:
    """The end of what the newest evaluation of a point has printed.

    Attributes:
        state: The evaluation's; None if the point was never tried. Only of a running one there is text here.
        start: The offset of the text's first byte in the whole output; ``end`` that of the byte after its last.
    """

    state: Optional[EvaluationState]
    evaluation: str = ""
    attempt: int = 0
    start: int = 0
    end: int = 0
    text: str = ""


@dataclass(frozen=True)
class Usage:
    """What a payload has used, all its processes together; None for what could not be seen.

    Attributes:
        wall_seconds: From its start to its end.
        cpu_seconds: User and system time.
        peak_memory_bytes: The most main memory that was in use at once.
        gpu_seconds: Time in which a GPU of its own was busy, summed over the GPUs.
        peak_gpu_memory_bytes: The most memory in use at once on one of them.
        runtime: How it ran: ``process``, ``docker``, ...
        image: The container image's digest, if it ran in one.
    """

    wall_seconds: Optional[float] = None
    cpu_seconds: Optional[float] = None
    peak_memory_bytes: Optional[int] = None
    gpu_seconds: Optional[float] = None
    peak_gpu_memory_bytes: Optional[int] = None
    runtime: str = ""
    image: str = ""


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
    usage: Optional[Usage] = None


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
    usage: Optional[Usage] = None


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
    usage: Optional[Usage] = None


@dataclass(frozen=True)
class Outcome:
    """Whether the end of an evaluation changed its point; ``reason`` says why not."""

    accepted: bool
    reason: str = ""
