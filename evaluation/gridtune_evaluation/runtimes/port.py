"""The port behind which payloads run: plain processes, containers, whatever may come.

::

    RuntimeUnavailable   this node cannot run payloads so
    ImageUnavailable     an image cannot be had
    EngineError          what runs the payload does not answer, or refuses
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Callable, Optional, Protocol

from gridtune_common.errors import GridtuneError
from gridtune_common.protocol import Usage


class RuntimeUnavailable(GridtuneError):  # noqa: N818 - named for the fact
    """This node cannot run payloads in this way."""


class ImageUnavailable(GridtuneError):  # noqa: N818
    """A container image cannot be had on this node.

    Attributes:
        is_missing: There is no such image, as far as its registry says: it will not be found elsewhere either.
    """

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing


class EngineError(GridtuneError):
    """What runs payloads on this node does not answer, or refuses to run this one."""


@dataclass(frozen=True)
class Image:
    """A container image, as the task names it.

    Attributes:
        name: As the runtime's own command line would take it.
        pull: ``missing``: fetch it unless it is on this node; ``always``: look for a newer one; ``never``.
    """

    name: str
    pull: str = "missing"


@dataclass(frozen=True)
class Limits:
    """What a payload may use; None for what is not limited.

    Attributes:
        cpus: The logical CPUs that it runs on, by their numbers.
        gpus: The GPUs that it sees, by the names that the driver takes; empty for none.
        memory_bytes: Of main memory, all its processes together.
        network: Whether a container sees the network.
        n_cpus: How many CPUs' time it may use, where its CPUs are not known by number: `cpus` is None then.
    """

    cpus: Optional[tuple[int, ...]] = None
    gpus: Optional[tuple[str, ...]] = None
    memory_bytes: Optional[int] = None
    network: bool = False
    n_cpus: Optional[int] = None


@dataclass(frozen=True)
class Job:
    """A payload, ready to start.

    Attributes:
        command: For ``/bin/sh -c``, placeholders filled in.
        directory: The working directory on this node, which belongs to this job alone.
        variables: What the task and the contract set; a runtime adds what belongs to its kind of place.
        output: The file in *directory* that takes standard output and standard error, in the order of writing.
        image: What `Runtime.prepare` has prepared.
        inputs: What links in *directory* lead to, to be seen under the same names, read-only.
        scratch: A folder of this node for the payload's temporary files.
    """

    command: str
    directory: Path
    variables: Mapping[str, str]
    output: Path
    image: Optional[Image] = None
    limits: Limits = field(default_factory=Limits)
    inputs: tuple[Path, ...] = ()
    scratch: Optional[Path] = None


@dataclass(frozen=True)
class Exit:
    """How a payload ended; after a signal, ``code`` is what a shell would show: 128 + signal.

    Attributes:
        is_out_of_memory: It was killed because it took more memory than it may.
        is_evicted: Somebody else, who stopped its container, asked it to leave.
    """

    code: int
    signal: Optional[int] = None
    is_out_of_memory: bool = False
    is_evicted: bool = False


class Handle(Protocol):
    """A started payload, used by the thread that started it.

    Signals go to everything that the payload has started, not to its first process alone. To signal a
    payload that has ended is no error.
    """

    def poll(self) -> Exit | None:
        """How the payload ended; None while it runs. The answer stays the same.

        With the payload's first process everything that it has started ends too: what is left is killed.

        Raises:
            EngineError: That cannot be found out any more.
        """

    def terminate(self) -> None:
        """Ask the payload to save and leave (SIGTERM)."""

    def kill(self) -> None:
        """End the payload at once (SIGKILL)."""

    def usage(self) -> Usage:
        """What the payload has used so far; complete when it has ended."""

    def close(self) -> None:
        """Kill the payload if it still runs, and give back all that is held for it. Can be repeated."""


class Runtime(Protocol):
    """Starts payloads. Shared by all slots of an agent, so safe to use from many threads.

    Should the agent die without a chance to call `Handle.close`, its payloads end within seconds.

    Attributes:
        name: As tasks and agents call it.
    """

    name: str

    def locate(self, directory: Path) -> PurePosixPath:
        """Where the payload sees its working directory."""

    def prepare(self, image: Image | None, keep_going: Callable[[], bool]) -> str:
        """Bring an image to this node, once for all slots, and return its digest; empty if there is none.

        Args:
            image: As the task names it.
            keep_going: Asked several times a second for as long as it takes.

        Raises:
            ImageUnavailable: It cannot be had, or *keep_going* said no.
            EngineError: What runs payloads here does not answer.
        """

    def hand_over(self, directory: Path) -> None:
        """Make a furnished working directory the payload's own. That may touch every file of it.

        Raises:
            OSError: The disk.
        """

    def start(self, job: Job) -> Handle:
        """Start a payload, in a directory that was handed over, and return at once.

        Raises:
            OSError: The payload could not be started.
            EngineError: Likewise.
            ImageUnavailable: The image that was prepared is gone; to prepare it again may help.
            ValueError: The command or a variable cannot be handed to a process (a null character).
        """

    def sweep(self) -> None:
        """Remove what agents that were killed have left running on this node."""

    def close(self) -> None:
        """Give back what is held; handles are closed before."""
