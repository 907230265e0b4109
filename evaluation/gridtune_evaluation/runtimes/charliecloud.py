"""Payloads in unpacked images by Charliecloud's ``ch-run``, on nodes where nobody is root and no engine runs.

``ch-run`` becomes the program that it starts, so a payload is a process group like any other, and signals reach it
directly. It mounts images read-only, but nothing else, and it makes no mount points in them. So these are made in the
image if it can be written to, and otherwise in a root folder of the job's own into which the image's folders are bound.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Callable, Final

from gridtune_evaluation.cache import Allowance, Cache, DataUnavailable, Entry
from gridtune_evaluation.contract import inherited
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.groups import GroupHandle, start_group
from gridtune_evaluation.runtimes.images import (
    SEEN_AT,
    Images,
    Tool,
    make_point,
    make_scratch_points,
    not_had,
    shell_words,
)
from gridtune_evaluation.runtimes.port import EngineError, Image, ImageUnavailable, Job, RuntimeUnavailable

_log = logging.getLogger("gridtune.agent")

#: Where images say what their variables are.
_VARIABLES: Final = "ch/environment"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: ``ch-run`` brings these itself; the last is the job's scratch folder.
_OWN_MOUNTS: Final = frozenset({"dev", "proc", "sys", "tmp"})
#: Covered with files that know the agent's user, in images that have both.
_USER_FILES: Final = ("etc/passwd", "etc/group")


class Charliecloud:
    """Runs a job's command by the shell of an unpacked image.

    Args:
        guard: Ends payloads should the agent die.
        cache: Where fetched images are unpacked.

    Raises:
        RuntimeUnavailable: There is no ``ch-run``.
    """

    name = "charliecloud"

    def __init__(self, guard: OrphanGuard, cache: Cache) -> None:
        program = shutil.which("ch-run")
        if program is None:
            raise RuntimeUnavailable("there is no ch-run in PATH; it comes with Charliecloud")
        self._program = program
        self._guard = guard
        self._cache = cache
        self._images = Images(self.name, self._bring)
        self._in_use: list[Entry] = []
        self._has_told = False

    def locate(self, directory: Path) -> PurePosixPath:
        """The same for every payload."""
        return SEEN_AT

    def prepare(self, image: Image | None, keep_going: Callable[[], bool]) -> str:
        """Find or fetch the image and try it; a folder has no digest, so it is called by where it really is."""
        return self._images.prepare(image, keep_going)

    def hand_over(self, directory: Path) -> None:
        """It is the agent's user's already."""

    def start(self, job: Job) -> GroupHandle:
        """Start the command as the leader of a new session and process group."""
        if job.image is None:
            raise EngineError("there is no image to run the command in")
        if not job.limits.network and not self._has_told:
            self._has_told = True
            text = "Charliecloud cannot cut the network off; payloads see it although their task does not ask for it."
            _log.warning(text, extra={"action": "network_open"})
        job.directory.joinpath(".gridtune").mkdir(mode=0o700, exist_ok=True)
        root, options = _furnish(Path(self._images.ready(job.image)), job)
        words = [self._program, *options, str(root), "--", *shell_words(job)]
        return start_group(words, job, _surroundings(job), self._guard, self.name)

    def sweep(self) -> None:
        """The warden has seen to it."""

    def close(self) -> None:
        """Nothing is held."""

    def _bring(self, image: Image, keep_going: Callable[[], bool]) -> str:
        named = Path(image.name) if image.name.startswith("/") else self._stored(image, keep_going)
        folder = named.resolve()  # names with tags are often links, and a colon cannot be mounted
        if not folder.is_dir():
            raise ImageUnavailable(
                f"there is no folder {named} on this node; runtime {self.name} takes unpacked images, "
                "as ch-convert makes them"
            )
        tool = Tool(self._program, _surroundings(), self._guard)
        code, said = tool.run(
            [*_environment_options(folder), *_user_options(folder), str(folder), "--", "/bin/sh", "-c", ":"], keep_going
        )
        if code:
            raise ImageUnavailable(f"ch-run cannot run the image {folder}: {said[-500:]}")
        return str(folder)

    def _stored(self, image: Image, keep_going: Callable[[], bool]) -> Path:
        """An image by its reference: the user's own, or one that is fetched into the cache."""
        own = _storage() / "img" / image.name.replace("/", "%").replace(":", "+")
        if own.is_dir() and image.pull != "always":
            return own
        program = shutil.which("ch-image")
        if program is None:
            raise ImageUnavailable(
                f"{image.name} is no folder, and there is no ch-image on this node to fetch it; "
                "write the path of an unpacked image into payload.image, or install charliecloud-builders"
            )
        key = _key(image)
        if image.pull == "never" and not (self._cache.folder / key).is_dir():
            raise ImageUnavailable(f"the image {image.name} is not on this node, and payload.pull is never")
        self._cache.prepare()
        bring = _Pull(image.name, Tool(program, _surroundings(), self._guard), keep_going)
        try:
            entry = self._cache.entry(key, bring, keep_going)
        except DataUnavailable as error:
            raise ImageUnavailable(f"the image {image.name} cannot be kept: {error}") from error
        self._in_use.append(entry)
        return entry.path


class _Pull:
    """Fetches an image into a storage folder of its own, so that one that was interrupted is never taken for whole."""

    def __init__(self, name: str, tool: Tool, keep_going: Callable[[], bool]) -> None:
        self._name = name
        self._tool = tool
        self._keep_going = keep_going

    def __call__(self, folder: Path, allowance: Allowance) -> Path:
        _log.info("Fetching the image %s.", self._name, extra={"action": "image_fetch_began"})
        storage = folder / "storage"
        code, said = self._tool.run(
            ["--storage", str(storage), "pull", self._name], self._keep_going, CH_IMAGE_CACHE="disabled"
        )
        found = [path for path in storage.glob("img/*") if path.is_dir()]
        if code or len(found) != 1:
            raise not_had(self._name, said)
        _log.info("Fetched the image %s.", self._name, extra={"action": "image_fetch_ended"})
        return found[0]


def _key(image: Image) -> str:
    name = image.name if image.pull != "always" else f"{image.name} {uuid.uuid4()}"
    return f"charliecloud-{hashlib.sha256(name.encode()).hexdigest()}"


def _storage() -> Path:
    """Where ``ch-image`` keeps the user's images."""
    return Path(os.environ.get("CH_IMAGE_STORAGE") or f"/var/tmp/{_user()}.ch")  # noqa: S108 - its own choice


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())


def _surroundings(job: Job | None = None) -> dict[str, str]:
    """What ``ch-run`` itself sees, and no payload; its TMPDIR becomes the image's /tmp."""
    scratch = {"TMPDIR": str(job.scratch)} if job is not None and job.scratch is not None else {}
    return {**inherited(os.environ), "USER": _user(), **scratch}


def _environment_options(image: Path) -> Iterator[str]:
    yield "--unset-env=*"
    yield f"--set-env=PATH={_PATH}"
    variables = image / _VARIABLES
    if variables.is_file():
        yield f"--set-env={variables}"


def _user_options(image: Path) -> Iterator[str]:
    if not all((image / name).is_file() for name in _USER_FILES):
        yield "--no-passwd"


def _furnish(image: Path, job: Job) -> tuple[Path, list[str]]:
    """The root folder for a job, and the options of ``ch-run`` that go with it."""
    options = [*_environment_options(image), f"--cd={SEEN_AT}"]
    if job.scratch is None:
        options.append("--private-tmp")
    mounts = [(job.directory, SEEN_AT), *((path, PurePosixPath(path)) for path in job.inputs)]
    in_image = make_scratch_points(job, mounts)
    binds = [_bind(source, point) for source, point in mounts]
    try:
        for source, point in in_image:
            make_point(_within(image, point), source)
    except OSError:  # it belongs to others, or to a file system like CVMFS
        root = job.directory / ".gridtune" / "root"
        shutil.rmtree(root, ignore_errors=True)
        mirrored = _mirror(image, root, [point for _, point in in_image])
        for source, point in in_image:
            make_point(_within(root, point), source)
        return root, [*options, "--no-passwd", *mirrored, *binds]
    return image, [*options, *_user_options(image), *binds]


def _within(root: Path, point: PurePosixPath) -> Path:
    """Where a mount point is in a root folder; what an image links to would be looked for on the node itself."""
    here = root
    for name in point.parts[1:]:
        here /= name
        if here.is_symlink():
            link = here.relative_to(root)
            raise EngineError(f"ch-run cannot mount {point}, for /{link} is a link in the image; choose another folder")
    return here


def _bind(source: Path, point: PurePosixPath) -> str:
    if ":" in f"{source}{point}":
        raise EngineError(f"ch-run cannot mount {source}, for there is a colon in its name")
    return f"--bind={source}:{point}"


def _mirror(image: Path, root: Path, points: Sequence[PurePosixPath], depth: int = 1) -> list[str]:
    """Make *root* look like a folder of an image that cannot be written to; its folders are bound, not copied.

    A folder in which something else is to be mounted becomes a real one, with the image's below it.
    """
    root.mkdir()
    binds = []
    for entry in sorted(image.iterdir()):
        within = [point for point in points if point.parts[depth : depth + 1] == (entry.name,)]
        here = root / entry.name
        if entry.is_symlink():
            here.symlink_to(os.readlink(entry))
        elif entry.is_dir() and within:
            binds += _mirror(entry, here, within, depth + 1)
        else:
            make_point(here, entry)
            if depth > 1 or entry.name not in _OWN_MOUNTS:
                seen = PurePosixPath("/", *here.parts[-depth:])
                binds.append(_bind(entry, seen))
    return binds
