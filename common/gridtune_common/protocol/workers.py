"""What workers have, and the machines that they run on, as operators see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class WorkerResources:
    """What one worker has for one evaluation; None or empty for what it does not know or say.

    Attributes:
        cpus: Logical CPUs that are its own.
        memory_bytes: Of main memory.
        gpus: How many GPUs are its own.
        gpu_memory_bytes: Of the smallest of them.
        gpu_model: As the driver names the first of them.
        arch: Of the machine, as ``uname -m`` prints it.
        runtimes: How it can run payloads: ``process``, ``docker``, ...
        labels: What the site says of it, to be asked for by tasks.
    """

    cpus: Optional[int] = None
    memory_bytes: Optional[int] = None
    gpus: int = 0
    gpu_memory_bytes: Optional[int] = None
    gpu_model: str = ""
    arch: str = ""
    runtimes: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerHost:
    """A machine on which workers run or ran.

    Attributes:
        host: The machine's name; for a worker that gave none, the worker's.
        workers: How many of its workers evaluate a point, or asked for one lately.
        tasks: The tasks that these evaluate.
        done: Evaluations that ended with a result; ``failed`` and ``lost`` count those that did not.
        failures_in_a_row: Since the last result, or since somebody forgave them.
        set_aside_until: Until then it gets no point; None if it gets points.
        reason: Why it was set aside.
        resources: What its workers have that were seen lately, as far as they say it; each kind once.
    """

    site: str
    host: str
    last_seen_at: str
    workers: int = 0
    tasks: list[str] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    lost: int = 0
    failures_in_a_row: int = 0
    set_aside_until: Optional[str] = None
    reason: str = ""
    resources: list[WorkerResources] = field(default_factory=list)


@dataclass(frozen=True)
class WorkerHosts:
    """Hosts by site and name; ``next`` is the cursor of the next page, None on the last."""

    items: list[WorkerHost]
    next: Optional[str] = None


@dataclass(frozen=True)
class ForgiveHost:
    """Forget the failures of a host, so that it gets points again.

    Attributes:
        site: Where the host is; None for every host of that name.
    """

    request_id: str
    host: str
    site: Optional[str] = None
