"""Where the live view goes: a block of a terminal that redraws in place, or plain lines."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Protocol, TextIO

from gridtune_common.cli import live, output, text

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Display(Protocol):
    """Shows views, one after the other, while it is entered."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, view: live.View) -> None:
        """Show *view* in place of the one before."""


def display_on(stream: TextIO) -> Display:
    """The display that fits *stream*."""
    return Terminal(stream) if output.interactive(stream) else Log(stream)


class Terminal:
    """Redraws in place: moves up over the last block and writes over it, so that nothing flickers.

    What stood on the terminal before stays; the last block stays after the end. The cursor is hidden
    meanwhile.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._style = output.style_of(stream)
        self._lines: list[str] = []

    def __enter__(self) -> Terminal:
        self._write(_HIDE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone, which must not hide *error*
            self._write(_SHOW)

    def show(self, view: live.View) -> None:
        """Draw *view* over the one before."""
        size = shutil.get_terminal_size()
        lines = live.render(view, size.columns - 1, self._style)[: size.lines - 1]
        self._write(frame(rows_of(self._lines, size.columns), lines))
        self._lines = lines

    def _write(self, content: str) -> None:
        self._stream.write(content)
        self._stream.flush()


def frame(rows: int, lines: Sequence[str]) -> str:
    """What to write to replace a block of *rows* rows by *lines*."""
    up = f"\x1b[{rows}F" if rows else ""
    return up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J"


def rows_of(lines: Sequence[str], columns: int) -> int:
    """How many rows the lines take, also when the terminal has become narrower since."""
    return sum(max(1, -(-text.cells(_ESCAPES.sub("", line)) // max(columns, 1))) for line in lines)


class Log:
    """Writes a line with the time whenever something that matters has changed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: Any = None

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def show(self, view: live.View) -> None:
        """Write *view* if it has news."""
        counts = view.counts
        news = (view.state, counts.done, counts.stopped, counts.failed, view.best, view.unfit, view.notice)
        if news == self._last:
            return
        self._last = news
        self._stream.write(f"{time.strftime('%H:%M:%S')} {live.one_line(view)}\n")
        self._stream.flush()


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def show(self, view: live.View) -> None:
        """Show nothing."""


def standard() -> Display:
    """The display on stdout."""
    return display_on(sys.stdout)
