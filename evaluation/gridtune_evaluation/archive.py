"""Snapshots of a payload's files: packed when they are at rest, unpacked whole or not at all.

An archive is a tar, compressed by zstd where this Python has one. Gzip is not made: it takes minutes for a
gigabyte of weights and hardly makes them smaller. It is read, though.

Nothing here trusts an archive. tarfile's own extraction is not used, because its safe filter is missing in early
patch releases of Python 3.9 to 3.11 and was mended several times since. Only files, folders and links inside are
written, by this module itself, and links come last, when there is nothing left that could be written through them.

::

    ArchiveError
    ├── Restless   files kept changing while they were packed
    ├── Damaged    the archive is not the one that was packed
    ├── Unsafe     a member would be written elsewhere, or is no file, folder or link
    └── Unreadable this Python cannot read the archive
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import posixpath
import re
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Callable, Final

from gridtune_common.errors import GridtuneError
from gridtune_common.protocol.storage import ArchiveFormat

_BLOCK: Final = 2**20
#: A file system's clock ticks every few milliseconds; two writes within one tick look like one.
_TICK_SECONDS: Final = 0.05
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC: Final = b"\x1f\x8b"


class ArchiveError(GridtuneError):
    """A snapshot could not be made or put back."""


class Restless(ArchiveError):  # noqa: N818 - named for the fact
    """Files kept changing while they were packed.

    Attributes:
        names: Which, relative to the root.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        shown = ", ".join(self.names[:5]) + (" and others" if len(self.names) > 5 else "")
        super().__init__(f"{shown} kept changing; write to another name first and rename when done")


class Damaged(ArchiveError):  # noqa: N818
    """A file is not the one that was stored."""


class Unsafe(ArchiveError):  # noqa: N818
    """A member of an archive would be written elsewhere, or is no file, folder or link."""


class Unreadable(ArchiveError):  # noqa: N818
    """This Python cannot read the archive."""


@dataclass(frozen=True)
class Fingerprint:
    """What a snapshot's files looked like from outside; equal ones stand for equal contents."""

    digest: str


@dataclass(frozen=True)
class Packed:
    """An archive on disk.

    Attributes:
        size: In bytes.
        sha256: Of all bytes, in hex.
        n_files: Files and links; folders are not counted.
        fingerprint: To be handed to the next `pack`.
    """

    size: int
    sha256: str
    format: ArchiveFormat
    n_files: int
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Unchanged:
    """The files are those of the snapshot before; nothing was written."""

    fingerprint: Fingerprint


def best_format() -> ArchiveFormat:
    """What `pack` makes unless it is told otherwise."""
    return ArchiveFormat.TAR if _zstd() is None else ArchiveFormat.TAR_ZSTD


def pack(
    root: Path,
    patterns: Sequence[str],
    target: Path,
    *,
    before: Fingerprint | None = None,
    without: Collection[str] = (),
    form: ArchiveFormat | None = None,
    attempts: int = 5,
    pause_seconds: float = 1.0,
    sleep: Callable[[float], object] = time.sleep,
) -> Packed | Unchanged | None:
    """Archive what matches below *root*; None if nothing does.

    Files, folders and links that stay inside are packed, links together with what they point to. Linked folders are
    not entered. A name that begins with a dot matches only a pattern that does.

    Args:
        root: The payload's working directory.
        patterns: Relative paths; ``*`` and ``?`` match names; a folder stands for everything in it.
        target: The archive's file, outside of *root*.
        before: The fingerprint of the last snapshot.
        without: Files and folders that no pattern reaches.
        form: ``TAR`` or ``TAR_ZSTD``; None for the best that there is.
        attempts: How often to try to find the files at rest.
        pause_seconds: The time between two tries.
        sleep: How to wait.

    Raises:
        Restless: The files changed during every try.
        Unreadable: *form* is not available here.
        OSError: The disk; there is no half *target* then.
    """
    chosen = best_format() if form is None else form
    changed: Sequence[str] = ()
    for attempt in range(attempts):
        if attempt:
            sleep(pause_seconds)
        entries = _settled(root, patterns, without, sleep)
        if not entries:
            return None
        fingerprint = _fingerprint(entries)
        if fingerprint == before:
            return Unchanged(fingerprint)
        try:
            size, sha256 = _write(root, entries, target, chosen)
        except _Moved as moved:
            changed = [moved.name]
            continue
        changed = _differences(entries, _listing(root, patterns, without))
        if not changed:
            n_files = sum(not entry.is_folder for entry in entries.values())
            return Packed(size, sha256, chosen, n_files, fingerprint)
        target.unlink()
    raise Restless(changed)


def unpack(archive: Path, root: Path, sha256: str, size: int) -> None:
    """Put an archive's files below *root*, replacing what is there under their names.

    Raises:
        Damaged: The file does not have this size and checksum; nothing was written.
        Unsafe: It holds what no snapshot holds; nothing was written.
        Unreadable: It is compressed in a way that this Python does not know; nothing was written.
        OSError: The disk. Until all files are on it, *root* stays as it was.
    """
    verify(archive, sha256, size)
    root.mkdir(parents=True, exist_ok=True)
    # Beside the archive: on the same file system, so that files move into place, and swept with it if this is killed.
    draft = Path(tempfile.mkdtemp(dir=archive.parent, prefix=f".{root.name[:32]}."))
    try:
        _extract(archive, draft)
        _merge(draft, root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def verify(path: Path, sha256: str, size: int) -> None:
    """Raise `Damaged` unless a file has this size and checksum."""
    found = path.stat().st_size
    if found != size:
        raise Damaged(f"{path} has {found} bytes instead of {size}; fetch it again")
    digest, _ = checksum(path)
    if digest != sha256.lower():
        raise Damaged(f"{path} has another SHA-256 than what was stored ({digest}); fetch it again")


def checksum(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file, in hex, and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def fingerprint(root: Path, patterns: Sequence[str], without: Collection[str] = ()) -> Fingerprint:
    """What the files below *root* look like now, to be told from how they look later."""
    return _fingerprint(_listing(root, patterns, without))


def newest_change(root: Path, patterns: Sequence[str], without: Collection[str] = ()) -> float | None:
    """When one of the files was touched last, in seconds since 1970; None if there is none."""
    times = [entry.mtime_ns / 1e9 for entry in _listing(root, patterns, without).values() if entry.mtime_ns]
    return max(times, default=None)


# --- what there is


class _Moved(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(frozen=True)
class _Entry:
    """One file, folder or link; equal if nobody touched it."""

    mode: int
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    link: str = ""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


def _settled(
    root: Path, patterns: Sequence[str], without: Collection[str], sleep: Callable[[float], object]
) -> dict[str, _Entry]:
    entries = _listing(root, patterns, without)
    if any(0 <= time.time() - entry.mtime_ns / 1e9 < _TICK_SECONDS for entry in entries.values()):
        sleep(_TICK_SECONDS)
        entries = _listing(root, patterns, without)
    return entries


def _listing(root: Path, patterns: Sequence[str], without: Collection[str] = ()) -> dict[str, _Entry]:
    census = _Census(root, without)
    for pattern in patterns:
        for name in _matches(root, [part for part in pattern.split("/") if part not in ("", ".")]):
            census.add(name)
    return dict(sorted(census.entries.items()))


def _matches(root: Path, parts: Sequence[str], below: str = "") -> Iterator[str]:
    if not parts:
        yield below
        return
    first, rest = parts[0], parts[1:]
    for name in _names(root / below, first):
        path = posixpath.join(below, name)
        if not rest or not (root / path).is_symlink():
            yield from _matches(root, rest, path)


def _names(folder: Path, pattern: str) -> list[str]:
    """Names in *folder* that match, by the rules of a shell without brackets."""
    if pattern == "..":
        return []
    if "*" not in pattern and "?" not in pattern:
        return [pattern] if os.path.lexists(folder / pattern) else []
    expression = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
    hidden = pattern.startswith(".")
    return [name for name in _inside(folder) if expression.fullmatch(name) and (hidden or not name.startswith("."))]


def _inside(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


class _Census:
    """Collects entries by their names relative to the root."""

    def __init__(self, root: Path, without: Collection[str] = ()) -> None:
        self._root = root
        self._without = frozenset(without)
        self._real_root = os.path.realpath(root)
        self.entries: dict[str, _Entry] = {}

    def add(self, name: str) -> None:
        """Take a file, a link with what it points to, or a folder with all in it; leave out whatever else it is."""
        if name in self.entries or name in self._without or name.partition("/")[0] in self._without:
            return
        try:
            status = os.lstat(self._root / name)
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISREG(status.st_mode):
            mode, times = status.st_mode, (status.st_mtime_ns, status.st_ctime_ns)
            self.entries[name] = _Entry(mode, status.st_ino, status.st_size, *times)
        elif stat.S_ISDIR(status.st_mode):
            if name:
                # A folder's own times change with files that are not part of the snapshot.
                self.entries[name] = _Entry(status.st_mode)
            for inner in _inside(self._root / name):
                self.add(posixpath.join(name, inner))
        elif stat.S_ISLNK(status.st_mode):
            self._add_link(name, status.st_mode)

    def _add_link(self, name: str, mode: int) -> None:
        aim = self._aim(name)
        if aim is None:
            return
        self.entries[name] = _Entry(mode, link=posixpath.relpath(aim or ".", posixpath.dirname(name) or "."))
        self._add_behind(aim)

    def _add_behind(self, aim: str) -> None:
        """What a link points to, which may itself lie behind other links."""
        parts = aim.split("/")
        for count in range(1, len(parts)):
            outer = "/".join(parts[:count])
            if os.path.islink(self._root / outer):
                self.add(outer)  # and with it the whole folder behind it
                return
        # A link to the root or to a folder above itself adds nothing but the rest of the root.
        if aim:
            self.add(aim)

    def _aim(self, name: str) -> str | None:
        """Where a link points, relative to the root; None if outside, or if only the kernel can tell."""
        path = self._root / name
        try:
            aim = os.readlink(path)
        except OSError:
            return None
        for root in (os.path.abspath(self._root), self._real_root):
            if posixpath.isabs(aim) and posixpath.commonpath([root, posixpath.normpath(aim)]) == root:
                aim = posixpath.relpath(aim, posixpath.join(root, posixpath.dirname(name)))
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), aim))
        if _leads_out(inside) or os.path.realpath(self._root / inside) != os.path.realpath(path):
            return None
        real = os.path.realpath(path)
        if real != self._real_root and not real.startswith(self._real_root + "/"):
            return None
        return "" if inside == "." else inside


def _leads_out(path: str) -> bool:
    return posixpath.isabs(path) or path == ".." or path.startswith("../")


def _fingerprint(entries: Mapping[str, _Entry]) -> Fingerprint:
    rows = [
        [os.fsencode(name).hex(), entry.mode, entry.inode, entry.size, entry.mtime_ns, entry.ctime_ns, entry.link]
        for name, entry in entries.items()
    ]
    return Fingerprint(hashlib.sha256(json.dumps(rows).encode()).hexdigest())


def _differences(before: Mapping[str, _Entry], after: Mapping[str, _Entry]) -> list[str]:
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


# --- packing


class _Tally:
    """A file that counts and hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, block: bytes) -> int:
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)
        return len(block)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()


class _Exactly:
    """The file as it was listed; anything else is a move."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    def read(self, n_bytes: int) -> bytes:
        block = self._file.read(n_bytes)
        if len(block) < n_bytes:
            raise _Moved(self._name)
        return block


def _write(root: Path, entries: Mapping[str, _Entry], target: Path, form: ArchiveFormat) -> tuple[int, str]:
    try:
        with open(target, "wb") as file:
            tally = _Tally(file)
            with _compressed(tally, form) as stream:
                _write_tar(root, entries, stream)
        return tally.size, tally.sha256
    except BaseException:  # whatever it was, half an archive must not stay; it goes on to the caller
        with contextlib.suppress(OSError):
            target.unlink()
        raise


def _write_tar(root: Path, entries: Mapping[str, _Entry], stream: Any) -> None:
    # No `with`: it would write an end of the archive on errors, too, and so onto a full disk.
    tar = tarfile.TarFile(mode="w", fileobj=stream, format=tarfile.PAX_FORMAT, copybufsize=_BLOCK)
    for name, entry in entries.items():
        member = _member(name, entry)
        if not member.isreg():
            tar.addfile(member)
            continue
        with _opened(root / name, name, entry) as file:
            tar.addfile(member, _Exactly(file, name))  # type: ignore[arg-type]  # all that is asked of it is read()
    tar.close()


def _member(name: str, entry: _Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = stat.S_IMODE(entry.mode) & 0o777
    member.mtime = entry.mtime_ns / 1e9  # who picks the newest of several checkpoints needs the fractions
    if entry.is_folder:
        member.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(entry.mode):
        member.type, member.linkname = tarfile.SYMTYPE, entry.link
    else:
        member.size = entry.size
    return member


@contextmanager
def _opened(path: Path, name: str, entry: _Entry) -> Iterator[IO[bytes]]:
    """The very file that was listed: no link, and no pipe that blocks, may have taken its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if isinstance(error, PermissionError) and os.path.lexists(path):
            raise
        raise _Moved(name) from error
    with open(descriptor, "rb") as file:
        if os.fstat(descriptor).st_ino != entry.inode:
            raise _Moved(name)
        yield file


# --- compression


@dataclass(frozen=True)
class _Zstd:
    """A zstd library behind one face."""

    writer: Callable[[Any], Any]
    reader: Callable[[IO[bytes]], IO[bytes]]
    error: type[Exception]


def _zstd() -> _Zstd | None:
    """The standard library's (Python 3.14), or else the package zstandard's; both are optional."""
    # Imported by name: neither is known to the oldest Python that this has to run on.
    with contextlib.suppress(ImportError):
        own = importlib.import_module("compression.zstd")
        return _Zstd(lambda file: own.ZstdFile(file, "w"), lambda file: own.ZstdFile(file, "r"), own.ZstdError)
    with contextlib.suppress(ImportError):
        package = importlib.import_module("zstandard")
        return _Zstd(
            lambda file: package.ZstdCompressor().stream_writer(file, closefd=False),
            lambda file: package.ZstdDecompressor().stream_reader(file, closefd=False, read_across_frames=True),
            package.ZstdError,
        )
    return None


@contextmanager
def _compressed(tally: _Tally, form: ArchiveFormat) -> Iterator[Any]:
    if form is ArchiveFormat.TAR:
        yield tally
        return
    if form is not ArchiveFormat.TAR_ZSTD:
        raise Unreadable(f"{form.value} is not packed here; choose tar or tar.zst")
    with _needed_zstd().writer(tally) as stream:
        yield stream


def _needed_zstd() -> _Zstd:
    zstd = _zstd()
    if zstd is None:
        raise Unreadable("tar.zst needs Python 3.14 or a package: pip install zstandard")
    return zstd


# --- unpacking


def _extract(archive: Path, draft: Path) -> None:
    errors: tuple[type[Exception], ...] = (tarfile.TarError, EOFError)
    with open(archive, "rb") as file:
        magic = file.read(len(_ZSTD_MAGIC))
        file.seek(0)
        mode: Any = "r|"  # tarfile's overloads know literals alone
        stream: IO[bytes] = file
        if magic.startswith(_GZIP_MAGIC):
            mode = "r|gz"
        elif magic == _ZSTD_MAGIC:
            zstd = _needed_zstd()
            stream, errors = zstd.reader(file), (*errors, zstd.error)
        try:
            with tarfile.open(mode=mode, fileobj=stream, bufsize=_BLOCK) as tar:
                _extract_members(tar, tar, draft)
        except errors as error:
            raise Damaged(f"{archive} is no archive: {error}") from error


def _extract_members(tar: tarfile.TarFile, members: Iterable[tarfile.TarInfo], draft: Path) -> None:
    links: dict[str, str] = {}
    seen: set[str] = set()
    for member in members:
        name = _checked_name(member)
        if name in seen:
            raise Unsafe(f"the archive has two members {name!r}")
        seen.add(name)
        path = draft / name
        if member.issym():
            links[name] = _checked_aim(name, member.linkname)
        elif member.isdir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif member.isreg():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _extract_file(tar, member, path)
        else:
            raise Unsafe(f"{name!r} in the archive is no file, folder or symbolic link")
    for name, aim in links.items():
        _check_lies_in_folders(name, links)
        path = draft / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.symlink(aim, path)


def _checked_name(member: tarfile.TarInfo) -> str:
    parts = member.name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in member.name:
        raise Unsafe(f"{member.name!r} in the archive is no plain relative path")
    return member.name


def _checked_aim(name: str, aim: str) -> str:
    """A link's target, which climbs first and then goes down.

    Climbing starts in a true folder, so counting its steps is exact, and whatever link is met on the way down
    keeps this same rule. So no chain of links leads out.
    """
    parts = aim.split("/")
    n_climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    plain = aim == "." or not any(part in ("", ".", "..") for part in parts[n_climbs:])
    if not plain or n_climbs > name.count("/"):
        raise Unsafe(f"the link {name!r} in the archive leads to {aim!r}")
    return aim


def _check_lies_in_folders(name: str, links: Mapping[str, str]) -> None:
    parts = name.split("/")
    if any("/".join(parts[:count]) in links for count in range(1, len(parts))):
        raise Unsafe(f"{name!r} in the archive lies behind a link")


def _extract_file(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise Unsafe(f"{member.name!r} in the archive has no content")
    # Owner's bits alone: nobody else has any business in a working directory.
    mode = 0o700 if member.mode & 0o100 else 0o600
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)
    with contextlib.suppress(ValueError, OverflowError):  # a time that no clock shows
        os.utime(path, (member.mtime, member.mtime))


def _merge(source: Path, target: Path) -> None:
    """Move all of *source* over *target*; folders are joined, anything else is replaced."""
    for name in _inside(source):
        new, old = source / name, target / name
        if _is_folder(new) and _is_folder(old):
            _merge(new, old)
            continue
        if _is_folder(old):
            shutil.rmtree(old)
        elif _is_folder(new) and os.path.lexists(old):
            old.unlink()
        os.replace(new, old)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
