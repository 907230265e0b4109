"""`gridtune.minimize` and `gridtune.maximize`: optimise a function of this process, on the same engine.

The function is evaluated here; points are proposed and kept by a steering service, which is started for the
occasion unless one is named.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from gridtune.outcome import Result
from gridtune.working import Duty, Function, work
from gridtune_common import protocol
from gridtune_common.cli.connection import connected
from gridtune_common.client import Client, new_request_id
from gridtune_common.errors import ConfigurationError, GridtuneError, ServiceError
from gridtune_common.protocol import PointState
from gridtune_common.settings import Connection, Secret, Settings, checked_url

#: Seconds to go on trying when the service does not answer.
_RETRY_FOR: Final = 60.0


def minimize(
    function: Function,
    space: Mapping[str, Any],
    *,
    points: int,
    workers: int = 1,
    algorithm: str | Mapping[str, Any] = "auto",
    seed: int | None = None,
    metric: str = "loss",
    name: str | None = None,
    data: str | os.PathLike[str] | None = None,
    server: str | None = None,
    token: str | None = None,
    stop: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Result:
    """Find the parameters at which a function is smallest.

    Args:
        function: Called with the parameters as a dict; returns the objective, or a dict of metrics with the
            objective among them. `gridtune.report` and `gridtune.should_stop` work inside. When it raises, its
            point has failed and the search goes on.
        space: As in a task file: ``{"x": {"type": "float", "low": 0, "high": 1}, "kind": ["a", "b"]}``.
        points: How many points to evaluate.
        workers: How many at the same time, in threads of this process; the first is the calling thread.
        algorithm: Name, or the section of a task file with options.
        seed: Where all randomness begins; the same seed gives the same search with one worker.
        metric: Name of the objective.
        name: Of the task; the function's name by default.
        data: Folder to keep the task in, for ``gridtune show`` and the like; by default nothing is kept.
        server: Service to use instead of one that is started here.
        token: Token for *server*; by default what ``GRIDTUNE_TOKEN`` or the configuration file says.
        stop: More stop rules: ``{"target": 0.02, "wall_time": "1h", "patience": 20}``.
        progress: Show a line of progress on a terminal or in a notebook.

    Raises:
        InvalidDocument: The space or another argument cannot be used.
        Refused: The service found that out.
        MissingExtra: No service is installed here.
        GridtuneError: All points failed; has the last one's message.
        ServiceError: The service was away for too long.
        KeyboardInterrupt: The task was cancelled before this went on.
    """
    return _search("minimize", **locals())


def maximize(
    function: Function,
    space: Mapping[str, Any],
    *,
    points: int,
    workers: int = 1,
    algorithm: str | Mapping[str, Any] = "auto",
    seed: int | None = None,
    metric: str = "loss",
    name: str | None = None,
    data: str | os.PathLike[str] | None = None,
    server: str | None = None,
    token: str | None = None,
    stop: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Result:
    """Find the parameters at which a function is largest; all else is as in `minimize`."""
    return _search("maximize", **locals())


def _search(
    goal: str,
    *,
    function: Function,
    space: Mapping[str, Any],
    points: int,
    workers: int,
    algorithm: str | Mapping[str, Any],
    seed: int | None,
    metric: str,
    name: str | None,
    data: str | os.PathLike[str] | None,
    server: str | None,
    token: str | None,
    stop: Mapping[str, Any] | None,
    progress: bool,
) -> Result:
    if workers < 1:
        raise ConfigurationError(f"workers: {workers} is below 1")
    document = {
        "name": name or _name_of(function),
        "space": dict(space),
        "objective": {"metric": metric, "goal": goal},
        "algorithm": _algorithm(algorithm, seed),
        "stop": {"points": points, **(stop or {})},
        "retry": {"same_failure": 0},  # nobody is there to resume a paused search
    }
    with _connection(data, server, token) as connection:

        def connect() -> AbstractContextManager[Client]:
            return connected(connection, retry_for=_RETRY_FOR)

        with connect() as client:
            task = client.submit(protocol.SubmitTask(new_request_id(), document)).summary.id
            board = _Board(points, metric, goal, shown=progress and _can_redraw())
            _work(Duty(task, metric, function, connect, board.note, threading.Event()), client, workers)
            board.close()
            return _result(client, task, metric, goal)


def _work(duty: Duty, client: Client, workers: int) -> None:
    me = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        work(duty, [f"{me}-{number}" for number in range(1, workers + 1)])
    except KeyboardInterrupt:
        with suppress(ServiceError):
            client.change_task(duty.task, protocol.ChangeTask(new_request_id(), protocol.TaskAction.CANCEL))
        raise


def _result(client: Client, task: str, metric: str, goal: str) -> Result:
    points = list(client.all_points(task))
    best = client.best(task).point
    failed = [point for point in points if point.state is PointState.FAILED]
    if best is None and failed:
        latest = max(failed, key=lambda point: point.ended_at or "")
        raise GridtuneError(f"all {len(failed)} points failed; point {latest.number}: {latest.message}")
    return Result(task, metric, goal, best, points)


@contextmanager
def _connection(data: str | os.PathLike[str] | None, server: str | None, token: str | None) -> Iterator[Connection]:
    if server is not None and token is not None:
        yield Connection(checked_url(server), Secret(token))
    elif server is not None:
        yield Settings.read({"server": server}, os.environ).connection()
    else:
        with _folder(data) as folder, _service(folder) as connection:
            yield connection


@contextmanager
def _service(folder: Path) -> Iterator[Connection]:
    from gridtune_common.embedded import Service

    with Service(folder) as service:
        yield Connection(service.url, service.token)


@contextmanager
def _folder(data: str | os.PathLike[str] | None) -> Iterator[Path]:
    if data is not None:
        yield Path(data)
        return
    with tempfile.TemporaryDirectory(prefix="gridtune-") as folder:
        yield Path(folder)


def _algorithm(algorithm: str | Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    section = {"name": algorithm} if isinstance(algorithm, str) else dict(algorithm)
    return section if seed is None else {**section, "seed": seed}


def _name_of(function: Function) -> str:
    """The function's name as a task's name; ``<lambda>`` and the like lose what no name can have."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "", getattr(function, "__name__", "")).lstrip("._-")
    return name or "function"


def _can_redraw() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class _Board:
    """One line of progress, drawn again and again. Safe to share between threads."""

    def __init__(self, points: int, metric: str, goal: str, *, shown: bool) -> None:
        self._points = points
        self._metric = metric
        self._better = min if goal == "minimize" else max
        self._shown = shown
        self._lock = threading.Lock()
        self._n_done = 0
        self._n_failed = 0
        self._best: float | None = None

    def note(self, word: protocol.Tell | protocol.Fail | protocol.Release) -> None:
        """A point has ended."""
        with self._lock:
            if isinstance(word, protocol.Tell):
                self._n_done += 1
                value = word.metrics[self._metric]
                if value is not None:
                    self._best = value if self._best is None else self._better(self._best, value)
            elif isinstance(word, protocol.Fail):
                self._n_failed += 1
            self._draw()

    def close(self) -> None:
        """End the line."""
        if self._shown:
            sys.stderr.write("\n")

    def _draw(self) -> None:
        if not self._shown:
            return
        failed = f", {self._n_failed} failed" if self._n_failed else ""
        best = f", best {self._metric} {self._best:.6g}" if self._best is not None else ""
        sys.stderr.write(f"\r{self._n_done}/{self._points} points{failed}{best}\x1b[K")
        sys.stderr.flush()
