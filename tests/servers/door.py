"""The way to an engine's socket, which a test can shut: the engine lives on, but nobody reaches it."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from pathlib import Path


class Door(socketserver.ThreadingUnixStreamServer):
    """A socket at which an engine answers while the door is open.

    Args:
        path: Of this socket.
        engine: The path of the engine's own.
    """

    daemon_threads = True

    def __init__(self, path: Path, engine: str) -> None:
        super().__init__(str(path), _Guest)
        self.address = f"unix://{path}"
        self.engine = engine
        self.is_open = True
        self.within: set[socket.socket] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def shut(self) -> None:
        """Throw everybody out."""
        self.is_open = False
        for one in list(self.within):
            _hang_up(one)

    def end(self) -> None:
        """Take the door away."""
        self.shut()
        self.shutdown()
        self.server_close()


class _Guest(socketserver.BaseRequestHandler):
    server: Door

    def handle(self) -> None:
        if not self.server.is_open:
            return
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.server.engine)
            self.server.within |= {self.request, engine}
            back = threading.Thread(target=_pump, args=(engine, self.request))
            back.start()
            _pump(self.request, engine)
            back.join()
            self.server.within -= {self.request, engine}


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    _hang_up(target)


def _hang_up(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
