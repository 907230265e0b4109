"""What runtimes of images share: each image is brought once, and payloads see the same surroundings in all of them."""

from __future__ import annotations

import logging
import shlex
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Callable, Final

from gridtune_evaluation.cache import FetchInterrupted
from gridtune_evaluation.contract import UNBUFFERED
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.groups import PATIENT_SHELL, gpu_variables, start_group
from gridtune_evaluation.runtimes.init import CHILD_SCRIPT, process_namespace
from gridtune_evaluation.runtimes.port import Image, ImageUnavailable, Job

_log = logging.getLogger("gridtune.agent")

#: The working directory, as every payload in an image sees it.
SEEN_AT: Final = PurePosixPath("/gridtune")
#: What every payload in an image has, unless its task says otherwise: these can be written to.
VARIABLES: Final[Mapping[str, str]] = {**UNBUFFERED, "HOME": "/tmp", "TMPDIR": "/tmp"}  # noqa: S108 - of the job alone
#: What is on this node, and where payloads see it.
Mount = tuple[Path, PurePosixPath]
#: What a registry, or an engine in front of it, says of an image that does not exist.
_NOT_THERE: Final = ("manifest unknown", "not found", "does not exist", "name unknown", "pull access denied")
#: Seconds between two looks at whether to go on.
_LOOK: Final = 0.1
_TOLD: Final = 500


class Images:
    """The images that an agent has brought: all of its payloads get the same. Safe to share between threads.

    Args:
        runtime: Its name, for messages.
        bring: Makes an image ready and returns what the runtime calls it from then on.
    """

    def __init__(self, runtime: str, bring: Callable[[Image, Callable[[], bool]], str]) -> None:
        self._runtime = runtime
        self._bring = bring
        self._ready: dict[str, str] = {}
        self._bringing = threading.Lock()

    def prepare(self, image: Image | None, keep_going: Callable[[], bool]) -> str:
        """Bring an image unless it was brought before, while others that need it wait.

        Raises:
            ImageUnavailable: It cannot be had.
            FetchInterrupted: *keep_going* said no.
        """
        if image is None:
            raise ImageUnavailable(f"payload.image is missing; runtime {self._runtime} needs one")
        while not self._bringing.acquire(timeout=_LOOK):
            if not keep_going():
                raise FetchInterrupted("fetching an image")
        try:
            if image.name not in self._ready:
                self._ready[image.name] = self._bring(image, keep_going)
            return self._ready[image.name]
        finally:
            self._bringing.release()

    def ready(self, image: Image) -> str:
        """What an image that was prepared is called now."""
        return self._ready.get(image.name, image.name)

    def forget(self, image: Image, called: str) -> None:
        """Let an image be brought again that is gone, unless somebody else has brought it since."""
        if self._ready.get(image.name) == called:
            self._ready.pop(image.name, None)


def not_had(name: str, why: str) -> ImageUnavailable:
    """An image that could not be fetched, for the reason that a registry gave."""
    why = " ".join(why.split())[-_TOLD:]
    if any(word in why.lower() for word in _NOT_THERE):
        text = f"there is no image {name}, or it needs a login on this node ({why}); correct payload.image"
        return ImageUnavailable(text, is_missing=True)
    return ImageUnavailable(f"the image {name} cannot be fetched: {why}")


def shell_words(job: Job) -> list[str]:
    """The command line of a job inside of its image, where signals reach the whole process group."""
    return ["/bin/sh", "-c", f"{_read_variables(job)}; {PATIENT_SHELL}{job.command}"]


def first_shell_words(job: Job) -> list[str]:
    """The same where a signal reaches the container's first program alone."""
    return ["/bin/sh", "-c", f"{_read_variables(job)}\n{CHILD_SCRIPT}", "gridtune", job.command, process_namespace()]


def _read_variables(job: Job) -> str:
    """What makes a shell in the image set the job's variables.

    The options that these runtimes have for that expand dollars, split at commas or show secrets to everybody who lists
    processes. So the variables are left in the control folder as a script.
    """
    control = job.directory / ".gridtune"
    control.mkdir(mode=0o700, exist_ok=True)
    variables = {**VARIABLES, **gpu_variables(job.limits.gpus), **job.variables}
    for name, value in variables.items():
        if "\0" in value:
            raise ValueError(f"the variable {name} holds a null character")
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    file = control / "variables.sh"
    file.touch(mode=0o600)
    file.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    return f". {shlex.quote(str(SEEN_AT / file.relative_to(job.directory).as_posix()))}"


def make_scratch_points(job: Job, mounts: Sequence[Mount]) -> list[Mount]:
    """Make what is mounted below /tmp possible, which is the job's scratch folder; return the other mounts."""
    others = []
    for source, point in mounts:
        if point.parts[:2] != ("/", "tmp"):
            others.append((source, point))
        elif job.scratch is not None:
            make_point(job.scratch.joinpath(*point.parts[2:]), source)
    return others


def make_point(point: Path, source: Path) -> None:
    """Make what a file or folder can be mounted on."""
    if source.is_dir():
        point.mkdir(parents=True, exist_ok=True)
    elif not point.exists():
        point.parent.mkdir(parents=True, exist_ok=True)
        point.touch()


class Tool:
    """A program of this node that fetches and tries images.

    Args:
        program: Where it is.
        environment: What it gets to see.
        guard: Ends it should the agent die.
    """

    def __init__(self, program: str, environment: Mapping[str, str], guard: OrphanGuard) -> None:
        self._program = program
        self._environment = environment
        self._guard = guard

    def run(self, words: Sequence[str], keep_going: Callable[[], bool], **variables: str) -> tuple[int, str]:
        """Run it to its end; its exit code, and what it printed.

        Raises:
            FetchInterrupted: *keep_going* said no; whatever it has started is ended then.
            OSError: It could not be started.
        """
        with tempfile.TemporaryDirectory(prefix="gridtune-") as folder:
            job = Job("", Path(folder), {}, Path(folder) / "output.log")
            environment = {**self._environment, **variables}
            handle = start_group([self._program, *words], job, environment, self._guard, "tool")
            try:
                while (exit_ := handle.poll()) is None:
                    if not keep_going():
                        raise FetchInterrupted("fetching an image")
                    time.sleep(_LOOK / 2)
            finally:
                handle.close()
            return exit_.code, job.output.read_text(errors="replace").strip()
