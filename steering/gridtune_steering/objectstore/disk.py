"""Files that are there for good once a function has returned, and the errors of disks in our own words."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridtune_steering.objectstore.port import BadKey, StoreAway, StoreFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: How often a folder is made again that somebody else removes, since it is empty, before the file is in it.
_TRIES = 100


@contextmanager
def translated(root: Path) -> Iterator[None]:
    """Say in our own words what the disk below *root* refuses."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"there is no room left below {root}: make room, or give the store another folder"
            ) from error
        raise StoreAway(f"the store's folder {root} cannot be used: {error.strerror} ({error.filename})") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file in a folder that exists; whoever looks finds all of it or nothing."""
    draft = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folders(path: Path, root: Path) -> None:
    """Make a file's name durable, and those of the folders that lead to it from *root*."""
    for folder in path.parents:
        sync_folder(folder)
        if folder == root:
            return


def move(source: Path, target: Path, root: Path) -> None:
    """Rename a file to a place below *root*, making the folders that it needs; durable after `sync_folders`.

    Raises:
        BadKey: The place is a folder, or below a file.
        FileNotFoundError: There is no such source.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            return
        if target.is_dir() or any(folder.is_file() for folder in target.parents):
            raise BadKey(f"{target.relative_to(root)} is the folder of another object, or below one")
        source.lstat()
    raise StoreAway(f"the folder {target.parent} goes as often as it is made")


def remove_file(path: Path, root: Path) -> None:
    """Delete a file, if it is one, and the folders below *root* that it leaves empty."""
    try:
        path.unlink()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return
    for folder in path.parents:
        if folder == root:
            return
        try:
            folder.rmdir()
        except OSError:  # something else is in it
            return


def walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """All files below, each with its path from here, in order of these paths; what vanishes meanwhile is left out."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        entries = sorted((f"{entry.name}/" if entry.is_dir() else entry.name, entry) for entry in found)
        for name, entry in entries:
            if name.endswith("/"):
                yield from walk(folder / entry.name, prefix + name)
                continue
            with contextlib.suppress(FileNotFoundError):
                yield prefix + name, entry.stat()
