"""The port behind which payloads run: plain processes, containers, whatever may come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Job:
    """A payload, ready to start.

    Attributes:
        command: For ``/bin/sh -c``, placeholders filled in.
        directory: The working directory, which belongs to this job alone.
        environment: All variables of the payload, nothing is to be added to them.
        output: The file that takes standard output and standard error, in the order of writing.
        image: The container image that the task names.
    """

    command: str
    directory: Path
    environment: Mapping[str, str]
    output: Path
    image: str | None = None


@dataclass(frozen=True)
class Exit:
    """How a payload ended; after a signal, ``code`` is what a shell would show: 128 + signal."""

    code: int
    signal: int | None = None


class Handle(Protocol):
    """A started payload, used by the thread that started it.

    Signals go to everything that the payload has started, not to its first process alone. To signal a
    payload that has ended is no error.
    """

    def poll(self) -> Exit | None:
        """How the payload ended; None while it runs. Never blocks; the answer stays the same.

        With the payload's first process everything that it has started ends too: what is left is killed.
        """

    def terminate(self) -> None:
        """Ask the payload to save and leave (SIGTERM)."""

    def kill(self) -> None:
        """End the payload at once (SIGKILL)."""

    def close(self) -> None:
        """Kill the payload if it still runs, and give back all that is held for it. Can be repeated."""


class Runtime(Protocol):
    """Starts payloads. Shared by all slots of an agent, so safe to use from many threads.

    Should the agent die without a chance to call `Handle.close`, its payloads end within seconds.
    """

    def start(self, job: Job) -> Handle:
        """Start a payload and return at once.

        Raises:
            OSError: The payload could not be started.
            ValueError: The command or a variable cannot be handed to a process (a null character).
        """
