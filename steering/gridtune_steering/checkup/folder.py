"""The data folder, and what is secret in it."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gridtune_common.units import show_bytes
from gridtune_steering.checkup.finding import Finding, ok, warning, wrong

_CHECK: Final = "data folder"
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
#: Kinds of file systems that several machines share. SQLite's locks and its memory-mapped index do not.
_NETWORK: Final = re.compile(
    r"nfs\d*|cifs|smb\d*|smbfs|lustre|gpfs|beegfs.*|ceph|afs|9p|pvfs2|ocfs2|gfs2|glusterfs|panfs|wekafs|davfs"
    r"|fuse\.(sshfs|glusterfs|s3fs|rclone|mountpoint-s3|ceph.*|gcsfuse|moosefs|juicefs|davfs.*)"
)
#: Bytes free: below these a warning, and an end of it.
_LITTLE, _NONE = 2**30, 100 * 2**20


def examine(folder: Path, database_file: Path | None) -> Iterator[Finding]:
    """What to know of the folder before the service is started on it; *database_file* is SQLite's, if it is used."""
    existing = nearest(folder)
    yield _about_folder(folder, existing)
    yield _about_space(existing)
    if database_file is not None and (kind := filesystem(database_file.parent)) is not None and is_shared(kind):
        seen = f"{database_file.parent} is on a network file system ({kind}), where SQLite may lose data"
        yield warning("file system", seen, "put the data folder on a local disk, or use PostgreSQL")


def is_usable(folder: Path) -> bool:
    """Whether this is the service's own user, who may write there: others must leave nothing there."""
    return folder.is_dir() and folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)


def nearest(path: Path) -> Path:
    """The path, or the folder above it that exists."""
    return next(folder for folder in [path.absolute(), *path.absolute().parents] if folder.exists())


def filesystem(path: Path) -> str | None:
    """The kind of file system that a path is, or would be, on; None where the system does not say."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return None
    place, best, kind = nearest(path).resolve(), -1, None
    for line in lines:
        head, _, tail = line.partition(" - ")
        mount = Path(_ESCAPE.sub(lambda code: chr(int(code[1], 8)), head.split(" ")[4]))
        depth = len(mount.parts)
        if depth >= best and place.is_relative_to(mount):  # of two at one place the later one is on top
            best, kind = depth, tail.split(" ")[0]
    return kind


def is_shared(kind: str) -> bool:
    """Whether this kind of file system is on a network.

    >>> is_shared("nfs4"), is_shared("ext4")
    (True, False)
    """
    return _NETWORK.fullmatch(kind) is not None


def about_secret(check: str, path: Path) -> Finding | None:
    """What is wrong with a file that its owner alone should read; None if nothing is."""
    try:
        found = path.stat()
        path.read_bytes()
    except OSError as error:
        return wrong(check, f"{path} cannot be read: {error.strerror}", "run as the user of the service")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        verdict = wrong if mode & 0o007 else warning
        return verdict(check, f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")
    return None


def _about_folder(folder: Path, existing: Path) -> Finding:
    if not folder.exists():
        if not os.access(existing, os.W_OK | os.X_OK):
            advice = "make it for the user of the service, or choose --data"
            return wrong(_CHECK, f"{folder} does not exist, and {existing} cannot be written to", advice)
        advice = "the first start makes it; is it the right one? See --data and GRIDTUNE_STEERING_DATA"
        return warning(_CHECK, f"{folder} does not exist", advice)
    if not folder.is_dir():
        return wrong(_CHECK, f"{folder} is no folder", "choose --data")
    found = folder.stat()
    if found.st_uid != os.getuid():
        owner, me = _user(found.st_uid), _user(os.getuid())
        return wrong(_CHECK, f"{folder} belongs to {owner}, and this is {me}", f"run service and doctor as {owner}")
    if not is_usable(folder):
        return wrong(_CHECK, f"{folder} cannot be written to", f"chmod 700 {folder}; is its file system read-only?")
    if stat.S_IMODE(found.st_mode) & 0o077:
        seen = f"{folder} is open to others (mode {stat.S_IMODE(found.st_mode):o})"
        return warning(_CHECK, seen, f"chmod 700 {folder}")
    return ok(_CHECK, f"{folder}, private")


def _about_space(existing: Path) -> Finding:
    free = shutil.disk_usage(existing).free
    seen = f"{show_bytes(free)} free below {existing}"
    if free < _LITTLE:
        return (wrong if free < _NONE else warning)("free space", seen, "make room: without any, nothing is accepted")
    return ok("free space", seen)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
