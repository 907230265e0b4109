"""The settings of one agent, read once at the edge and handed down."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gridtune_evaluation.runtimes import AUTO


@dataclass(frozen=True)
class Settings:
    """How an agent behaves.

    Attributes:
        server: Base URL of the steering service.
        task: Id or name of the task to evaluate.
        slots: How many evaluations run side by side; None for as many as fit what the task asks for.
        work: Folder for working directories, shipped files and undelivered results.
        site: Name of the place, for the bookkeeping.
        runtime: How payloads are started; a name from `gridtune_evaluation.runtimes.RUNTIMES`, or ``auto``.
        labels: What tasks can ask for besides what the agent finds out.
        keep_work: Leave working directories behind, for a look at them.
        idle_exit_seconds: A slot ends after this long without a point; None for never.
        max_points: How many points to evaluate before the agent ends; None for no limit.
        give_up_seconds: A slot stops asking, and ends its payload, after the service has been away for this long.
        ca: Certificate authorities to trust, also for the object store; None for the system's.
        walltime_seconds: How long this agent may run; None to find out.
        ask_wait_seconds: How long the service may hold an ask until there is a point.
        cache: Folder for the inputs of tasks, shared by all agents of this user on this node; None for one in *work*.
        cache_bytes: How large it may become.
    """

    server: str
    task: str
    slots: int | None
    work: Path
    site: str = ""
    runtime: str = AUTO
    labels: Mapping[str, str] = field(default_factory=dict)
    keep_work: bool = False
    idle_exit_seconds: float | None = None
    max_points: int | None = None
    give_up_seconds: float = 3600.0
    ca: str | None = None
    walltime_seconds: float | None = None
    ask_wait_seconds: float = 20.0
    cache: Path | None = None
    cache_bytes: int = 50 * 2**30


def default_work(environment: Mapping[str, str]) -> Path:
    """``$GRIDTUNE_WORK_DIR``, or a folder of this user's own under the system's temporary one."""
    configured = environment.get("GRIDTUNE_WORK_DIR")
    return Path(configured) if configured else Path(tempfile.gettempdir()) / f"gridtune-{os.getuid()}"


def default_cache(environment: Mapping[str, str]) -> Path | None:
    """``$GRIDTUNE_CACHE_DIR``, if it is set."""
    configured = environment.get("GRIDTUNE_CACHE_DIR")
    return Path(configured) if configured else None
