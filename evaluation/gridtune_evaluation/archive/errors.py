"""What can be wrong with a snapshot or an archive.

::

    ArchiveError
    ├── Restless   files kept changing while they were packed
    ├── Damaged    the archive is not the one that was packed
    ├── BadBase    the archive that a delta leans on is damaged or unsafe
    ├── Unsafe     a member would be written elsewhere, or is no file, folder or link
    └── Unreadable this agent cannot read the archive
"""

from __future__ import annotations

from collections.abc import Sequence

from gridtune_common.errors import GridtuneError


class ArchiveError(GridtuneError):
    """A snapshot could not be made or put back."""


class Restless(ArchiveError):  # noqa: N818 - named for the fact
    """Files kept changing while they were packed.

    Attributes:
        names: Which, relative to the root.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        shown = ", ".join(self.names[:5]) + (" and others" if len(self.names) > 5 else "")
        super().__init__(f"{shown} kept changing; write to another name first and rename when done")


class Damaged(ArchiveError):  # noqa: N818
    """A file is not the one that was stored."""


class BadBase(ArchiveError):  # noqa: N818
    """The archive that a delta leans on is damaged or unsafe; the delta itself may be good."""


class Unsafe(ArchiveError):  # noqa: N818
    """A member of an archive would be written elsewhere, or is no file, folder or link."""


class Unreadable(ArchiveError):  # noqa: N818
    """This agent cannot read the archive."""
