"""The agent's place on disk: working directories, shipped files, the spool; all readable by its user alone.

::

    <work>/spool/                              last words that the service has not answered yet
    <work>/cache/                              inputs of tasks, unless they are kept elsewhere (see `cache`)
    <work>/<task>/files/<sha256>               files that travel with the task, fetched once
    <work>/<task>/logs/                        packed logs that wait for their upload
    <work>/<task>/<point>-<epoch>-<evaluation> working directory of one evaluation; beside it, under the same name:
                                               .aside, for archives on their way, and .lock, held while it lives

Agents may share it: whatever they share is written whole or not at all. What an agent that was killed has left is
removed by the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Callable

from gridtune_common import protocol
from gridtune_common.errors import ConfigurationError, GridtuneError

_log = logging.getLogger("gridtune.agent")


class CorruptFile(GridtuneError):  # noqa: N818 - named for the fact
    """A file of the task is not what was submitted, or would be written where it must not."""


class Workplace:
    """The part of the work folder that belongs to one task.

    Args:
        work: The agent's work folder.
        task: Id of the task.
        keep: Leave working directories behind.
    """

    def __init__(self, work: Path, task: str, *, keep: bool = False) -> None:
        self._folder = Path(os.path.abspath(work)) / _plain(task)
        self._files = self._folder / "files"
        self._keep = keep

    def prepare(self, files: Iterable[protocol.FileEntry], fetch: Callable[[str], bytes | None]) -> bool:
        """Make the folders, and fetch the task's files unless an earlier agent did; tells whether all are there.

        Nothing more is fetched once *fetch* returns None.

        Raises:
            CorruptFile: A file does not have its checksum, or a path that leads elsewhere.
            OSError: The disk.
        """
        make_private(self._folder)
        make_private(self._files)
        self._sweep()
        for entry in files:
            _check_inside(entry.path)
            if not self._has(entry):
                content = fetch(entry.path)
                if content is None:
                    return False
                self._store(entry, content)
        return True

    @property
    def logs(self) -> Path:
        """Where packed logs wait for their upload."""
        return self._folder / "logs"

    @contextmanager
    def room(self, lease: protocol.Lease) -> Iterator[Path]:
        """A fresh working directory, gone afterwards."""
        room = self._folder / f"{lease.point}-{lease.epoch}-{_plain(lease.evaluation)}"
        if room.exists():
            shutil.rmtree(room)
        with _locked(lock_of(room)):
            make_private(room)
            make_private(aside_of(room))
            try:
                yield room
            finally:
                _remove(aside_of(room))
                if not self._keep:
                    _remove(room)

    def furnish(self, room: Path, files: Iterable[protocol.FileEntry]) -> None:
        """Copy the task's files into a working directory."""
        for entry in files:
            target = room / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._files / entry.sha256, target)
            target.chmod(0o700 if entry.executable else 0o600)

    def _sweep(self) -> None:
        """Remove what dead agents have left behind; with ``--keep-work``, leave it for a look."""
        if self._keep:
            return
        for lock in self._folder.glob("*.lock"):
            room = lock.with_suffix("")
            with suppress(FileNotFoundError), open(lock, "r+") as held:  # another agent may be faster
                if not _try_lock(held.fileno()):
                    continue  # its agent lives
                _log.info("Removing %s, left by an agent that was killed.", room, extra={"action": "work_swept"})
                for left in (room, aside_of(room)):
                    if left.exists():
                        _remove(left)
                lock.unlink()

    def _has(self, entry: protocol.FileEntry) -> bool:
        try:
            return _sha256((self._files / entry.sha256).read_bytes()) == entry.sha256
        except FileNotFoundError:
            return False

    def _store(self, entry: protocol.FileEntry, content: bytes) -> None:
        if _sha256(content) != entry.sha256:
            raise CorruptFile(
                f"{entry.path} arrived with another checksum than it was submitted with "
                f"({len(content)} bytes, expected {entry.size}); is a proxy changing downloads?"
            )
        write_whole(self._files / entry.sha256, content)


def aside_of(room: Path) -> Path:
    """The folder beside a working directory for what the payload must not see."""
    return _beside(room, ".aside")


def lock_of(room: Path) -> Path:
    """The file that the agent of a working directory holds while it lives."""
    return _beside(room, ".lock")


def _beside(room: Path, suffix: str) -> Path:
    return room.with_name(room.name + suffix)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file as a sign of life, gone afterwards."""
    lock = open(path, "w")
    try:
        while not _is_held(lock.fileno(), path):  # somebody was just sweeping it away
            lock.close()
            lock = open(path, "w")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.close()


def _is_held(descriptor: int, path: Path) -> bool:
    """Lock a file, and tell whether it still has its name; where there are no locks, nobody sweeps either."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return True
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _try_lock(descriptor: int) -> bool:
    """Whether nobody else holds this file; without locks in the file system, assume that somebody does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def make_private(folder: Path, flag: str = "--work-dir") -> None:
    """Make a folder that only this user can enter, unless it exists; *flag* names another one.

    Raises:
        ConfigurationError: It exists and belongs to somebody else, or is no folder.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigurationError(f"{folder} is no folder; choose another one with {flag}") from error
    if folder.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{folder} belongs to another user; choose another one with {flag}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its readers see all of it or nothing."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:  # whatever it was, half a file must not stay; it goes on to the caller
        os.unlink(name)
        raise


def _check_inside(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise CorruptFile(f"{path!r} would be written outside of the working directory")


def _plain(name: str) -> str:
    """*name* without anything that means something in a path."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _remove(room: Path) -> None:
    try:
        shutil.rmtree(room)
    except OSError as error:
        _log.warning("Cannot remove %s: %s", room, error, extra={"action": "work_left"})
