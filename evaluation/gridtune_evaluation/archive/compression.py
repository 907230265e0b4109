"""Archives are compressed by zstd where this Python has one, and not at all elsewhere.

Gzip is not made: it takes minutes for a gigabyte of weights and hardly makes them smaller. It is read, though.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Callable

from gridtune_common.protocol.storage import ArchiveFormat
from gridtune_evaluation.archive.errors import Unreadable


def best_format() -> ArchiveFormat:
    """What `pack` makes unless it is told otherwise."""
    return ArchiveFormat.TAR if find_zstd() is None else ArchiveFormat.TAR_ZSTD


@dataclass(frozen=True)
class Zstd:
    """A zstd library behind one face."""

    writer: Callable[[Any], Any]
    reader: Callable[[IO[bytes]], IO[bytes]]
    error: type[Exception]


def find_zstd() -> Zstd | None:
    """The standard library's (Python 3.14), or else the package zstandard's; both are optional."""
    # Imported by name: neither is known to the oldest Python that this has to run on.
    with contextlib.suppress(ImportError):
        own = importlib.import_module("compression.zstd")
        return Zstd(lambda file: own.ZstdFile(file, "w"), lambda file: own.ZstdFile(file, "r"), own.ZstdError)
    with contextlib.suppress(ImportError):
        package = importlib.import_module("zstandard")
        return Zstd(
            lambda file: package.ZstdCompressor().stream_writer(file, closefd=False),
            lambda file: package.ZstdDecompressor().stream_reader(file, closefd=False, read_across_frames=True),
            package.ZstdError,
        )
    return None


@contextmanager
def compressed(file: Any, form: ArchiveFormat) -> Iterator[Any]:
    """A stream that writes to *file* in a format.

    Raises:
        Unreadable: The format is not packed, or not available here.
    """
    if form is ArchiveFormat.TAR:
        yield file
        return
    if form is not ArchiveFormat.TAR_ZSTD:
        raise Unreadable(f"{form.value} is not packed here; choose tar or tar.zst")
    with needed_zstd().writer(file) as stream:
        yield stream


def needed_zstd() -> Zstd:
    """The library.

    Raises:
        Unreadable: There is none.
    """
    zstd = find_zstd()
    if zstd is None:
        raise Unreadable("tar.zst needs Python 3.14 or a package: pip install zstandard")
    return zstd
