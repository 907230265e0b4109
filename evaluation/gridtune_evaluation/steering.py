"""What an agent needs of the steering service, as a port; `gridtune_common.client.Client` is its adapter."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Callable, Protocol, Union

from gridtune_common import protocol
from gridtune_common.client import NothingYet, TaskEnded

#: The last word about an evaluation.
Final = Union[protocol.Tell, protocol.Fail, protocol.Release]


class Steering(Protocol):
    """A connection to the steering service, used by one thread at a time.

    Every call may block while it tries again for a short time. Every call with a ``request_id`` may be
    repeated: the same id gives the same answer and no second effect.

    Raises:
        Unreachable: No answer in time.
        Refused: The service said no.
        WireError: An answer that makes no sense.
    """

    def payload(self, task: str) -> protocol.Payload:
        """What is needed to evaluate the task's points."""

    def file(self, task: str, path: str) -> bytes:
        """The bytes of one of the task's files."""

    def ask(self, task: str, message: protocol.Ask) -> protocol.Lease | NothingYet | TaskEnded:
        """Ask for a point; an answer may take up to ``message.wait`` seconds."""

    def heartbeat(self, evaluation: str, message: protocol.Heartbeat) -> protocol.Verdict:
        """Renew the lease."""

    def report(self, evaluation: str, message: protocol.Reports) -> protocol.Verdict:
        """Send intermediate metrics and renew the lease."""

    def signs(self, message: protocol.Signs) -> protocol.Verdicts:
        """Renew the leases of several evaluations, and send intermediate metrics of theirs."""

    def tell(self, evaluation: str, message: protocol.Tell) -> protocol.Outcome:
        """Deliver the final metrics."""

    def fail(self, evaluation: str, message: protocol.Fail) -> protocol.Outcome:
        """Say that there will be no result."""

    def release(self, evaluation: str, message: protocol.Release) -> protocol.Outcome:
        """Give the point back unfinished."""

    def send_output(self, evaluation: str, message: protocol.Output) -> protocol.Verdict:
        """Send what a watched evaluation has printed, and renew its lease."""

    def begin_upload(self, evaluation: str, message: protocol.BeginUpload) -> protocol.Upload:
        """Begin to upload a checkpoint or log."""

    def upload(self, evaluation: str, upload: str) -> protocol.Upload:
        """Fresh addresses for the parts of an upload."""

    def commit_upload(self, evaluation: str, upload: str, message: protocol.CommitUpload) -> protocol.Outcome:
        """Say that all parts were sent."""

    def download(self, evaluation: str, object_: str) -> protocol.Download:
        """The address of a checkpoint of the evaluation's point."""

    def locate_input(self, task: str, message: protocol.LocateInput) -> protocol.Download:
        """An address from which an ``s3://`` input of the task can be fetched without credentials."""

    def report_damage(self, evaluation: str, object_: str, message: protocol.ReportDamage) -> protocol.Outcome:
        """Say that a checkpoint cannot be restored."""


#: Opens a connection for the calling thread.
Connect = Callable[[], AbstractContextManager[Steering]]
