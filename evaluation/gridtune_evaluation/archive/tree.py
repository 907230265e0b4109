"""All below a root that a payload owns, reached through true folders alone.

An agent may have rights that its payload does not, and the payload may swap a folder for a link at any moment. So every
step begins at the folder that the step before it opened: no link is followed on the way, and no other device entered.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from pathlib import Path
from typing import BinaryIO, Final

#: For passing through a folder it need not be readable.
_THROUGH: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: What the kernel takes as one path, in bytes; what is deeper could be packed, but not unpacked.
_LONGEST_NAME: Final = 4095


class Tree:
    """Looks at names relative to the root, which itself may lie behind links; "" is the root.

    Raises:
        OSError: There is no such folder, or the disk.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _THROUGH)
        self._device = os.fstat(self._root).st_dev
        # The folder of the last look: names come folder by folder.
        self._at, self._here = "", os.dup(self._root)

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._here)
        os.close(self._root)

    def status(self, name: str) -> os.stat_result | None:
        """What it is itself; None if it is not there, behind a link or a folder on another device.

        Files alone may be on another one: in some overlays they have the device of the layer that they are in.
        """
        if len(os.fsencode(name)) > _LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
        folder, last = posixpath.split(name)
        try:
            found = os.stat(last or ".", dir_fd=self._enter(folder), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if stat.S_ISDIR(found.st_mode) and found.st_dev != self._device else found

    def has(self, name: str) -> bool:
        """Whether there is such a thing, as far as can be seen."""
        try:
            return self.status(name) is not None
        except (OSError, ValueError):  # a name that no file system takes
            return False

    def link(self, name: str) -> str | None:
        """What a link says; None if it is none."""
        folder, last = posixpath.split(name)
        try:
            return os.readlink(last, dir_fd=self._enter(folder))
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        """The names in a folder, in order; none if there is no such folder."""
        try:
            descriptor = os.open(".", _LIST, dir_fd=self._enter(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return sorted(os.listdir(descriptor))
        finally:
            os.close(descriptor)

    def open(self, name: str) -> BinaryIO:
        """Open a plain file.

        Raises:
            OSError: It is not there, or no plain file.
        """
        folder, last = posixpath.split(name)
        descriptor = os.open(last, _READ, dir_fd=self._enter(folder))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "there is no plain file", name)
        return os.fdopen(descriptor, "rb")

    def _enter(self, folder: str) -> int:
        if self._at and not f"{folder}/".startswith(f"{self._at}/"):
            self._move(os.dup(self._root), "")
        for part in filter(None, folder[len(self._at) :].split("/")):
            inner = os.open(part, _THROUGH | os.O_NOFOLLOW, dir_fd=self._here)
            if os.fstat(inner).st_dev != self._device:
                os.close(inner)
                raise NotADirectoryError(errno.ENOTDIR, "is on another device", folder)
            self._move(inner, posixpath.join(self._at, part))
        return self._here

    def _move(self, descriptor: int, folder: str) -> None:
        os.close(self._here)
        self._at, self._here = folder, descriptor
