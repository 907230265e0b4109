"""A bad network between an agent and its service."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from enum import Enum

_CHUNK = 65_536
#: Closing with this option sends RST, as a machine does that knows nothing of the connection.
_ABRUPTLY = struct.pack("ii", 1, 0)


class Trouble(Enum):
    """What can go wrong with a connection."""

    RESET_REQUEST = "reset a request"  #: A part of a request goes through, or all of it; then RST on both sides.
    RESET_ANSWER = "reset an answer"  #: The service has done its work; a part of its answer goes through, then RST.
    CUT_REQUEST = "cut a request"  #: A part of a request, and then its end without a word.
    CUT_ANSWER = "cut an answer"  #: A part of an answer, and then its end without a word.
    DELAY = "delay"  #: Whatever is said takes its time.
    BLACK_HOLE = "black hole"  #: Nothing goes through; when that is over, RST on both sides.


_OF_REQUESTS = {Trouble.RESET_REQUEST, Trouble.CUT_REQUEST, Trouble.DELAY, Trouble.BLACK_HOLE}
_OF_ANSWERS = {Trouble.RESET_ANSWER, Trouble.CUT_ANSWER, Trouble.DELAY, Trouble.BLACK_HOLE}


@dataclass(frozen=True)
class Spell:
    """A time of trouble, which befalls a share of all that is said."""

    trouble: Trouble
    until: float
    share: float


class Proxy:
    """Passes TCP connections on to a port of this machine, well or, for a while, badly.

    Attributes:
        port: Where it listens.
        n_hit: How often something was really said in a time of trouble, and suffered.
    """

    def __init__(self, upstream: int, seed: int) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self._spell: Spell | None = None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.n_hit = 0
        self._is_closed = threading.Event()
        threading.Thread(target=self._listen, name=f"proxy-{self.port}", daemon=True).start()

    def trouble(self, trouble: Trouble, *, seconds: float, share: float) -> None:
        """Begin a time of trouble; it ends the one before."""
        self._spell = Spell(trouble, time.monotonic() + seconds, share)

    def calm(self) -> None:
        """Be good from now on."""
        self._spell = None

    def close(self) -> None:
        """Listen no more; connections end with their peers."""
        self._is_closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while not self._is_closed.is_set():
            try:
                agent, _ = self._listener.accept()
            except OSError:
                return
            try:
                service = socket.create_connection(("127.0.0.1", self._upstream), timeout=5)
            except OSError:
                _end_abruptly(agent)
                agent.close()
                continue
            service.settimeout(None)
            threading.Thread(target=self._carry, args=(agent, service), daemon=True).start()

    def _carry(self, agent: socket.socket, service: socket.socket) -> None:
        """Pass on what both say until both have ended, or the connection has."""
        sinks = {agent: service, service: agent}
        troubles = {agent: _OF_REQUESTS, service: _OF_ANSWERS}
        talking = [agent, service]
        with agent, service:
            while talking and not self._is_closed.is_set():
                readable, _, _ = select.select(talking, [], [], 1.0)
                for source in readable:
                    try:
                        goes_on = self._pass_on(source, sinks[source], troubles[source])
                    except OSError:
                        _end_abruptly(agent, service)
                        return
                    if not goes_on:
                        talking.remove(source)

    def _pass_on(self, source: socket.socket, sink: socket.socket, troubles: set[Trouble]) -> bool:
        """Pass on what was said, well or badly; tells whether there may be more.

        Raises:
            OSError: The connection has come to its end.
        """
        data = source.recv(_CHUNK)
        spell = self._befallen(troubles) if data else None
        if spell is not None:
            return self._suffer(spell, data, sink)
        if data:
            sink.sendall(data)
        else:
            sink.shutdown(socket.SHUT_WR)
        return bool(data)

    def _befallen(self, troubles: set[Trouble]) -> Spell | None:
        spell = self._spell
        is_on = spell is not None and time.monotonic() < spell.until and spell.trouble in troubles
        if spell is None or not is_on or self._random.random() >= spell.share:
            return None
        self.n_hit += 1
        return spell

    def _suffer(self, spell: Spell, data: bytes, sink: socket.socket) -> bool:
        if spell.trouble is Trouble.DELAY:
            time.sleep(self._random.uniform(0.05, 1.0))
            sink.sendall(data)
            return True
        if spell.trouble is Trouble.BLACK_HOLE:
            while self._spell is spell and time.monotonic() < spell.until:
                time.sleep(0.02)
            raise ConnectionResetError(spell.trouble.value)
        sink.sendall(data[: self._random.randint(0, len(data))])
        if spell.trouble in {Trouble.RESET_REQUEST, Trouble.RESET_ANSWER}:
            raise ConnectionResetError(spell.trouble.value)
        sink.shutdown(socket.SHUT_WR)
        return False


def _end_abruptly(*connections: socket.socket) -> None:
    """Let these connections end with RST when they are closed."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)
