"""Unpacking, whole or not at all. Nothing here trusts an archive.

tarfile's own extraction is not used, because its safe filter is missing in early patch releases of Python 3.9 to 3.11
and was mended several times since. Only files, folders and links inside are written, by this module itself, and links
come last, when there is nothing left that could be written through them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from gridtune_evaluation.archive.checksums import verify
from gridtune_evaluation.archive.compression import needed_zstd
from gridtune_evaluation.archive.deltas import read_manifest
from gridtune_evaluation.archive.errors import BadBase, Damaged, Unsafe
from gridtune_evaluation.archive.listing import names_in

_BLOCK: Final = 2**20
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True)
class Whole:
    """An archive on disk that a delta leans on, and what it should be."""

    path: Path
    sha256: str
    size: int


def unpack(archive: Path, root: Path, sha256: str, size: int, base: Whole | None = None) -> frozenset[str]:
    """Put an archive's files below *root*, replacing what is there under their names.

    Args:
        archive: The file.
        root: The payload's working directory.
        sha256: The file's checksum, in hex.
        size: In bytes.
        base: What the archive leans on, if it is a delta.

    Returns:
        The names of what comes from a whole archive: this one, or *base*.

    Raises:
        Damaged: The file does not have this size and checksum, or does not fit to its base; nothing was written.
        BadBase: There is something wrong with *base*; nothing was written.
        Unsafe: It holds what no snapshot holds; nothing was written.
        Unreadable: It is compressed in a way that this Python does not know; nothing was written.
        OSError: The disk. Until all files are on it, *root* stays as it was.
    """
    verify(archive, sha256, size)
    root.mkdir(parents=True, exist_ok=True)
    # Beside the archive: on the same file system, so that files move into place, and swept with it if this is killed.
    draft = Path(tempfile.mkdtemp(dir=archive.parent, prefix=f".{root.name[:32]}."))
    try:
        names = _draw_up(archive, base, draft)
        _merge(draft, root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return names


def _draw_up(archive: Path, base: Whole | None, folder: Path) -> frozenset[str]:
    draft = _Draft(folder)
    if base is None:
        with _opened(archive) as tar:
            draft.take(tar)
        names = frozenset(draft.names)
    else:
        with _opened(archive) as tar:
            names = read_manifest(tar)
            with _blaming_the_base():
                verify(base.path, base.sha256, base.size)
                with _opened(base.path) as whole:
                    draft.take(whole, only=names)
            if not names <= draft.names:
                raise Damaged(f"{archive} keeps {min(names - draft.names)!r} of its base, which does not have it")
            draft.take(tar)
    draft.link()
    return names


@contextmanager
def _blaming_the_base() -> Iterator[None]:
    try:
        yield
    except (Damaged, Unsafe) as error:
        raise BadBase(str(error)) from error


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    errors: tuple[type[Exception], ...] = (tarfile.TarError, EOFError)
    with open(archive, "rb") as file:
        magic = file.read(len(_ZSTD_MAGIC))
        file.seek(0)
        mode: Any = "r|"  # tarfile's overloads know literals alone
        stream: IO[bytes] = file
        if magic.startswith(_GZIP_MAGIC):
            mode = "r|gz"
        elif magic == _ZSTD_MAGIC:
            zstd = needed_zstd()
            stream, errors = zstd.reader(file), (*errors, zstd.error)
        try:
            with tarfile.open(mode=mode, fileobj=stream, bufsize=_BLOCK) as tar:
                yield tar
        except errors as error:
            raise Damaged(f"{archive} is no archive: {error}") from error


class _Draft:
    """A fresh folder for the members of one archive, or of a base and its delta, none of them twice.

    Attributes:
        names: Those that were taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._links: dict[str, str] = {}
        self.names: set[str] = set()

    def take(self, tar: tarfile.TarFile, only: Collection[str] | None = None) -> None:
        """Extract files and folders, from the next member on; links wait for `link`."""
        for member in iter(tar.next, None):  # tarfile's own iterator would begin again
            name = _checked_name(member)
            if only is None or name in only:
                self._note(name)
                with _refusing_clashes(name):
                    self._extract(tar, member, name)

    def link(self) -> None:
        """Make the links: nothing is left that could be written through them."""
        for name, aim in self._links.items():
            _check_lies_in_folders(name, self._links)
            with _refusing_clashes(name):
                os.symlink(aim, self._place(name))

    def _note(self, name: str) -> None:
        if name in self.names:
            raise Unsafe(f"the archive has two members {name!r}")
        self.names.add(name)

    def _extract(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        if member.issym():
            self._links[name] = _checked_aim(name, member.linkname)
        elif member.isdir():
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        elif member.isreg():
            _extract_file(tar, member, self._place(name))
        else:
            raise Unsafe(f"{name!r} in the archive is no file, folder or symbolic link")

    def _place(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


@contextmanager
def _refusing_clashes(name: str) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise Unsafe(f"{name!r} in the archive is in the way of another member") from error


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
    for name in names_in(source):
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
