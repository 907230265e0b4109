"""A service and workers on this machine, as child processes of whoever needs them.

Both run in sessions of their own, so that Ctrl-C in a terminal reaches their parent only, which ends them in
order. When the parent is killed, they end by themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import requests

from gridtune_common.errors import ConfigurationError, GridtuneError, Unreachable
from gridtune_common.settings import VARIABLES, LocalService, Secret, local_service

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
_PROBE_SECONDS: Final = 5.0
#: A child that dies is started again this often; one that lived long enough starts with a clean slate.
_RESTARTS: Final = 3
_LIVED_LONG_SECONDS: Final = 120.0
_TAIL_LINES: Final = 20


class ServiceDied(Unreachable):
    """The local service did not start, or ended again and again; the message has the end of its log."""


class WorkersDied(GridtuneError):  # noqa: N818 - named for the fact
    """The local workers ended again and again; the message has the end of their log."""


class Service:
    """A steering service on a data folder of this machine.

    One that runs there already is used, and left running at the end; otherwise one is started, and stopped at
    the end.

    Args:
        data: The data folder; made if missing.
        port: 0 for any free one.
        start_seconds: How long to wait until the service is ready.

    Raises:
        ServiceDied: On entering: it did not start.
    """

    def __init__(self, data: Path, *, port: int = 0, start_seconds: float = _START_SECONDS) -> None:
        self.data = data.resolve()
        self.log = self.data / "logs" / "serve.log"
        self._port, self._start_seconds = port, start_seconds
        self._child: _Child | None = None
        self._found: LocalService | None = None

    def __enter__(self) -> Service:
        self._found = self._running_one()
        if self._found is None:
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL."""
        return self._service.url

    @property
    def token(self) -> Secret:
        """The operator's token."""
        return self._service.token

    @property
    def pid(self) -> int:
        """The process that is the service."""
        return self._service.pid

    @property
    def started_here(self) -> bool:
        """Whether this object started the service, and will stop it."""
        return self._child is not None

    def keep_alive(self) -> None:
        """Start the service again, at the same address, if it is gone.

        Raises:
            ServiceDied: It goes again and again.
        """
        if self._child is not None and not self._child.running:
            self._child.spend_restart(ServiceDied)
            self._port = urlsplit(self.url).port or 0
            self._start()
        elif self._child is None and local_service(self.data) is None:
            self._port = urlsplit(self.url).port or 0
            self._start()

    def stop(self) -> None:
        """Stop the service, if it was started here."""
        if self._child is not None:
            self._child.stop(_STOP_SECONDS)

    @property
    def _service(self) -> LocalService:
        if self._found is None:
            raise RuntimeError("the service is available within its with block only")
        return self._found

    def _running_one(self) -> LocalService | None:
        service = local_service(self.data)
        return service if service and _answers(f"{service.url}/healthz", _PROBE_SECONDS) else None

    def _start(self) -> None:
        words = ["serve", "--data", str(self.data), "--port", str(self._port), "--stop-with-parent"]
        if self._child is None:
            self._child = _Child("gridtune serve", words, _without_settings(os.environ), self.log)
        self._child.words = words
        self._child.start()
        try:
            self._found = self._ready()
        except BaseException:  # an interrupt, too, must not leave a half-started service behind
            self._child.stop(_STOP_SECONDS)
            raise

    def _ready(self) -> LocalService:
        child = self._child
        assert child is not None  # noqa: S101 - for the type checker
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            if not child.running:
                raise child.died(ServiceDied, "ended while it was starting")
            service = local_service(self.data)
            if service is not None and service.pid == child.pid and _answers(f"{service.url}/readyz", 1.0):
                return service
            time.sleep(0.05)
        raise child.died(ServiceDied, f"was not ready after {self._start_seconds:.0f} s")


class Workers:
    """An evaluation agent on this machine, with some slots for one task.

    Args:
        token: Travels in the environment, never on the command line.
        log: Where the agent's own messages go.
    """

    def __init__(self, url: str, token: Secret, task: str, n: int, *, log: Path) -> None:
        self.log = log
        words = ["agent", "--server", url, "--task", task, "--slots", str(n), "--site", "local"]
        words.append("--stop-with-parent")
        environment = {**_without_settings(os.environ), "GRIDTUNE_TOKEN": token.reveal()}
        self._child = _Child("gridtune agent", words, environment, log)

    def __enter__(self) -> Workers:
        self._child.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The agent's process."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """How the agent ended; None while it runs."""
        return self._child.exit_code

    def keep_alive(self) -> None:
        """Start the agent again if it has ended.

        Raises:
            WorkersDied: It ends again and again.
        """
        if not self._child.running:
            self._child.spend_restart(WorkersDied)
            self._child.start()

    def stop(self, seconds: float = 60.0) -> None:
        """Ask the agent to give its points back and end; after *seconds*, or on an interrupt, it is killed."""
        self._child.stop(seconds)


class _Child:
    """A gridtune command as a child process, its output in a log file."""

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.words, self.log = name, list(words), log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._restarts, self._log_start = 0.0, 0, 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start the command; ConfigurationError if its log cannot be written."""
        try:
            for folder in (self.log.parent.parent, self.log.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the bookkeeping is nobody else's
            log = open(self.log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600))
        except OSError as error:
            raise ConfigurationError(f"cannot write {self.log}: {error.strerror}") from error
        with log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                _interpreter() + self.words,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self._environment),
                start_new_session=True,
            )
        self._started = time.monotonic()

    def spend_restart(self, kind: type[GridtuneError]) -> None:
        """Count one more restart; *kind* is raised when there were too many."""
        if time.monotonic() - self._started > _LIVED_LONG_SECONDS:
            self._restarts = 0
        if self._restarts >= _RESTARTS:
            raise self.died(kind, f"ended {self._restarts + 1} times")
        self._restarts += 1
        self.stop(0.0)

    def died(self, kind: type[GridtuneError], how: str) -> GridtuneError:
        tail = "\n".join(f"  {line}" for line in self._tail()) or "  (nothing)"
        return kind(f"{self.name} {how}; the end of {self.log}:\n{tail}")

    def stop(self, seconds: float) -> None:
        """Send SIGTERM, and kill what is left after *seconds*, or when the wait is interrupted."""
        if self._process is None:
            return
        try:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _tail(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_start)
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return []
        return lines[-_TAIL_LINES:]


def _interpreter() -> list[str]:
    """This Python on this package; the working folder, which is the user's, must not shadow any module."""
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    return [sys.executable, *safe, "-m", "gridtune_common"]


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in VARIABLES}


def _answers(url: str, seconds: float) -> bool:
    """Whether *url* answers 200. Proxies of the environment are left out: the service is on this machine."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=seconds).status_code == 200
    except requests.RequestException:
        return False
