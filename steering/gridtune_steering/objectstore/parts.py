"""Parts of an upload, written at their places into one file.

For each part there are up to two small files beside the content: ``claim-N`` names the request that writes the part,
and ``part-N``, the marker, says that it is finished. A request claims the part under a lock, and looks again, under the
lock, before every block that it writes. So of two requests for one part the later one wins, and nobody
touches a finished part.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gridtune_steering.objectstore import disk
from gridtune_steering.objectstore.port import NoSuchUpload, PartTakenOver, WrongChecksum

CONTENT: Final = "content"


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
    """One request's hold on a part."""

    def __init__(self, folder: Path, part: int, offset: int, claim: int) -> None:
        self._folder = folder
        self._part = part
        self._offset = offset
        self._claim = claim
        self._name = secrets.token_bytes(16)
        self._content = -1
        with self._alone():
            self._finished = marker(folder, part)
            if self._finished is None:
                # opened after the look at the marker: once an upload is finished, its content is elsewhere
                self._content = _open(folder / CONTENT, os.O_WRONLY)
                os.pwrite(claim, self._name, 0)

    def close(self) -> None:
        """Let go of the content."""
        if self._content >= 0:
            os.close(self._content)

    def write(self, block: bytes) -> None:
        """Write the next bytes; of a finished part nothing is written.

        Raises:
            PartTakenOver: A later request writes this part.
        """
        if self._finished is None:
            with self._alone():
                self._check_claim()
                self._offset += _write_all(self._content, block, self._offset)

    def finish(self, size: int, md5: str) -> None:
        """Mark the part, once its bytes are on disk.

        Raises:
            WrongChecksum: It was finished before, with other bytes.
        """
        if self._finished is not None:
            if self._finished != Marker(size, md5):
                raise WrongChecksum(f"part {self._part} was finished before with other bytes; begin the upload anew")
            return
        os.fdatasync(self._content)
        with self._alone():
            self._check_claim()
            content = json.dumps({"size": size, "md5": md5}).encode()
            disk.write_durably(self._folder / f"part-{self._part}", content)

    def _check_claim(self) -> None:
        if os.pread(self._claim, 16, 0) != self._name:
            raise PartTakenOver(f"part {self._part} is being sent by a later request")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._claim, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._claim, fcntl.LOCK_UN)


@contextmanager
def writing(folder: Path, part: int, offset: int) -> Iterator[PartWriter]:
    """Take a part over.

    Raises:
        NoSuchUpload: The folder is gone, or its content.
    """
    claim = _open(folder / f"claim-{part}", os.O_RDWR | os.O_CREAT)
    try:
        writer = PartWriter(folder, part, offset, claim)
        try:
            yield writer
        finally:
            writer.close()
    finally:
        os.close(claim)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise NoSuchUpload(path.parent.name) from error


def _write_all(descriptor: int, block: bytes, offset: int) -> int:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    return len(block)
