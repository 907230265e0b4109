"""Parts of an upload, written at their places into one file.

For each part there are up to two small files beside the content: ``part-N``, the marker, says that it is finished, and
``lock-N`` is held for each block that is written and while the marker is made; it counts the requests that wrote.
Several requests may send one part, since senders give up and try again. The first whose bytes are all there marks the
part, and from then on nobody writes into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gridtune_steering.objectstore import disk
from gridtune_steering.objectstore.port import NoSuchUpload, WrongChecksum

CONTENT: Final = "content"
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Marker:
    """What is known of a finished part."""

    size: int
    md5: str


def marker(folder: Path, part: int) -> Marker | None:
    """The marker of a part, if it is finished."""
    try:
        return Marker(**json.loads((folder / f"part-{part}").read_bytes()))
    except FileNotFoundError:
        return None


class PartWriter:
    """What one request does to a part: nothing any more, once the part is finished."""

    def __init__(self, folder: Path, part: int, offset: int, lock: int, content: int) -> None:
        self._folder = folder
        self._part = part
        self._begin = self._next = offset
        self._lock = lock
        self._content = content
        self._finished: Marker | None = None
        self._is_first = False
        with self._alone():
            if self._is_open():
                self._is_first = self._count() == 0
                os.pwrite(lock, (self._count() + 1).to_bytes(8, "big"), 0)

    def write(self, block: bytes) -> None:
        """Write the next bytes, unless the part is finished."""
        with self._alone():
            if self._is_open():
                _write_all(self._content, block, self._next)
        self._next += len(block)

    def finish(self, size: int, md5: str) -> None:
        """Mark the part, once its bytes are on disk.

        Raises:
            WrongChecksum: Other bytes were sent for this part before, or just now by another request.
        """
        os.fdatasync(self._content)
        with self._alone():
            if self._is_open():
                self._check_bytes(size, md5)
                content = json.dumps({"size": size, "md5": md5}).encode()
                disk.write_durably(self._folder / f"part-{self._part}", content)
            elif self._finished != Marker(size, md5):
                raise WrongChecksum(f"part {self._part} was finished before with other bytes; begin the upload anew")

    def _is_open(self) -> bool:
        """Whether the part may be written; to be asked under the lock, and true as long as it is held."""
        self._finished = self._finished or marker(self._folder, self._part)
        if self._finished is not None:
            return False
        # in this order: content that is at its place now was no object yet when the marker was looked for
        if not _is_at(self._content, self._folder / CONTENT):
            raise NoSuchUpload(self._folder.name)
        return True

    def _check_bytes(self, size: int, md5: str) -> None:
        """Read the part again, if others may have written into it."""
        if self._is_first and self._count() == 1:
            return
        found = hashlib.md5(usedforsecurity=False)
        for place in range(self._begin, self._begin + size, _BLOCK):
            found.update(os.pread(self._content, min(_BLOCK, self._begin + size - place), place))
        if found.hexdigest() != md5:
            raise WrongChecksum(f"another request sent other bytes for part {self._part}; send it again")

    def _count(self) -> int:
        return int.from_bytes(os.pread(self._lock, 8, 0), "big")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


@contextmanager
def writing(folder: Path, part: int, offset: int) -> Iterator[PartWriter]:
    """Write a part.

    Raises:
        NoSuchUpload: The folder is gone, or its content.
    """
    with (
        _opened(folder / f"lock-{part}", os.O_RDWR | os.O_CREAT) as lock,
        _opened(folder / CONTENT, os.O_RDWR) as content,
    ):
        yield PartWriter(folder, part, offset, lock, content)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise NoSuchUpload(path.parent.name) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_all(descriptor: int, block: bytes, offset: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
