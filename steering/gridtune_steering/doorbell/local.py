"""Rings on one machine: datagrams on Unix sockets, one socket a listener.

A ring gets lost when a buffer is full, or when a listener is just starting.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from collections import Counter
from pathlib import Path
from types import TracebackType

from gridtune_steering.doorbell.port import ALL, read_ring, ring_text

_HOSTS, _ASKERS = "host", "ask"
#: Longest ring, in bytes.
_RING_SIZE = 64
#: Longest path of a Unix socket, in bytes, less the socket's own name.
_LONGEST_FOLDER = 70


class LocalBell:
    """Rings every listener that was opened on the same data folder. Safe to share between threads."""

    def __init__(self, data: Path) -> None:
        self._folder = _socket_folder(data)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def ring_hosts(self, task: str) -> None:
        """Tell optimizer hosts that something happened to a task."""
        self._ring(_HOSTS, task, 1)

    def ring_askers(self, task: str, n: int = ALL) -> None:
        """Tell so many waiting asks that a task may have a point for them, or all that it has ended."""
        self._ring(_ASKERS, task, n)

    def listen_as_host(self) -> LocalListener:
        """Open a listener for an optimizer host."""
        return LocalListener(self._folder, _HOSTS)

    def listen_as_asker(self) -> LocalListener:
        """Open a listener for a web process."""
        return LocalListener(self._folder, _ASKERS)

    def close(self) -> None:
        """Put the bell away."""
        self._socket.close()

    def remove(self) -> None:
        """Take the folder with all sockets away, when nobody listens any more."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> LocalBell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ring(self, kind: str, task: str, n: int) -> None:
        for path in self._folder.glob(f"{kind}-*"):
            try:
                self._socket.sendto(ring_text(task, n).encode(), str(path))
            except BlockingIOError:
                continue  # its buffer is full of rings; it will look around
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink(missing_ok=True)  # left behind by a process that was killed


class LocalListener:
    """The ear of one process."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._path = folder / f"{kind}-{os.getpid()}-{os.urandom(3).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))

    def wait(self, timeout: float) -> Counter[str]:
        """Wait for rings for at most *timeout* seconds; returns all that are there: for how many, by task."""
        rang: Counter[str] = Counter()
        self._socket.settimeout(timeout)
        try:
            self._hear(rang)
            self._socket.setblocking(False)
            while True:
                self._hear(rang)
        except (TimeoutError, BlockingIOError):
            return rang

    def _hear(self, rang: Counter[str]) -> None:
        task, n = read_ring(self._socket.recv(_RING_SIZE).decode())
        rang[task] += n

    def close(self) -> None:
        """Take the ear away."""
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> LocalListener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _socket_folder(data: Path) -> Path:
    """Where the sockets lie: in the data folder, or, if its path is too long for sockets, in a private one."""
    home = os.fsencode(data.resolve())
    private = f"gridtune-sockets-{os.getuid()}-{hashlib.sha256(home).hexdigest()[:12]}"
    elsewhere = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"]  # noqa: S108 - mode and owner are checked
    candidates = [data.resolve() / "sockets", *(Path(folder) / private for folder in elsewhere if folder)]
    folder = next(path for path in candidates if len(os.fsencode(path)) <= _LONGEST_FOLDER)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder
