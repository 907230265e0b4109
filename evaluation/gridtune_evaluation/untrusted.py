"""Files in a payload's own folder, which the payload may have made into anything: links, pipes, endless devices.

An agent may have rights that its payload does not, and must never wait for it. So from the working directory on no link
is followed but by hand, to where it leads inside, and nothing but a plain file is ever opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class PayloadFile:
    """A file that the payload makes, or may change.

    Attributes:
        root: The payload's working directory.
        path: Somewhere below.
    """

    root: Path
    path: Path

    def open(self) -> BinaryIO:
        """Open it for reading; raises as `open_plain` does."""
        return open_plain(self.root, self.path)

    def status(self) -> os.stat_result:
        """What is known of it; raises as `open_plain` does."""
        with self.open() as file:
            return os.fstat(file.fileno())

    def exists(self) -> bool:
        """Whether there is anything under its name."""
        return os.path.lexists(self.path)


def open_plain(root: Path, path: Path, *, hops: int = 8) -> BinaryIO:
    """Open a file below *root* for reading; so many links are followed, as long as they lead inside.

    Raises:
        FileNotFoundError: There is no plain file inside.
        OSError: The disk.
    """
    with _folder_of(root, path) as folder:
        try:
            descriptor = os.open(path.name, os.O_RDONLY | _PLAIN, dir_fd=folder)
        except OSError as error:
            inside = _link_inside(root, path, folder) if hops else None
            if inside is None:
                raise _absent(path) from error
            return open_plain(root, inside, hops=hops - 1)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _absent(path)
    return open(descriptor, "rb")


def read_plain(root: Path, path: Path, limit: int) -> bytes:
    """The first *limit* bytes of a file below *root*.

    Raises:
        OSError: As for `open_plain`.
    """
    with open_plain(root, path) as file:
        return file.read(limit)


def touch(root: Path, path: Path) -> None:
    """Make an empty file below *root*, for the payload to see, unless something is there.

    Raises:
        OSError: The folder is not there, or the disk.
    """
    with _folder_of(root, path) as folder, suppress(FileExistsError):
        os.close(os.open(path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o644, dir_fd=folder))


def unlink(root: Path, path: Path) -> None:
    """Remove a file below *root*.

    Raises:
        OSError: It is not there, or the disk.
    """
    with _folder_of(root, path) as folder:
        os.unlink(path.name, dir_fd=folder)


@contextmanager
def _folder_of(root: Path, path: Path) -> Iterator[int]:
    """The folder of a path below *root*, reached without following a link."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.relative_to(root).parts[:-1]:
            try:
                inner = os.open(part, _FOLDER, dir_fd=folder)
            except OSError as error:
                raise _absent(path) from error
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _link_inside(root: Path, path: Path, folder: int) -> Path | None:
    """Where a link leads to; None if there is none, or if it leads out."""
    try:
        aim = os.readlink(path.name, dir_fd=folder)
    except OSError:
        return None
    inside = os.path.normpath(path.parent / aim)
    return Path(inside) if inside.startswith(f"{root}{os.sep}") else None


def _absent(path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"there is no plain file {path}")
