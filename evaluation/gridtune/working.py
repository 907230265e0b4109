"""The workers of `gridtune.minimize`: each asks for a point, calls the function with it, and tells the value."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, Final, Union

from gridtune.live import Connect, LiveEvaluation
from gridtune.payload import number
from gridtune_common import __version__, protocol
from gridtune_common.client import Client, NothingYet, TaskEnded, new_request_id
from gridtune_common.errors import Refused, ServiceError
from gridtune_common.protocol import Advice, FailureCause, ReleaseCause

_log = logging.getLogger("gridtune")

#: What is evaluated: from a point to the objective, or to all metrics by name.
Function = Callable[[dict[str, Any]], Any]

_LastWord = Union[protocol.Tell, protocol.Fail, protocol.Release]

#: Seconds that the service may hold an ask.
_ASK_WAIT: Final = 10.0
#: Characters of a traceback that travel with a failure.
_TAIL: Final = 8192
#: Seconds for the other workers' functions to notice that they should stop.
_STOP_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Duty:
    """What all workers of a task have in common.

    Attributes:
        metric: The objective.
        note: Hears of every last word that the service took.
        stopping: Set when the workers should end.
    """

    task: str
    metric: str
    function: Function
    connect: Connect
    note: Callable[[_LastWord], None]
    stopping: threading.Event


def work(duty: Duty, names: Sequence[str]) -> None:
    """Evaluate points until the task ends: one worker in the calling thread, the others beside it.

    The calling thread's function is interrupted by Ctrl-C as any other is; those beside it can only be asked to
    stop.

    Raises:
        ServiceError: A worker could not go on; the others have been stopped.
        KeyboardInterrupt: Likewise.
    """
    mine, *others = [Worker(name, duty) for name in names]
    threads = [_Beside(worker) for worker in others]
    for thread in threads:
        thread.start()
    try:
        mine.run()
        while any(thread.is_alive() for thread in threads):
            threads[0].join(0.2)
            threads.append(threads.pop(0))
    finally:
        duty.stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
    for thread in threads:
        if thread.caught.error is not None:
            raise thread.caught.error


class Worker:
    """Evaluates one point after another."""

    def __init__(self, name: str, duty: Duty) -> None:
        self._name = name
        self._duty = duty

    def run(self) -> None:
        """Work until the task has ended or the workers should stop."""
        duty = self._duty
        with duty.connect() as client:
            while not duty.stopping.is_set():
                answer = client.ask(duty.task, self._ask())
                if isinstance(answer, TaskEnded):
                    return
                if isinstance(answer, NothingYet):
                    duty.stopping.wait(min(answer.retry_after, _ASK_WAIT))
                else:
                    self._evaluate(client, answer)

    def _ask(self) -> protocol.Ask:
        host = socket.gethostname()
        return protocol.Ask(new_request_id(), self._name, host=host, agent_version=__version__, wait=_ASK_WAIT)

    def _evaluate(self, client: Client, lease: protocol.Lease) -> None:
        live = LiveEvaluation(lease, self._duty.connect, self._duty.stopping)
        call = Caught()
        value = None
        try:
            with live.running(), call:
                value = self._duty.function(dict(lease.parameters))
        except KeyboardInterrupt:
            self._duty.stopping.set()
            with contextlib.suppress(ServiceError):
                self._say(client, lease, self._release(lease, live))
            raise
        self._say(client, lease, self._last_word(lease, live, call, value))

    def _last_word(self, lease: protocol.Lease, live: LiveEvaluation, call: Caught, value: Any) -> _LastWord:
        if live.saw_stop:
            return self._release(lease, live)
        if call.error is not None:
            return self._failure(lease, live, FailureCause.EXIT_CODE, call.summary, call.trace)
        try:
            metrics = self._metrics(live.final if value is None else value)
        except TypeError as error:
            return self._failure(lease, live, FailureCause.INVALID_RESULT, f"the function returned {error}")
        if metrics.get(self._duty.metric) is None:
            return self._failure(lease, live, *self._why_unusable(metrics))
        reports = [] if live.advice is Advice.LOST else live.unsent()
        leaving = self._duty.stopping.is_set()
        return protocol.Tell(new_request_id(), lease.epoch, metrics, leaving=leaving, reports=reports)

    def _metrics(self, value: Any) -> protocol.Metrics:
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return {str(name): None if metric is None else number(metric) for name, metric in value.items()}
        return {self._duty.metric: number(value)}

    def _why_unusable(self, metrics: protocol.Metrics) -> tuple[FailureCause, str]:
        metric = self._duty.metric
        if not metrics:
            ways = f"return a number or {{'{metric}': …}}, or call gridtune.result({metric}=…)"
            return FailureCause.NO_RESULT, f"the function left no result; {ways}"
        if metric in metrics:
            return FailureCause.INVALID_RESULT, f"{metric} is not a finite number"
        return FailureCause.INVALID_RESULT, f"{metric} is missing; metrics there: {', '.join(metrics)}"

    def _failure(
        self, lease: protocol.Lease, live: LiveEvaluation, cause: FailureCause, message: str, trace: str = ""
    ) -> protocol.Fail:
        """A failure for good: the same function with the same values would fail again."""
        return protocol.Fail(
            new_request_id(),
            lease.epoch,
            cause,
            message,
            output_tail=trace[-_TAIL:],
            permanent=True,
            leaving=self._duty.stopping.is_set(),
            reports=live.unsent(),
        )

    def _release(self, lease: protocol.Lease, live: LiveEvaluation) -> protocol.Release:
        if live.advice is Advice.CONTINUE:
            cause, message = ReleaseCause.SHUTDOWN, "interrupted"
        else:
            cause, message = ReleaseCause.STOPPED, "steering told the evaluation to stop"
        reports = [] if live.advice is Advice.LOST else live.unsent()
        leaving = self._duty.stopping.is_set()
        return protocol.Release(new_request_id(), lease.epoch, cause, message, leaving=leaving, reports=reports)

    def _say(self, client: Client, lease: protocol.Lease, word: _LastWord) -> None:
        try:
            self._say_once(client, lease, word)
        except Refused as refusal:
            if not isinstance(word, protocol.Tell) or refusal.status != 422:
                extra = {"action": "delivery_refused", "point": lease.point}
                _log.warning("The service refused the end of point %d: %s", lease.point, refusal, extra=extra)
                return
            cause = FailureCause.INVALID_RESULT
            word = protocol.Fail(new_request_id(), word.epoch, cause, str(refusal), permanent=True)
            self._say_once(client, lease, word)
        self._duty.note(word)

    def _say_once(self, client: Client, lease: protocol.Lease, word: _LastWord) -> None:
        if isinstance(word, protocol.Tell):
            client.tell(lease.evaluation, word)
        elif isinstance(word, protocol.Fail):
            client.fail(lease.evaluation, word)
        else:
            client.release(lease.evaluation, word)


class Caught:
    """Catches what the code in its ``with`` block raises: that code is the user's, so it may be anything.

    An interruption from the keyboard goes on.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.trace = ""

    @property
    def summary(self) -> str:
        """The error in one line."""
        return "".join(traceback.format_exception_only(type(self.error), self.error)).strip()

    def __enter__(self) -> Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, (Exception, SystemExit)):
            return False
        self.error = error
        self.trace = "".join(traceback.format_exception(kind, error, trace))
        return True


class _Beside(threading.Thread):
    """A worker beside the one in the calling thread."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="gridtune-worker", daemon=True)
        self._worker = worker
        self.caught = Caught()

    def run(self) -> None:
        with self.caught:
            self._worker.run()
