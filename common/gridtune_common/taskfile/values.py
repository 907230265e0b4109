"""Values that several sections of a task have: paths and durations, checked and written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Final

from gridtune_common.errors import Flaw
from gridtune_common.space.reading import check_number, check_text, join, show

#: What the agent itself puts into the working directory, besides the result file.
INPUT_FILE: Final = "input.json"

MAX_SECONDS: Final = 36_500 * 86_400.0

_SIZES: Final = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def check_duration(path: str, value: Any) -> Iterator[Flaw]:
    """A number of seconds above zero is expected, and fewer than a hundred years have."""
    flaws = list(check_number(path, value))
    yield from flaws
    if not flaws and value <= 0:
        yield Flaw(path, f"{value} is not above zero; write a duration, such as 5m")
    elif not flaws and value > MAX_SECONDS:
        yield Flaw(path, "is longer than a hundred years; make it shorter, or leave it out for no limit")


def check_paths(path: str, paths: Any, example: str) -> Iterator[Flaw]:
    """A list of different relative paths is expected."""
    if not isinstance(paths, (list, tuple)):
        yield Flaw(path, f"{show(paths)} is no list; write one, such as {example}")
        return
    seen: list[str] = []
    for index, name in enumerate(paths):
        below = join(path, f"[{index}]")
        flaws = list(check_path(below, name))
        yield from flaws
        if not flaws and clean_path(name) in seen:
            yield Flaw(below, f"{name} is written twice; keep one")
        seen.append("" if flaws else clean_path(name))


def check_path(path: str, value: Any) -> Iterator[Flaw]:
    """A relative path that stays below its folder is expected."""
    flaws = list(check_text(path, value, "train.py"))
    yield from flaws
    if flaws:
        return
    if "\\" in value:
        yield Flaw(path, f"{value} has a backslash; write / between folders")
    elif value.startswith("/"):
        yield Flaw(path, f"{value} is absolute; write it relative, such as train.py")
    elif ".." in PurePosixPath(value).parts:
        yield Flaw(path, f"{value} leads out of the folder; write it without ..")


def clean_path(path: str) -> str:
    """The one form of a path: ``./a/`` and ``a`` are the same."""
    return str(PurePosixPath(path))


def write_seconds(duration: float) -> str:
    """Write a duration so that it reads back the same.

    >>> write_seconds(300.0), write_seconds(0.25)
    ('300s', '0.25s')
    """
    whole = math.floor(duration) == duration
    return f"{int(duration)}s" if whole else f"{Decimal(repr(duration)):f}s"


def write_bytes(size: int) -> str:
    """Write a size so that it reads back the same.

    >>> write_bytes(4 * 2**30), write_bytes(1000)
    ('4GiB', '1000B')
    """
    unit, scale = next(((unit, scale) for unit, scale in _SIZES if size % scale == 0), ("B", 1))
    return f"{size // scale}{unit}"
