"""All that the command line writes: results to stdout, words about them to stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from dataclasses import dataclass
from typing import Any, Final, TextIO

from gridtune_common import wire

_COLOURS: Final = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36, "bold": 1, "dim": 2}


@dataclass(frozen=True)
class Style:
    """What a stream can show: colours, and characters beyond ASCII."""

    colour: bool = False
    unicode: bool = True

    def paint(self, text: str, colour: str) -> str:
        """Colour *text*, where colours are shown; an empty *colour* leaves it as it is."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour and colour else text


def prepare() -> None:
    """Make sure that no character can break the output, whatever the encoding of the streams."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def style_of(stream: TextIO) -> Style:
    """What *stream* can show. ``NO_COLOR`` and a dumb terminal mean no colours."""
    colour = interactive(stream) and not os.environ.get("NO_COLOR")
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    return Style(colour=colour, unicode=encoding.startswith("utf"))


def interactive(stream: TextIO) -> bool:
    """Whether *stream* is a terminal that can redraw."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int | None:
    """How many characters fit on a line of *stream*; None if it is no terminal, so any number does."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def say(text: str = "") -> None:
    """Write a result line to stdout."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Write a line for the person at the terminal, beside the results, to stderr."""
    with contextlib.suppress(OSError):  # nobody is there to read it, and the work goes on
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def warn(text: str) -> None:
    """Write a warning to stderr."""
    note(style_of(sys.stderr).paint("warning:", "yellow") + f" {text}")


def complain(text: str) -> None:
    """Write an error to stderr."""
    note(style_of(sys.stderr).paint("error:", "red") + f" {text}")


def emit(message: Any) -> None:
    """Write a wire message to stdout as one JSON document."""
    say(json.dumps(wire.encode(message), indent=2, ensure_ascii=not style_of(sys.stdout).unicode))


def emit_line(message: Any) -> None:
    """Write a wire message to stdout as one line of JSON, at once: for streams without an end."""
    say(json.dumps(wire.encode(message)))
    flush()


def emit_bytes(content: bytes) -> None:
    """Write bytes to stdout as they are."""
    flush()
    sys.stdout.buffer.write(content)


def flush() -> None:
    """Hand over what was written to stdout."""
    sys.stdout.flush()
