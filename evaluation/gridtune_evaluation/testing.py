"""A steering service in memory, for tests of the evaluation side: scripted, patient, and sometimes away."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Union

from gridtune_common import protocol
from gridtune_common.client import NothingYet, TaskEnded
from gridtune_common.errors import Refused, ServiceError, Unreachable
from gridtune_common.protocol import Advice
from gridtune_evaluation.steering import Final as FinalWord
from gridtune_evaluation.transfer import GaveUp, TransferRefused

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
    resources: Mapping[str, Any] | None = None,
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
        resources=dict(resources or {}),
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


class FakeCarrier:
    """An object store in memory, for the addresses of `FakeSteering`.

    Attributes:
        objects: Content by id.
        is_away: Whether nothing gets through.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.is_away = False

    def upload(
        self,
        path: Path,
        upload: protocol.Upload,
        refresh: Callable[[], protocol.Upload],
        give_up: Callable[[], bool],
    ) -> None:
        """Keep a file's content."""
        self._wait(give_up)
        self.objects[upload.id] = path.read_bytes()

    def download(
        self,
        target: Path,
        fetch: Callable[[], protocol.Download],
        *,
        size: int,
        sha256: str,
        give_up: Callable[[], bool],
    ) -> None:
        """Write a kept content, as it is."""
        self._wait(give_up)
        name = fetch().url.partition(":")[2]
        if name not in self.objects:
            raise TransferRefused(404, f"the fake store has no {name}")
        target.write_bytes(self.objects[name])

    def _wait(self, give_up: Callable[[], bool]) -> None:
        while self.is_away:
            if give_up():
                raise GaveUp("the fake store is away")
            time.sleep(0.01)


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
        outputs: Evaluation and message of all watched output.
        uploads: Evaluation and message of every upload that was begun; the first one is ``o1``.
        commits: The committed uploads.
        damaged: Objects that could not be restored.
        located: The inputs whose address was asked for.
        addresses: Inputs in S3 and their addresses, in order; the last one is for all that come later.
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
        self._declined: list[str] = []
        self._away = False
        self._changed = threading.Condition()
        self.asks: list[protocol.Ask] = []
        self.heartbeats: list[tuple[str, protocol.Heartbeat]] = []
        self.signs_together: list[int] = []
        self.reports: list[tuple[str, protocol.Reports]] = []
        self.ends: list[tuple[str, FinalWord]] = []
        self.outputs: list[tuple[str, protocol.Output]] = []
        self.uploads: list[tuple[str, protocol.BeginUpload]] = []
        self.commits: list[str] = []
        self.damaged: list[str] = []
        self.located: list[str] = []
        self.addresses: dict[str, list[protocol.Download]] = {}
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

    def advise(self, advice: Advice, reason: str = "", *, watched: bool = False) -> None:
        """Answer heartbeats and reports with this from now on."""
        with self._changed:
            self._verdict = protocol.Verdict(advice, reason, watched=watched)

    def refuse(self, call: str, status: int, detail: str = "", *, times: int = 1) -> None:
        """Refuse the next calls of a method."""
        for _ in range(times):
            self.refuse_with(call, Refused(status, {"detail": detail}))

    def refuse_with(self, call: str, error: ServiceError) -> None:
        """Answer the next call of a method so."""
        with self._changed:
            self._refusals.setdefault(call, []).append(error)

    def decline(self, reason: str) -> None:
        """Do not want the next object that is committed."""
        with self._changed:
            self._declined.append(reason)

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

    def signs(self, message: protocol.Signs) -> protocol.Verdicts:
        """Record each sign, as if it had come alone."""
        with self._call("signs"):
            self.signs_together.append(len(message.signs))
            for sign in message.signs:
                if sign.reports:
                    self.reports.append((sign.evaluation, protocol.Reports(sign.epoch, sign.reports)))
                else:
                    self.heartbeats.append((sign.evaluation, protocol.Heartbeat(sign.epoch)))
            return protocol.Verdicts([self._verdict for _ in message.signs])

    def send_output(self, evaluation: str, message: protocol.Output) -> protocol.Verdict:
        """Record watched output."""
        with self._call("send_output"):
            self.outputs.append((evaluation, message))
            return self._verdict

    def begin_upload(self, evaluation: str, message: protocol.BeginUpload) -> protocol.Upload:
        """Take an object: its one part goes to a file of this machine."""
        with self._call("begin_upload"):
            if message.request_id not in self._memory:
                self.uploads.append((evaluation, message))
                self._memory[message.request_id] = f"o{len(self.uploads)}"
            return self._addresses(self._memory[message.request_id], message.size)

    def upload(self, evaluation: str, upload: str) -> protocol.Upload:
        """The same addresses again."""
        with self._call("upload"):
            return self._addresses(upload, self.uploads[int(upload[1:]) - 1][1].size)

    def _addresses(self, upload: str, size: int) -> protocol.Upload:
        return protocol.Upload(upload, [f"memory:{upload}"], max(size, 1), 60.0)

    def commit_upload(self, evaluation: str, upload: str, message: protocol.CommitUpload) -> protocol.Outcome:
        """Record that an object is whole."""
        with self._call("commit_upload"):
            if self._declined:
                return protocol.Outcome(accepted=False, reason=self._declined.pop())
            self.commits.append(upload)
            return protocol.Outcome(accepted=True)

    def download(self, evaluation: str, object_: str) -> protocol.Download:
        """Where an object is."""
        with self._call("download"):
            return protocol.Download(f"memory:{object_}", 60.0)

    def locate_input(self, task: str, message: protocol.LocateInput) -> protocol.Download:
        """The next address of an input."""
        with self._call("locate_input"):
            self.located.append(message.url)
            known = self.addresses.get(message.url)
            if not known:
                raise Refused(403, {"detail": f"this service signs no address for {message.url}"})
            return known.pop(0) if len(known) > 1 else known[0]

    def report_damage(self, evaluation: str, object_: str, message: protocol.ReportDamage) -> protocol.Outcome:
        """Record a damaged object."""
        with self._call("report_damage"):
            self.damaged.append(object_)
            return protocol.Outcome(accepted=True)

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
