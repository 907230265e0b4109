"""Children that leave when their parent does, however it ends.

The parent gives a child the reading end of a pipe as its standard input and never writes to it. When the parent dies,
even by ``kill -9``, the pipe closes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress


def stop_with_parent(pid: int = 0) -> None:
    """In a child: when the parent is gone, send SIGTERM to this process, or to *pid*."""
    target = pid or os.getpid()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            continue
        with suppress(ProcessLookupError):  # it was faster
            os.kill(target, signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
