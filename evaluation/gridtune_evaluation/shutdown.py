"""How an agent is asked to end: the first signal asks, the second one hurries."""

from __future__ import annotations

import logging
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_log = logging.getLogger("gridtune.agent")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """Whether the agent should end; every wait of the agent listens to it. Safe to share between threads."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._hurried = threading.Event()

    def request(self) -> None:
        """Ask for an end; ask again to have the payloads killed without grace."""
        if self._asked.is_set():
            self._hurried.set()
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether running payloads are to be ended and no point is to be asked for."""
        return self._asked.is_set()

    @property
    def hurried(self) -> bool:
        """Whether there is no time for grace."""
        return self._hurried.is_set()

    def pause(self, seconds: float) -> bool:
        """Sleep, but not into the shutdown; tell whether it was asked for."""
        return self._asked.wait(seconds)


@contextmanager
def shutdown_on_signals(shutdown: Shutdown) -> Iterator[None]:
    """Let SIGTERM and SIGINT request the shutdown. For the main thread only.

    A handler may interrupt the main thread anywhere, even inside a lock, so it only rings a bell
    (`SimpleQueue.put` is made for this); a thread of its own does the rest.
    """
    bell: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def ring(number: int, _frame: Any) -> None:
        bell.put(number)

    listener = threading.Thread(target=_listen, args=(bell, shutdown), name="signals", daemon=True)
    listener.start()
    before = {number: signal.signal(number, ring) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bell.put(None)
        listener.join()


def _listen(bell: queue.SimpleQueue[int | None], shutdown: Shutdown) -> None:
    for number in iter(bell.get, None):
        name = signal.Signals(number).name
        how = "killing the payloads" if shutdown.asked else "payloads get their grace; again to kill them"
        _log.warning("Received %s: ending (%s).", name, how, extra={"action": "shutdown"})
        shutdown.request()
