"""Task files for commands: loaded, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gridtune_common.cli import text
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


def notes(loaded: LoadedTask) -> list[str]:
    """What its author may want to know before it starts: how the space was read, and how large it is."""
    from gridtune_common import dialects

    said = []
    translation = dialects.translate(loaded.document)
    if translation.dialect is not None:
        said.append(f"space read as {translation.dialect}: 'gridtune validate FILE' shows what became of it")
        said += [f"  {text.plain(note)}" for note in translation.notes]
    size = loaded.task.space.size
    if size is not None:
        limit = ", fewer with the constraints" if loaded.task.constraints else ""
        said.append(f"the space has {size:,} points{limit}")
        budget = loaded.task.stop.points
        if loaded.task.algorithm.name == "grid" and budget is not None and budget < size:
            said.append(f"stop.points ends the grid after {budget:,} of them")
    return said
