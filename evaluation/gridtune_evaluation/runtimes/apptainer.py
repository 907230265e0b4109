"""Payloads in containers of Apptainer, or of Singularity, for users who are not root.

The command line is that of Apptainer 1.0 and SingularityCE 3.9, which were the first to have ``--mount``. SIGTERM goes
to ``apptainer`` alone, which passes it on: in its process group there may be the program that serves the image's files,
and if the signal ended that, the payload could not read its own image while it saves.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import os
import shutil
import uuid
from pathlib import Path, PurePosixPath
from typing import Callable, Final

from gridtune_evaluation.cache import Allowance, Cache, DataUnavailable, Entry
from gridtune_evaluation.contract import inherited
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.groups import GroupHandle, start_group
from gridtune_evaluation.runtimes.images import SEEN_AT, Images, Tool, first_shell_words, make_scratch_points, not_had
from gridtune_evaluation.runtimes.port import EngineError, Image, ImageUnavailable, Job, RuntimeUnavailable

_log = logging.getLogger("gridtune.agent")

_PROGRAMS: Final = ("apptainer", "singularity")
#: Nothing of the node but what is mounted below: own processes, an empty home, few devices; the image is read-only.
_CONTAINED: Final = ("exec", "--containall", "--cleanenv", "--no-home")
#: What it remarks about mounts would be part of the payload's output; errors still are.
_SILENT: Final = "--silent"
#: Allowed to everybody, where the site allows network namespaces at all.
_NO_NETWORK: Final = ("--net", "--network", "none")
#: What would put the agent's variables into containers in spite of ``--cleanenv``.
_INJECTED: Final = ("APPTAINERENV_", "SINGULARITYENV_")
#: The fields in front of an image file's own id, and its length.
_MAGIC_AT, _MAGIC, _ID_AT, _ID_BYTES = 32, b"SIF_MAGIC", 48, 16


class Apptainer:
    """Runs a job's command by the shell of an image: a file, an unpacked folder, or one that is fetched.

    Args:
        guard: Ends payloads should the agent die.
        cache: Where fetched images are kept.

    Raises:
        RuntimeUnavailable: The program is missing.
    """

    name = "apptainer"

    def __init__(self, guard: OrphanGuard, cache: Cache) -> None:
        program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
        if program is None:
            raise RuntimeUnavailable("there is neither apptainer nor singularity in PATH")
        self._program = program
        self._guard = guard
        self._cache = cache
        self._tool = Tool(program, _surroundings(), guard)
        self._images = Images(self.name, self._bring)
        self._in_use: list[Entry] = []
        self._why_open: str | None = None
        self._has_told = False

    def locate(self, directory: Path) -> PurePosixPath:
        """The same for every payload."""
        return SEEN_AT

    def prepare(self, image: Image | None, keep_going: Callable[[], bool]) -> str:
        """Find or fetch the image and try it; what has no id of its own is called by its path."""
        return _digest(Path(self._images.prepare(image, keep_going)))

    def hand_over(self, directory: Path) -> None:
        """It is the agent's user's already."""

    def start(self, job: Job) -> GroupHandle:
        """Start the command as the leader of a new session and process group."""
        if job.image is None:
            raise EngineError("there is no image to run the command in")
        words = [self._program, _SILENT, *_CONTAINED, f"--pwd={SEEN_AT}", *_mounts(job)]
        if job.limits.gpus:
            words.append("--nv")
        if not job.limits.network:
            words += self._without_network()
        words += [self._images.ready(job.image), *first_shell_words(job)]
        return start_group(words, job, _surroundings(), self._guard, self.name, passes_on=True)

    def sweep(self) -> None:
        """The warden has seen to it."""

    def close(self) -> None:
        """Nothing is held."""

    def _without_network(self) -> tuple[str, ...]:
        if self._why_open is None:
            return _NO_NETWORK
        if not self._has_told:
            self._has_told = True
            text = "This node does not let %s cut the network off (%s); payloads see it without having asked for it."
            _log.warning(text, self._program, self._why_open, extra={"action": "network_open"})
        return ()

    def _bring(self, image: Image, keep_going: Callable[[], bool]) -> str:
        place = self._place(image, keep_going)
        code, said = self._try(place, keep_going, *_NO_NETWORK)
        self._why_open = said if code else None
        if code:
            code, said = self._try(place, keep_going)
        if code:
            raise ImageUnavailable(f"{self._program} cannot run the image {image.name}: {said}")
        return str(place)

    def _try(self, place: Path, keep_going: Callable[[], bool], *options: str) -> tuple[int, str]:
        """Whether the image's shell starts at all; what stops it would stop all points of the task."""
        code, said = self._tool.run([*_CONTAINED, *options, str(place), "/bin/sh", "-c", ":"], keep_going)
        return code, " ".join(said.split())[-300:]

    def _place(self, image: Image, keep_going: Callable[[], bool]) -> Path:
        """Where an image is on this node."""
        if "://" not in image.name and (image.name.startswith(("/", ".")) or image.name.endswith(".sif")):
            path = Path(image.name)
            if not path.is_absolute():
                raise ImageUnavailable(f"{image.name} is relative; write the whole path into payload.image")
            if not path.exists():
                raise ImageUnavailable(f"there is no {image.name} on this node")
            return path
        return self._fetched(image, keep_going)

    def _fetched(self, image: Image, keep_going: Callable[[], bool]) -> Path:
        address = image.name if "://" in image.name else f"docker://{image.name}"
        key = _key(address, image.pull)
        if image.pull == "never" and not (self._cache.folder / key).is_dir():
            raise ImageUnavailable(f"the image {image.name} is not on this node, and payload.pull is never")
        self._cache.prepare()
        try:
            entry = self._cache.entry(key, _Pull(address, self._tool, keep_going), keep_going)
        except DataUnavailable as error:
            raise ImageUnavailable(f"the image {image.name} cannot be kept: {error}") from error
        self._in_use.append(entry)
        return entry.path


class _Pull:
    """Fetches an image as one file; what it takes on the way is beside it, and not in the user's home."""

    def __init__(self, address: str, tool: Tool, keep_going: Callable[[], bool]) -> None:
        self._address = address
        self._tool = tool
        self._keep_going = keep_going

    def __call__(self, folder: Path, allowance: Allowance) -> Path:
        _log.info("Fetching the image %s.", self._address, extra={"action": "image_fetch_began"})
        target, aside = folder / "image.sif", str(folder)
        words = ["pull", "--disable-cache", str(target), self._address]
        code, said = self._tool.run(words, self._keep_going, APPTAINER_TMPDIR=aside, SINGULARITY_TMPDIR=aside)
        if code or not target.is_file():
            raise not_had(self._address, said)
        _log.info("Fetched the image %s.", self._address, extra={"action": "image_fetch_ended"})
        return target


def _key(address: str, pull: str) -> str:
    """Names a fetched image in the cache; one that is always fetched anew belongs to this agent alone."""
    name = address if pull != "always" else f"{address} {uuid.uuid4()}"
    return f"apptainer-{hashlib.sha256(name.encode()).hexdigest()}"


def _surroundings() -> dict[str, str]:
    """What ``apptainer`` itself sees: little of it reaches the payload."""
    return {name: value for name, value in inherited(os.environ).items() if not name.startswith(_INJECTED)}


def _mounts(job: Job) -> list[str]:
    make_scratch_points(job, [(path, PurePosixPath(path)) for path in job.inputs])
    scratch = [] if job.scratch is None else [_mount(job.scratch, "/tmp")]  # noqa: S108 - of this job alone
    return [*scratch, _mount(job.directory, str(SEEN_AT)), *(_mount(path, str(path), "ro") for path in job.inputs)]


def _mount(source: Path, target: str, *options: str) -> str:
    """An option in the form that also takes paths with commas and colons."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", f"src={source}", f"dst={target}", *options])
    return f"--mount={line.getvalue()}"


def _digest(place: Path) -> str:
    """The id that an image file was given when it was made; otherwise the path."""
    try:
        with place.open("rb") as file:
            head = file.read(_ID_AT + _ID_BYTES)
    except OSError:  # a folder, most often
        return str(place)
    if head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC or len(head) < _ID_AT + _ID_BYTES:
        return str(place)
    return f"sif:{uuid.UUID(bytes=head[_ID_AT:])}"
