"""A steering service in memory, for tests of the evaluation side: scripted, patient, and sometimes away."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable, Union

from gridtune_common import protocol
from gridtune_common.client import NothingYet, TaskEnded
from gridtune_common.errors import Refused, ServiceError, Unreachable
from gridtune_common.protocol import Advice
from gridtune_evaluation.steering import Final as FinalWord

#: What an ask is answered with.
Answer = Union[protocol.Lease, NothingYet, TaskEnded]


def make_payload(
    command: str = "true",
    *,
    task: str = "t1",
    objectives: Iterable[str] = ("loss",),
    constants: Mapping[str, Any] | None = None,
    parameters: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
    **document: Any,
) -> protocol.Payload:
    """A payload; more keywords go into its document."""
    entries = [
        protocol.FileEntry(path, len(content), hashlib.sha256(content).hexdigest())
        for path, content in (files or {}).items()
    ]
    return protocol.Payload(
        task=task,
        name=f"task {task}",
        document={"command": command, **document},
        objectives=list(objectives),
        constants=dict(constants or {}),
        parameters=list(parameters),
        files=entries,
    )


def make_lease(
    point: int = 0,
    *,
    task: str = "t1",
    epoch: int = 1,
    attempt: int = 1,
    heartbeat_seconds: float = 5.0,
    **parameters: protocol.Value,
) -> protocol.Lease:
    """A lease of a point; more keywords are its parameters."""
    return protocol.Lease(
        task=task,
        evaluation=f"e{point}-{epoch}",
        epoch=epoch,
        attempt=attempt,
        point=point,
        parameters=parameters,
        lease_seconds=4 * heartbeat_seconds,
        heartbeat_seconds=heartbeat_seconds,
    )


class FakeSteering:
    """Stands in for `gridtune_common.client.Client`, for all threads of an agent at once.

    Asks are answered from a script, then with `TaskEnded`. A repeated request id gets the same answer and is
    recorded once.

    Args:
        answers: What asks get, in order.
        files: The bytes of the task's files.

    Attributes:
        asks: Every ask.
        heartbeats: Evaluation and message of every heartbeat.
        reports: Evaluation and message of every message with reports.
        ends: Evaluation and message of every last word.
        n_calls: How often the service was called, heard or not.
    """

    def __init__(
        self,
        payload: protocol.Payload | None = None,
        answers: Iterable[Answer] = (),
        *,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self._payload = payload or make_payload()
        self._answers = list(answers)
        self._files = dict(files or {})
        self._memory: dict[str, Any] = {}
        self._refusals: dict[str, list[ServiceError]] = {}
        self._verdict = protocol.Verdict(Advice.CONTINUE)
        self._away = False
        self._changed = threading.Condition()
        self.asks: list[protocol.Ask] = []
        self.heartbeats: list[tuple[str, protocol.Heartbeat]] = []
        self.reports: list[tuple[str, protocol.Reports]] = []
        self.ends: list[tuple[str, FinalWord]] = []
        self.n_calls = 0

    # --- the script

    @contextmanager
    def connect(self) -> Iterator[FakeSteering]:
        """What an agent takes for opening a connection."""
        yield self

    def go_away(self) -> None:
        """Answer nobody from now on."""
        with self._changed:
            self._away = True

    def come_back(self) -> None:
        """Answer again."""
        with self._changed:
            self._away = False

    def advise(self, advice: Advice, reason: str = "") -> None:
        """Answer heartbeats and reports with this from now on."""
        with self._changed:
            self._verdict = protocol.Verdict(advice, reason)

    def refuse(self, call: str, status: int, detail: str = "", *, times: int = 1) -> None:
        """Refuse the next calls of a method."""
        with self._changed:
            self._refusals.setdefault(call, []).extend([Refused(status, {"detail": detail})] * times)

    def wait_until(self, is_so: Callable[[FakeSteering], bool], seconds: float = 10.0) -> None:
        """Wait for something to be heard.

        Raises:
            TimeoutError: It was not.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not is_so(self):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"not so after {seconds} s; heard: {self.ends}, {self.reports}")

    @property
    def reported(self) -> list[protocol.Report]:
        """All reports, in order of arrival, also those that came with a last word."""
        with self._changed:
            messages = [message for _, message in self.reports] + [message for _, message in self.ends]
        return [report for message in messages for report in message.reports]

    # --- the port

    def payload(self, task: str) -> protocol.Payload:
        """What is needed to evaluate the task's points."""
        with self._call("payload"):
            return self._payload

    def file(self, task: str, path: str) -> bytes:
        """The bytes of one of the task's files."""
        with self._call("file"):
            return self._files[path]

    def ask(self, task: str, message: protocol.Ask) -> Answer:
        """The next answer of the script."""
        with self._call("ask"):
            if message.request_id not in self._memory:
                self.asks.append(message)
                answer = self._answers.pop(0) if self._answers else TaskEnded("finished")
                self._memory[message.request_id] = answer
            found: Answer = self._memory[message.request_id]
            return found

    def heartbeat(self, evaluation: str, message: protocol.Heartbeat) -> protocol.Verdict:
        """Record a heartbeat."""
        with self._call("heartbeat"):
            self.heartbeats.append((evaluation, message))
            return self._verdict

    def report(self, evaluation: str, message: protocol.Reports) -> protocol.Verdict:
        """Record reports."""
        with self._call("report"):
            self.reports.append((evaluation, message))
            return self._verdict

    def tell(self, evaluation: str, message: protocol.Tell) -> protocol.Outcome:
        """Record a result."""
        return self._end("tell", evaluation, message)

    def fail(self, evaluation: str, message: protocol.Fail) -> protocol.Outcome:
        """Record a failure."""
        return self._end("fail", evaluation, message)

    def release(self, evaluation: str, message: protocol.Release) -> protocol.Outcome:
        """Record a release."""
        return self._end("release", evaluation, message)

    # --- plumbing

    def _end(self, call: str, evaluation: str, message: FinalWord) -> protocol.Outcome:
        with self._call(call):
            if message.request_id not in self._memory:
                self._memory[message.request_id] = protocol.Outcome(accepted=True)
                self.ends.append((evaluation, message))
            return protocol.Outcome(accepted=True)

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._changed:
            self.n_calls += 1
            self._changed.notify_all()
            if self._away:
                raise Unreachable("the fake service is away")
            if self._refusals.get(name):
                raise self._refusals[name].pop(0)
            yield
            self._changed.notify_all()
