"""The agent's side of the warden: no payload outlives its agent."""

from __future__ import annotations

import logging
import pkgutil
import subprocess
import sys
import threading
from typing import Final

_log = logging.getLogger("gridtune.agent")

#: The first line that the warden reads is its own source text: as an argument it would fill the list of processes.
_BOOT: Final = "import sys; exec(eval(sys.stdin.readline()))"


class OrphanGuard:
    """Knows the process groups and containers of running payloads and has them ended should the agent die.

    Safe to share between threads. If the warden cannot be started or is killed itself, payloads run on
    without it.

    Args:
        grace_seconds: From SIGTERM to SIGKILL for the payloads of a dead agent.
    """

    def __init__(self, grace_seconds: float = 5.0) -> None:
        self._grace_seconds = grace_seconds
        self._lock = threading.Lock()
        self._warden: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the warden, in a session of its own so that no signal for the agent reaches it."""
        command = [sys.executable, "-I", "-S", "-c", _BOOT, str(self._grace_seconds), "gridtune-warden"]
        try:
            self._warden = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            _log.warning("No warden watches over the payloads: %s", error, extra={"action": "warden_missing"})
        self._write(f"{_warden_source()!r}\n")

    def watch(self, payload: int | str) -> None:
        """Put a payload into care.

        Args:
            payload: A process group; ``<group> leader`` if its leader passes SIGTERM on to the others; or a container
                as ``<engine's socket> <container's id>``.
        """
        self._write(f"+{payload}\n")

    def forget(self, payload: int | str) -> None:
        """Take a payload out of care: it has ended."""
        self._write(f"-{payload}\n")

    def close(self) -> None:
        """End the warden; payloads still in care are ended by it."""
        with self._lock:
            self._end()

    def _write(self, line: str) -> None:
        with self._lock:
            if self._warden is None or self._warden.stdin is None:
                return
            try:
                self._warden.stdin.write(line.encode())
            except OSError as error:
                _log.warning("The warden is gone: %s", error, extra={"action": "warden_missing"})
                self._end()

    def _end(self) -> None:
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            self._warden.wait()
        self._warden = None


def _warden_source() -> str:
    """The text of the warden, from a folder or from inside the one-file agent."""
    source = pkgutil.get_data("gridtune_evaluation", "warden.py")
    if source is None:
        raise FileNotFoundError("gridtune_evaluation/warden.py is missing")
    return source.decode()
