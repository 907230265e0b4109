"""Task files for commands: loaded, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gridtune_common.errors import Flaw, InvalidDocument

if TYPE_CHECKING:
    from gridtune_common.taskfile import LoadedTask


class InvalidFile(InvalidDocument):
    """A task file that cannot be used."""

    def __init__(self, path: Path, flaws: Iterable[Flaw]) -> None:
        self.path = path
        super().__init__(flaws)


def load(path: Path) -> LoadedTask:
    """Load a task file.

    Raises:
        InvalidDocument: It cannot be read or used; names the file and every flaw.
        MissingExtra: It is YAML, which cannot be read here.
    """
    from gridtune_common.taskfile import load_task

    try:
        return load_task(path)
    except InvalidDocument as invalid:
        if any(flaw.path == str(path) for flaw in invalid.flaws):
            raise
        raise InvalidFile(path, invalid.flaws) from invalid
