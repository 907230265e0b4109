"""The node's cache of inputs: fetched once, read by every evaluation of this user, bounded.

::

    <cache>/<key>.lock          shared by those who use the entry, held alone by who fetches or removes it;
                                its time of change says when the entry was last used
    <cache>/<key>/<name>        the entry's one file or folder, whole and read-only
    <cache>/<key>.part-<random> a fetch under way; whatever is left of it counts for nothing
    <cache>/.room.lock          held while room is made

Agents may share it. Where the file system knows no locks each of them fetches for itself, and nothing is removed,
since nobody knows what is in use.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Final

from gridtune_common.errors import GridtuneError
from gridtune_evaluation.workplace import make_private

#: Seconds between two looks at a lock, and between two questions whether to go on.
_LOOK: Final = 0.1
#: How often an entry may vanish between its arrival and its use before that is called a failure.
_MAX_TRIES: Final = 5
#: Bytes that a fetch of unknown size may take before room is made again.
_STRIDE: Final = 64 * 2**20
_PART: Final = ".part-"
_LOCK: Final = ".lock"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DataUnavailable(GridtuneError):  # noqa: N818 - named for the fact
    """An input cannot be had on this node, at least for now."""


class FetchInterrupted(GridtuneError):  # noqa: N818
    """There is no time left to wait for an input."""


class Entry:
    """An input that stays where it is until this is closed.

    Attributes:
        path: The file or folder.
    """

    def __init__(self, path: Path, lock: _Lock | None = None) -> None:
        self.path = path
        self._lock = lock

    def close(self) -> None:
        """Let go of it. Can be repeated."""
        if self._lock is not None:
            self._lock.close()
        self._lock = None


class Allowance:
    """How much a fetch may take; asking for more removes what nobody uses.

    Args:
        make: Makes room for so many bytes, or raises.
    """

    def __init__(self, make: Callable[[int], None]) -> None:
        self._make = make
        self._granted = 0

    def need(self, size: int) -> None:
        """Say that the fetch takes *size* bytes in all.

        Raises:
            DataUnavailable: The cache cannot hold as much.
        """
        if size > self._granted:
            self._make(size)
            self._granted = size + _STRIDE  # what is too much after all shows when the entry is whole


#: Brings an entry: gets an empty folder and how much it may write there, and returns the file or folder that it wrote.
Bring = Callable[[Path, Allowance], Path]


class Cache:
    """Inputs on this node. Safe to share between threads, and between processes of one user.

    Args:
        folder: Where; made when it is first needed.
        limit: Bytes that all entries together may have.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.limit = limit

    def prepare(self) -> None:
        """Make the folder, and remove what fetches of dead agents left there.

        Raises:
            ConfigurationError: It belongs to somebody else, or is no folder.
        """
        make_private(self.folder, "--cache-dir")
        for part in self.folder.glob(f"*{_PART}*"):
            lock = _Lock.try_alone(self._lock_path(part.name.partition(_PART)[0]))
            if lock is not None:
                if lock.is_sure:
                    _remove(part)
                lock.close()

    def entry(self, key: str, bring: Bring, keep_going: Callable[[], bool]) -> Entry:
        """An entry, brought by one of those who ask for it, while the others wait.

        Args:
            key: Names the content; good as a file name.
            bring: Called in this thread by the one who brings it.
            keep_going: Asked several times a second while there is nothing to do but to wait.

        Raises:
            DataUnavailable: It could not be brought, by this caller or by the one that this one waited for.
            FetchInterrupted: *keep_going* said no.
            OSError: The disk.
        """
        since = time.time()
        for _ in range(_MAX_TRIES):
            if self._content(key) is not None:
                lock = _Lock.wait(self._lock_path(key), fcntl.LOCK_SH, keep_going)
                content = self._content(key)
                if content is not None:
                    lock.touch()
                    return Entry(content, lock)
                lock.close()
            self._bring_alone(key, bring, since, keep_going)
        raise DataUnavailable(f"{self.folder} is too small: what was fetched is removed at once for other inputs")

    def _bring_alone(self, key: str, bring: Bring, since: float, keep_going: Callable[[], bool]) -> None:
        lock = _Lock.try_alone(self._lock_path(key))
        while lock is None:
            if self._content(key) is not None:
                return  # somebody else has brought it and uses it, perhaps for days
            _wait(keep_going)
            lock = _Lock.try_alone(self._lock_path(key))
        with lock:
            if self._content(key) is not None:
                return
            lock.raise_failure(since)
            if lock.is_sure:
                for part in self.folder.glob(f"{key}{_PART}*"):
                    _remove(part)
            try:
                self._store(key, bring)
            except DataUnavailable as error:
                lock.note_failure(str(error))
                raise
            lock.touch()

    def _store(self, key: str, bring: Bring) -> None:
        part = Path(tempfile.mkdtemp(dir=self.folder, prefix=f"{key}{_PART}"))
        try:
            with _explained(self.folder):
                work, entry = part / "work", part / "entry"
                work.mkdir()
                entry.mkdir()
                content = bring(work, Allowance(lambda size: self._make_room(size, part)))
                os.rename(content, entry / content.name)
                _seal(entry / content.name)
                self._make_room(_size(entry), part)
                self._publish(entry, self.folder / key)
        finally:
            _remove(part)

    def _publish(self, entry: Path, target: Path) -> None:
        try:
            os.rename(entry, target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return  # no locks here, and another agent was faster
        _sync(self.folder)

    def _make_room(self, size: int, part: Path) -> None:
        """Remove what was not used for longest until *size* more bytes fit, besides what *part* has already."""
        if size > self.limit:
            raise DataUnavailable(
                f"{show_size(size)} do not fit into the cache of {show_size(self.limit)}; "
                "start the agent with a larger --cache-size"
            )
        with _Lock.wait(self.folder / f".room{_LOCK}", fcntl.LOCK_EX, lambda: True) as lock:
            total = sum(_size(entry) for entry in self._entries()) + sum(
                _size(other) for other in self.folder.glob(f"*{_PART}*") if other != part
            )
            oldest_first = sorted(self._entries(), key=self._last_used)
            while total + size > self.limit and oldest_first and lock.is_sure:
                total -= self._evict(oldest_first.pop(0).name)
        if total + size > self.limit and lock.is_sure:
            raise DataUnavailable(
                f"{show_size(size)} do not fit into the cache beside {show_size(total)} that are in use or on their "
                f"way; start the agent with a larger --cache-size than {show_size(self.limit)}"
            )

    def _evict(self, key: str) -> int:
        """Remove an entry that nobody uses; how many bytes that gave."""
        lock = _Lock.try_alone(self._lock_path(key))
        if lock is None:
            return 0
        with lock:
            entry = self.folder / key
            if not lock.is_sure or not entry.exists():
                return 0
            size = _size(entry)
            gone = Path(tempfile.mkdtemp(dir=self.folder, prefix=f"{key}{_PART}"))
            os.rename(entry, gone / "entry")
            _remove(gone)
            lock.remove()
            return size

    def _entries(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.is_dir() and _PART not in path.name]

    def _last_used(self, entry: Path) -> float:
        try:
            return self._lock_path(entry.name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _content(self, key: str) -> Path | None:
        """What an entry holds; None if there is none, or if somebody who tidies up temporary folders emptied it."""
        try:
            return next((self.folder / key).iterdir(), None)
        except FileNotFoundError:
            return None

    def _lock_path(self, key: str) -> Path:
        return self.folder / f"{key}{_LOCK}"


class _Lock:
    """An open lock file.

    Attributes:
        is_sure: Whether the file system really holds others off.
    """

    def __init__(self, path: Path, descriptor: int, is_sure: bool) -> None:
        self._path = path
        self._descriptor = descriptor
        self.is_sure = is_sure

    @classmethod
    def wait(cls, path: Path, kind: int, keep_going: Callable[[], bool]) -> _Lock:
        """Wait for a lock."""
        lock = cls._try(path, kind)
        while lock is None:
            _wait(keep_going)
            lock = cls._try(path, kind)
        return lock

    @classmethod
    def try_alone(cls, path: Path) -> _Lock | None:
        """Lock out everybody else, or return None if somebody has the lock."""
        return cls._try(path, fcntl.LOCK_EX)

    @classmethod
    def _try(cls, path: Path, kind: int) -> _Lock | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            return cls(path, descriptor, is_sure=False)
        if _is_there(path, descriptor):
            return cls(path, descriptor, is_sure=True)
        os.close(descriptor)
        return None  # its last holder has removed it meanwhile; the next try makes another

    def __enter__(self) -> _Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def touch(self) -> None:
        """Note that the entry is in use now, and that fetching it does not fail any more."""
        os.ftruncate(self._descriptor, 0)
        os.utime(self._descriptor)

    def note_failure(self, message: str) -> None:
        """Leave word for those who wait that their fetch would fail, too."""
        text = json.dumps({"at": time.time(), "message": message})
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def raise_failure(self, since: float) -> None:
        """Fail as the fetch did for which the caller has waited *since* then, if it did."""
        try:
            failure: dict[str, Any] = json.loads(os.pread(self._descriptor, 65536, 0) or b"{}")
        except ValueError:
            return
        if failure.get("at", 0.0) >= since:
            raise DataUnavailable(failure["message"])

    def remove(self) -> None:
        """Remove the file, too; those who wait for it make another."""
        self._path.unlink()

    def close(self) -> None:
        """Let go."""
        os.close(self._descriptor)


def show_size(size: int) -> str:
    """A size for people.

    >>> show_size(1536 * 2**20), show_size(17)
    ('1.5 GiB', '17 bytes')
    """
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def _wait(keep_going: Callable[[], bool]) -> None:
    if not keep_going():
        raise FetchInterrupted("waiting for an input that somebody else fetches")
    time.sleep(_LOOK)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """A full disk is no accident of the agent: say what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        fix = "free some space, or name another disk with --cache-dir"
        raise DataUnavailable(f"the disk of {folder} is full ({os.strerror(error.errno)}); {fix}") from error


def _files(path: Path) -> Iterator[Path]:
    """All files of a file or folder."""
    if path.is_symlink() or not path.is_dir():
        yield path
    for parent, _, names in os.walk(path):
        yield from (Path(parent, name) for name in names)


def _size(path: Path) -> int:
    total = 0
    for file in _files(path):
        try:
            total += file.lstat().st_size
        except FileNotFoundError:
            pass  # somebody else's fetch has ended
    return total


def _seal(content: Path) -> None:
    """Bring it to the disk for good, and let nobody write to it."""
    for file in _files(content):
        if file.is_file() and not file.is_symlink():
            _sync(file)
            file.chmod(0o555 if file.stat().st_mode & 0o100 else 0o444)
    for parent, _, _ in os.walk(content, topdown=False):
        _sync(Path(parent))
        os.chmod(parent, 0o555)  # noqa: S103 - the cache itself is closed; a container may have another user


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove a folder with whatever is in it, also from under a fetch that nobody waits for any more."""
    for parent, _, _ in os.walk(folder):
        with suppress(OSError):
            os.chmod(parent, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
