"""Values, times and tables as text for people. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from gridtune_common import units
from gridtune_common.cli.output import Style

#: The colour of each state of a task, point or evaluation.
STATE_COLOURS: Final = {
    "running": "cyan",
    "ready": "blue",
    "paused": "yellow",
    "done": "green",
    "finished": "green",
    "failed": "red",
    "lost": "red",
    "stopped": "dim",
    "released": "dim",
    "cancelled": "dim",
    "archived": "dim",
}

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    r"""Take control characters out of text that others wrote, so that it cannot steer the terminal.

    >>> plain("a\x1b[31mb")
    'a?[31mb'
    """
    return _CONTROL.sub("?", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The first line of *text* that has something on it."""
    return next((line.strip() for line in plain(text).splitlines() if line.strip()), "")


def value(content: Any) -> str:
    """A parameter or metric: numbers with up to six significant digits.

    >>> value(0.12345678), value(1e-05), value(True), value(None), value("adam")
    ('0.123457', '1e-05', 'true', '-', 'adam')
    """
    if content is None:
        return "-"
    if isinstance(content, bool):
        return "true" if content else "false"
    if isinstance(content, float):
        return f"{content:.6g}"
    return one_line(str(content))


def pairs(content: Mapping[str, Any]) -> str:
    """Parameters or metrics on one line.

    >>> pairs({"lr": 0.1, "layers": 3})
    'lr=0.1 layers=3'
    """
    return " ".join(f"{plain(name)}={value(item)}" for name, item in content.items())


def moment(text: str | None) -> datetime | None:
    """Read a time of the wire protocol; None for one that is missing or cannot be read."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None


def local(text: str | None) -> str:
    """A time of the wire protocol in this machine's time zone.

    >>> local(None)
    '-'
    """
    at = moment(text)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def seconds_between(start: str | None, end: str | None, now: datetime) -> float | None:
    """Seconds from *start* to *end*, or to *now* without an end; None if it has not started."""
    first, last = moment(start), moment(end) or now
    return max(0.0, (last - first).total_seconds()) if first else None


def duration(seconds: float | None) -> str:
    """A duration for people.

    >>> duration(None), duration(75)
    ('-', '1m15s')
    """
    return "-" if seconds is None else units.show_seconds(seconds)


def cells(text: str) -> int:
    """How many columns of a terminal *text* takes.

    >>> cells("µ"), cells("点")
    (1, 2)
    """
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int, style: Style) -> str:
    """Cut *text* to *width* columns, with a sign that something is missing.

    >>> clip("learning_rate=0.1", 8, Style())
    'learnin…'
    """
    if cells(text) <= width:
        return text
    sign = "…" if style.unicode else "~"
    kept, used = "", 0
    for character in text:
        used += _cells_of(character)
        if used > width - 1:
            break
        kept += character
    return (kept + sign)[: max(width, 0)]


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    width: int | None = None,
    style: Style | None = None,
) -> list[str]:
    """Rows with aligned columns; the last column gives way when a line would be wider than *width*.

    Columns that hold numbers only are aligned to the right; a column named ``state`` is coloured.
    """
    style = style or Style()
    body = [list(row) for row in rows]
    spans = [max(map(cells, column)) for column in zip(header, *body)]
    right = [bool(body) and all(_numeric(row[index]) for row in body) for index in range(len(header))]
    lines = []
    for row in [list(header), *body]:
        parts, room = [], width
        for index, cell in enumerate(row):
            if room is not None:
                cell = clip(cell, max(room, 0), style)
                room -= spans[index] + 2
            padding = " " * (spans[index] - cells(cell))
            shown = style.paint(cell, _colour(header[index], cell))
            last = index == len(row) - 1
            parts.append(padding + shown if right[index] else shown + ("" if last else padding))
        lines.append("  ".join(parts).rstrip())
    return lines


def _numeric(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "", 1).replace("e-", "", 1).replace("e+", "", 1).lstrip("-").isdigit()


def _colour(column: str, cell: str) -> str:
    return STATE_COLOURS.get(cell, "") if column == "state" else ""


def facts(entries: Iterable[tuple[str, str]]) -> list[str]:
    """Names and what belongs to them, aligned; entries without content are left out."""
    kept = [(name, content) for name, content in entries if content]
    span = max((cells(name) for name, _ in kept), default=0)
    return [f"{name}{' ' * (span - cells(name))}  {content}" for name, content in kept]
