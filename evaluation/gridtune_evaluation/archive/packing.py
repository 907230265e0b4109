"""Packing files at rest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tarfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Callable, Final

from gridtune_common.protocol.storage import ArchiveFormat
from gridtune_evaluation.archive.compression import best_format, compressed
from gridtune_evaluation.archive.deltas import (
    DELTA_FORMATS,
    SMALL_BYTES,
    WORTHWHILE_SHARE,
    Delta,
    add_manifest,
    find_delta,
)
from gridtune_evaluation.archive.errors import Restless
from gridtune_evaluation.archive.listing import (
    Entry,
    Fingerprint,
    differences,
    fingerprint_of,
    list_entries,
    list_settled,
)
from gridtune_evaluation.archive.tree import Tree

_BLOCK: Final = 2**20


@dataclass(frozen=True)
class Packed:
    """An archive on disk.

    Attributes:
        size: In bytes.
        sha256: Of all bytes, in hex.
        n_files: Files and links; folders are not counted.
        fingerprint: To be handed to the next `pack`.
        at_rest: What can be told to be unchanged later; if the archive is whole, a base for the next ones.
    """

    size: int
    sha256: str
    format: ArchiveFormat
    n_files: int
    fingerprint: Fingerprint
    at_rest: Mapping[str, Entry] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Unchanged:
    """The files are those of the snapshot before; nothing was written."""

    fingerprint: Fingerprint


def pack(
    root: Path,
    patterns: Sequence[str],
    target: Path,
    *,
    before: Fingerprint | None = None,
    base: Mapping[str, Entry] | None = None,
    small: int = SMALL_BYTES,
    share: float = WORTHWHILE_SHARE,
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
        base: What is in a whole archive as it was when that was packed or unpacked, to make a delta of it.
        small: Snapshots of fewer bytes are packed whole.
        share: So are those of whose bytes a larger share changed.
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
        listing = list_settled(root, patterns, without, sleep)
        entries = listing.entries
        if not entries:
            return None
        fingerprint = fingerprint_of(entries)
        if fingerprint == before:
            return Unchanged(fingerprint)
        delta = None if base is None else find_delta(entries, base, small=small, share=share)
        try:
            size, sha256 = _write(root, entries, delta, target, chosen)
        except _Moved as moved:
            changed = [moved.name]
            continue
        changed = differences(entries, list_entries(root, patterns, without))
        if not changed:
            n_files = sum(not entry.is_folder for entry in entries.values())
            made = chosen if delta is None else DELTA_FORMATS[chosen]
            return Packed(size, sha256, made, n_files, fingerprint, listing.at_rest)
        target.unlink()
    raise Restless(changed)


class _Moved(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, name: str) -> None:
        self.name = name


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


def _write(
    root: Path, entries: Mapping[str, Entry], delta: Delta | None, target: Path, form: ArchiveFormat
) -> tuple[int, str]:
    try:
        with open(target, "wb") as file:
            tally = _Tally(file)
            with compressed(tally, form) as stream:
                _write_tar(root, entries, delta, stream)
        return tally.size, tally.sha256
    except BaseException:  # whatever it was, half an archive must not stay; it goes on to the caller
        with contextlib.suppress(OSError):
            target.unlink()
        raise


def _write_tar(root: Path, entries: Mapping[str, Entry], delta: Delta | None, stream: Any) -> None:
    # No `with`: it would write an end of the archive on errors, too, and so onto a full disk.
    tar = tarfile.TarFile(mode="w", fileobj=stream, format=tarfile.PAX_FORMAT, copybufsize=_BLOCK)
    if delta is not None:
        add_manifest(tar, delta.manifest)
    with _tree(root) as tree:
        for name, entry in (entries if delta is None else delta.changed).items():
            member = _member(name, entry)
            if not member.isreg():
                tar.addfile(member)
                continue
            with _opened(tree, name, entry) as file:
                tar.addfile(member, _Exactly(file, name))  # type: ignore[arg-type]  # all that is asked of it is read()
    tar.close()


def _tree(root: Path) -> Tree:
    try:
        return Tree(root)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Moved(".") from error


def _member(name: str, entry: Entry) -> tarfile.TarInfo:
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
def _opened(tree: Tree, name: str, entry: Entry) -> Iterator[IO[bytes]]:
    """The very file that was listed, whatever may have taken its place."""
    try:
        file = tree.open(name)
    except PermissionError:
        raise
    except OSError as error:
        raise _Moved(name) from error
    with file:
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != (entry.device, entry.inode):
            raise _Moved(name)
        yield file
