"""Payloads as plain processes of the agent's user."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Callable

from gridtune_evaluation.cache import Cache
from gridtune_evaluation.contract import inherited
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.groups import PATIENT_SHELL, GroupHandle, gpu_variables, start_group
from gridtune_evaluation.runtimes.port import Image, Job


class Process:
    """Runs a job's command with ``/bin/sh -c``; the job's image is not looked at."""

    name = "process"

    def __init__(self, guard: OrphanGuard, cache: Cache) -> None:
        self._guard = guard

    def locate(self, directory: Path) -> PurePosixPath:
        """The directory itself."""
        return PurePosixPath(directory)

    def prepare(self, image: Image | None, keep_going: Callable[[], bool]) -> str:
        """There is nothing to prepare."""
        return ""

    def hand_over(self, directory: Path) -> None:
        """It is the agent's user's already."""

    def start(self, job: Job) -> GroupHandle:
        """Start the command as the leader of a new session and process group."""
        environment = {**inherited(os.environ), **gpu_variables(job.limits.gpus), **job.variables}
        return start_group(["/bin/sh", "-c", PATIENT_SHELL + job.command], job, environment, self._guard, self.name)

    def sweep(self) -> None:
        """The warden has seen to it."""

    def close(self) -> None:
        """Nothing is held."""
