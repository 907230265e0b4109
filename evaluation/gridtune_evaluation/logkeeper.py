"""Whole logs to object storage: packed when an evaluation has ended, uploaded when there is time for it.

Short outputs travel with the last word. Longer ones are packed into ``<work>/<task>/logs/<evaluation>.<epoch>.gz`` and
uploaded by one thread of the agent, so that the next point does not wait for them. What an agent could not upload, the
next one does that works in the same folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from gridtune_common import protocol
from gridtune_common.client import new_request_id
from gridtune_common.errors import ServiceError
from gridtune_common.protocol import ObjectKind
from gridtune_evaluation import archive, logs
from gridtune_evaluation.carrier import Carrier
from gridtune_evaluation.outage import is_forbidden, passes
from gridtune_evaluation.steering import Connect
from gridtune_evaluation.storing import store
from gridtune_evaluation.transfer import GaveUp, TransferError
from gridtune_evaluation.untrusted import PayloadFile
from gridtune_evaluation.workplace import make_private

_log = logging.getLogger("gridtune.agent")

#: Seconds until what could not be uploaded is tried again.
_AGAIN: Final = 30.0
_SOON: Final = 0.2
#: A draft of this age belongs to nobody, in seconds.
_OLD: Final = 3600.0


class LogKeeper:
    """Uploads logs beside the evaluations. Safe to share between threads.

    Args:
        folder: Where packed logs wait; agents may share it.
    """

    def __init__(self, folder: Path, connect: Connect, carrier: Carrier) -> None:
        self._folder = folder
        self._connect = connect
        self._carrier = carrier
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._thread = threading.Thread(target=self._upload_what_comes, name="logs", daemon=True)

    def start(self) -> None:
        """Begin, with what earlier agents have left."""
        make_private(self._folder)
        for draft in self._folder.glob("*.draft"):
            if time.time() - draft.stat().st_mtime > _OLD:
                draft.unlink(missing_ok=True)
        self._thread.start()

    def keep(self, lease: protocol.Lease, output: PayloadFile) -> None:
        """Pack the output of an evaluation that has ended, if it is long; trouble with the disk is only logged."""
        target = self._folder / f"{lease.evaluation}.{lease.epoch}.gz"
        draft = target.with_suffix(".draft")
        try:
            if output.status().st_size <= logs.SHORT:
                return
            logs.compress(output, draft)
            os.replace(draft, target)
        except FileNotFoundError:
            return  # nothing was printed, or nothing was started
        except OSError as error:
            _log.warning("Cannot keep the log of point %d: %s", lease.point, error, extra={"action": "log_missed"})
            with suppress(OSError):
                draft.unlink()
            return
        with self._changed:
            self._changed.notify_all()

    def close(self, until: float) -> None:
        """Upload what is there, at most *until* (monotonic); the rest is for the next agent."""
        with self._changed:
            self._closing_at = until
            self._changed.notify_all()
        self._thread.join(max(until - time.monotonic(), 0.0) + 1.0)

    def _upload_what_comes(self) -> None:
        while True:
            waiting = [path for path in sorted(self._folder.glob("*.gz")) if not self._is_over()]
            left = [path for path in waiting if not self._deal_with(path)]
            with self._changed:
                if self._closing_at is not None and (not left or self._is_over()):
                    return
                # what is there and not left came just now, or another agent is at it
                is_soon = self._closing_at is not None or (not left and any(self._folder.glob("*.gz")))
                self._changed.wait(_SOON if is_soon else _AGAIN)

    def _is_over(self) -> bool:
        closing_at = self._closing_at
        return closing_at is not None and time.monotonic() > closing_at

    def _deal_with(self, path: Path) -> bool:
        """Upload one log; whether there is nothing more to do about it."""
        try:
            with open(path, "r+b") as file:  # network file systems lock only what may be written
                _lock(file.fileno())
                return self._upload(path)
        except FileNotFoundError:
            return True  # another agent was faster
        except BlockingIOError:
            return True  # another agent is at it

    def _upload(self, path: Path) -> bool:
        evaluation, epoch, _ = path.name.split(".")
        sha256, size = archive.checksum(path)
        message = protocol.BeginUpload(new_request_id(), int(epoch), ObjectKind.LOG, size, sha256, "gz")
        try:
            with self._connect() as steering:
                store(steering, self._carrier, evaluation, path, message, self._is_over)
        except GaveUp:
            return False
        except (ServiceError, TransferError) as error:
            if isinstance(error, ServiceError) and (passes(error) or is_forbidden(error)):
                return False  # another time, or another token
            text = "The log of evaluation %s was not stored: %s"
            _log.warning(text, evaluation, error, extra={"action": "log_missed", "evaluation": evaluation})
        path.unlink(missing_ok=True)
        return True


def _lock(descriptor: int) -> None:
    """Take a log for this agent; where there are no locks, two may upload the same.

    Raises:
        BlockingIOError: Another agent has it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
