"""An evaluation in this process: what the function says, and the thread that keeps the lease meanwhile."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Final

from gridtune.payload import session
from gridtune_common import protocol
from gridtune_common.client import Client
from gridtune_common.errors import Refused, ServiceError
from gridtune_common.protocol import Advice

_log = logging.getLogger("gridtune")

#: Opens a connection for the calling thread.
Connect = Callable[[], AbstractContextManager[Client]]

#: Seconds between two messages with reports.
_BATCH_SECONDS: Final = 0.5


class LiveEvaluation:
    """The session of one evaluation (see `gridtune.payload.Session`).

    Attributes:
        saw_stop: Whether the function knows that it should stop; its value is then that of a cut-short training.
        advice: The service's latest word.
    """

    def __init__(self, lease: protocol.Lease, connect: Connect, stopping: threading.Event) -> None:
        self._lease = lease
        self._connect = connect
        self._stopping = stopping
        self._changed = threading.Condition()
        self._waiting: list[protocol.Report] = []
        self._sending: list[protocol.Report] = []
        self._ended = False
        self._result: Mapping[str, float | None] | None = None
        self._last_report: Mapping[str, float | None] | None = None
        self._folders = ExitStack()
        self._folder: Path | None = None
        self.saw_stop = False
        self.advice = Advice.CONTINUE

    # --- what the function calls

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The point."""
        return self._lease.parameters

    @property
    def attempt(self) -> int:
        """1 for the first try."""
        return self._lease.attempt

    def report(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Have metrics sent soon."""
        self._last_report = metrics
        with self._changed:
            self._waiting.append(protocol.Report(step, dict(metrics)))
            self._changed.notify()

    def result(self, metrics: Mapping[str, float | None]) -> None:
        """Keep the final metrics."""
        self._result = metrics

    def should_stop(self) -> bool:
        """Whether the service, or the person at the keyboard, wants no result any more."""
        self.saw_stop = self.saw_stop or self._stopping.is_set() or self.advice is not Advice.CONTINUE
        return self.saw_stop

    def checkpoint_dir(self) -> Path:
        """A folder that lives as long as the evaluation."""
        if self._folder is None:
            self._folder = Path(self._folders.enter_context(tempfile.TemporaryDirectory(prefix="gridtune-")))
        return self._folder

    # --- what the worker calls

    @property
    def final(self) -> Mapping[str, float | None] | None:
        """What counts without a return value: what `gridtune.result` left, else the last report."""
        return self._result if self._result is not None else self._last_report

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the function runs: it finds this session, and the lease is kept."""
        name = f"heartbeat-{self._lease.evaluation}"
        threading.Thread(target=self._keep, name=name, daemon=True).start()
        token = session.set(self)
        try:
            yield
        finally:
            session.reset(token)
            self._folders.close()
            with self._changed:
                self._ended = True
                self._changed.notify()

    def unsent(self) -> list[protocol.Report]:
        """Reports that the service may not have yet."""
        with self._changed:
            return self._sending + self._waiting

    # --- the thread that keeps the lease

    def _keep(self) -> None:
        with ExitStack() as connections:
            client: Client | None = None
            latest = time.monotonic()
            while self._wait(latest):
                client = client or connections.enter_context(self._connect())
                self._speak(client)
                latest = time.monotonic()

    def _wait(self, latest: float) -> bool:
        """Sleep until there is something to say; False when the evaluation is over."""
        with self._changed:
            while not self._ended and self.advice is Advice.CONTINUE:
                period = _BATCH_SECONDS if self._waiting else self._lease.heartbeat_seconds
                pause = latest + period - time.monotonic()
                if pause <= 0:
                    self._sending, self._waiting = self._waiting[:500], self._waiting[500:]
                    return True
                self._changed.wait(pause)
            return False

    def _speak(self, client: Client) -> None:
        evaluation, epoch = self._lease.evaluation, self._lease.epoch
        heard, advice = True, Advice.CONTINUE
        try:
            if self._sending:
                advice = client.report(evaluation, protocol.Reports(epoch, self._sending)).advice
            else:
                advice = client.heartbeat(evaluation, protocol.Heartbeat(epoch)).advice
        except ServiceError as error:
            _log.warning("Cannot renew a lease: %s", error, extra={"action": "heartbeat_failed"})
            status = error.status if isinstance(error, Refused) else 503
            heard = status in (400, 413, 422)  # these reports will never be taken; later ones may be
            advice = Advice.LOST if status < 500 and not heard else Advice.CONTINUE
        with self._changed:
            if not heard:
                self._waiting[:0] = self._sending
            self._sending = []
            self.advice = advice
