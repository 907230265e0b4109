"""A copy of an SQLite database while others write to it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from gridtune_common.errors import ConfigurationError


def copy(source: Path, target: Path) -> None:
    """Copy a database, as of one moment, into one file, and look it through.

    Raises:
        ConfigurationError: It cannot be read or written, or the copy is damaged.
    """
    try:
        with contextlib.closing(_opened(source, "rw")) as read, contextlib.closing(_opened(target, "rwc")) as written:
            read.backup(written)  # in one step: one that pauses begins anew whenever somebody writes
            written.execute("PRAGMA journal_mode=DELETE")  # nothing of it shall be in a second file
            found = written.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise ConfigurationError(f"cannot copy {source} to {target}: {error}") from error
    if found != "ok":
        raise ConfigurationError(f"{source} is damaged: {found}; go back to an older backup")


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode={mode}", uri=True, timeout=30.0)
