"""Child processes that are kept running, and that end when their parent does, however it ends.

Each child gets a pipe as its standard input, so that it can tell when its parent is gone (`gridtune_common.parent`).
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_log = logging.getLogger("gridtune.serve")
#: How often children are looked after, in seconds.
_PACE = 0.2
#: Seconds between a child's death and its next life, doubled with each death in a row.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
#: A life of this many seconds ends a row of deaths.
_GOOD_LIFE = 30.0


@dataclass(slots=True)
class Child:
    """One child process and its lives.

    Attributes:
        pass_fds: File descriptors that it inherits.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    pass_fds: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause: float = _FIRST_PAUSE
    due_at: float = field(default=0.0)


class Supervisor:
    """Keeps children running until it is asked to stop."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._is_stopping = False

    def stop(self) -> None:
        """Ask for the end. Callable from a signal handler: a flag, since an event's lock may be held just then."""
        self._is_stopping = True

    def run(self, *, grace: float) -> None:
        """Keep all children running until `stop`; then end them, by force after *grace* seconds."""
        while not self._is_stopping:
            time.sleep(_PACE)
            for child in self._children:
                self._look_after(child)
        self._end_all(grace)

    def start(self) -> None:
        """Start all children."""
        for child in self._children:
            self._start(child)

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.due_at:
                self._start(child)
        elif (code := child.process.poll()) is not None:
            is_row = now - child.started_at < _GOOD_LIFE
            child.pause = min(child.pause * 2, _LONGEST_PAUSE) if is_row else _FIRST_PAUSE
            child.due_at = now + child.pause
            _close_pipe(child.process)
            child.process = None
            _log.warning("%s ended with code %s; starting it again", child.name, code, extra={"action": "child_ended"})

    def _start(self, child: Child) -> None:
        child.process = subprocess.Popen(
            child.command,
            stdin=subprocess.PIPE,
            env=dict(child.environment),
            pass_fds=child.pass_fds,
            process_group=0,  # Ctrl-C in a terminal is for the parent, which ends its children in order
        )
        child.started_at = time.monotonic()

    def _end_all(self, grace: float) -> None:
        living = [child.process for child in self._children if child.process is not None]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + grace
        for process in living:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close_pipe(process)


def end_with_any_thread() -> None:
    """In a child: end it when one of its threads dies, for half a process would not be started again."""

    def end(death: threading.ExceptHookArgs) -> None:
        name = death.thread.name if death.thread is not None else "a thread"
        _log.critical("%s died", name, exc_info=death.exc_value, extra={"action": "thread_died"})
        logging.shutdown()
        os._exit(1)

    threading.excepthook = end


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
