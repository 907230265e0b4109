"""How much memory a session of processes uses, by proc(5): the limit of payloads that run outside of containers.

A limit on address space (``RLIMIT_AS``) would end programs that reserve much and use little, as CUDA and threads do,
and batch systems seldom hand a control group on. So somebody has to look.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Optional

#: Seconds between two looks: the whole list of processes is read.
_INTERVAL: Final = 0.5
#: Kilobytes on Linux, bytes on macOS; see getrusage(2).
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_PROC: Final = Path("/proc")


class MemoryGauge:
    """Watches the memory of one session.

    Shared pages are counted once ("proportional set size"), where counting every process's own would go over the limit:
    that of many workers forked from one parent is mostly the same memory.

    Args:
        session: Its id.
        limit_bytes: What it may use; None for no limit.

    Attributes:
        peak_bytes: The most that was seen; None where nothing can be seen.
        was_over_the_limit: Whether that was ever too much.
    """

    def __init__(self, session: int, limit_bytes: Optional[int], interval: float = _INTERVAL) -> None:
        self._session = session
        self._limit = limit_bytes
        self._interval = interval
        self._next = time.monotonic()
        self._own_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.peak_bytes: Optional[int] = None
        self.was_over_the_limit = False

    def is_over_the_limit(self) -> bool:
        """Look, unless it was done a moment ago."""
        now = time.monotonic()
        if now < self._next:
            return self.was_over_the_limit
        self._next = now + self._interval
        used = _session_bytes(self._session, at_least=self.peak_bytes or 0)
        if used:
            self.peak_bytes = max(self.peak_bytes or 0, used)
            self.was_over_the_limit |= self._limit is not None and used > self._limit
        self._next += 9 * (time.monotonic() - now)  # where looking takes long, look less often
        return self.was_over_the_limit

    def note_largest_process(self, max_rss: int) -> None:
        """What the kernel says of the largest process, in its unit: it may have come and gone between two looks.

        A process begins as a copy of the one that starts it, and the kernel counts that, too.
        """
        if max_rss > self._own_rss:
            self.peak_bytes = max(self.peak_bytes or 0, max_rss * _RSS_UNIT)


def _session_bytes(session: int, *, at_least: int) -> int:
    """The memory of a session; 0 if it is surely not more than *at_least*, or cannot be seen."""
    members = list(_members(session))
    if sum(map(_resident_bytes, members)) <= at_least:
        return 0  # spares the kernel the walk through their pages
    return sum(map(_proportional_bytes, members))


def _members(session: int) -> Iterator[int]:
    try:
        names = os.listdir(_PROC)
    except FileNotFoundError:
        return
    wanted = str(session)
    for name in names:
        if name.isdecimal() and _session_of(name) == wanted:
            yield int(name)


def _session_of(process: str) -> str:
    try:
        fields = (_PROC / process / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[3]
    except (OSError, IndexError):
        return ""


def _resident_bytes(process: int) -> int:
    try:
        pages = (_PROC / str(process) / "statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _proportional_bytes(process: int) -> int:
    try:
        found = re.search(r"(?m)^Pss:\s+(\d+) kB$", (_PROC / str(process) / "smaps_rollup").read_text())
    except OSError:  # it has ended, belongs to another user, or the kernel is older than 4.14
        found = None
    return _resident_bytes(process) if found is None else int(found.group(1)) * 1024
