"""What a payload prints: packed for keeping, and followed while it grows."""

from __future__ import annotations

import codecs
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gridtune_evaluation.untrusted import PayloadFile

#: Bytes of an output that are kept, unpacked.
LIMIT: Final = 64 * 2**20
_CHUNK: Final = 2**20
#: The end of an output that travels with the last word, in bytes: of a short one all.
SHORT: Final = 8192
#: Bytes before a place in the file by which it is known again.
_MEMORY: Final = 64
_LEVEL: Final = 6


def compress(output: PayloadFile, target: Path, limit: int = LIMIT) -> None:
    """Pack an output by gzip; of a long one its beginning and its end, with a line between them that says so.

    The same output gives the same bytes. What is printed meanwhile is left out.

    Raises:
        OSError: There is no output, or the disk.
    """
    with output.open() as source, target.open("wb") as file:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as packed:
            for chunk in _kept(source, os.fstat(source.fileno()).st_size, limit):
                packed.write(chunk)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class Piece:
    """Some of an output.

    Attributes:
        text: What was printed; bytes that are no text are replaced.
        offset: Where to go on, in bytes from the file's beginning.
        restarted: The file has begun anew, and the text is from its beginning.
    """

    text: str
    offset: int
    restarted: bool = False


class Tail:
    """Follows a file that somebody else writes, and may also truncate or replace.

    Args:
        output: The file; it need not exist yet.
    """

    def __init__(self, output: PayloadFile) -> None:
        self._output = output
        self._inode = -1
        self._memory: tuple[int, bytes] = (0, b"")

    def since(self, offset: int, limit: int) -> Piece:
        """What is there from *offset* on, at most *limit* bytes, ending with a line or at least with a character.

        A character of which not all bytes are there yet waits for the next call.
        """
        try:
            with self._output.open() as file:
                return self._piece(file, offset, max(limit, 4))
        except FileNotFoundError:
            return Piece("", offset if self._inode == -1 else 0, restarted=self._inode != -1 and offset > 0)

    def _piece(self, file: BinaryIO, offset: int, limit: int) -> Piece:
        restarted = self._is_another(file, offset)
        start = 0 if restarted else offset
        file.seek(start)
        content = file.read(limit)
        if len(content) == limit:
            content = content[: content.rfind(b"\n") + 1] or content
        text, n_bytes = _text(content)
        self._remember(file, start + n_bytes)
        return Piece(text, start + n_bytes, restarted)

    def _is_another(self, file: BinaryIO, offset: int) -> bool:
        """Whether what is before the offset is not what was read there."""
        if not offset:
            return False
        status = os.fstat(file.fileno())
        if status.st_size < offset or self._inode not in (-1, status.st_ino):
            return True
        known_at, known = self._memory
        if known_at != offset:
            return False
        file.seek(offset - len(known))
        return file.read(len(known)) != known

    def _remember(self, file: BinaryIO, offset: int) -> None:
        self._inode = os.fstat(file.fileno()).st_ino
        file.seek(max(0, offset - _MEMORY))
        self._memory = (offset, file.read(min(offset, _MEMORY)))


def _text(content: bytes) -> tuple[str, int]:
    """The text of the bytes up to the last whole character, and how many bytes that are."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(content)
    waiting, _ = decoder.getstate()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}"), len(content) - len(waiting)


def _kept(source: BinaryIO, size: int, limit: int) -> Iterator[bytes]:
    if size <= limit:
        yield from _chunks(source, size)
        return
    head_end = _border(source, limit // 2)
    tail_begin = _border(source, size - (limit - limit // 2))
    source.seek(0)
    yield from _chunks(source, head_end)
    yield f"\n[… {tail_begin - head_end} bytes left out …]\n".encode()
    source.seek(tail_begin)
    yield from _chunks(source, size - tail_begin)


def _border(source: BinaryIO, offset: int) -> int:
    """The first place from *offset* on that is not inside of a character."""
    source.seek(offset)
    following = source.read(3)
    inside = next((n for n, byte in enumerate(following) if byte & 0xC0 != 0x80), len(following))
    return offset + inside


def _chunks(source: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = source.read(min(size, _CHUNK))
        if not chunk:
            return  # truncated meanwhile
        yield chunk
        size -= len(chunk)
