"""Checkpoints of a running payload: packed while it trains, uploaded beside it, committed when they are whole.

Two threads for each evaluation. One packs: every ``payload.checkpoint.interval``, when the payload asks for it (the
file ``checkpoint`` in its control folder), and a last time when it has left. The other uploads, one after the other;
a snapshot that waits there for its turn gives way to a newer one. Neither ever holds the payload up, and no trouble
with storage makes an evaluation fail: a checkpoint that did not come about is a warning, the next one a new try.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Final

from gridtune_common import protocol
from gridtune_common.client import new_request_id
from gridtune_common.errors import ServiceError
from gridtune_common.protocol import ObjectKind
from gridtune_common.units import show_bytes, show_seconds
from gridtune_evaluation import archive
from gridtune_evaluation.carrier import Carrier
from gridtune_evaluation.contract import Room
from gridtune_evaluation.plan import Plan
from gridtune_evaluation.steering import Connect
from gridtune_evaluation.storing import store
from gridtune_evaluation.timeleft import TimeLeft
from gridtune_evaluation.transfer import TransferError

_log = logging.getLogger("gridtune.agent")

#: Seconds between two looks for the payload's own wish.
_LOOK: Final = 0.1
#: The contract's own files, which are new for each evaluation.
NOT_SAVED: Final = (".gridtune", "input.json", "output.log")
#: Files of a payload that had to be killed count only if they were at rest for so many seconds.
_AT_REST: Final = 2.0


@dataclass(frozen=True)
class _Snapshot:
    path: Path
    packed: archive.Packed
    step: int | None
    interrupted: bool
    taken_at: float


class Saver:
    """Takes the checkpoints of one evaluation. To be used by the thread that watches the payload.

    Args:
        aside: An empty folder for archives, on the same disk as the working directory.
        step: What the payload has reported so far.
        time_left: Is told how long checkpoints take.
    """

    def __init__(
        self,
        lease: protocol.Lease,
        plan: Plan,
        room: Room,
        aside: Path,
        step: Callable[[], int | None],
        connect: Connect,
        carrier: Carrier,
        time_left: TimeLeft,
    ) -> None:
        self._lease = lease
        self._room = room
        self._aside = aside
        self._step = step
        self._connect = connect
        self._carrier = carrier
        self._patterns = [*plan.checkpoint_paths, room.saved.relative_to(room.directory).as_posix()]
        self._interval = plan.checkpoint_seconds
        self._grace = plan.grace_seconds
        self._format = plan.checkpoint_format
        self._fingerprint: archive.Fingerprint | None = None
        self._count = 0
        self._packing = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: _Snapshot | None = None
        self._busy = False
        self._ended = False
        self._given_up = False
        self._time_left = time_left
        self._threads = [
            threading.Thread(target=target, name=f"{name}-{lease.evaluation}", daemon=True)
            for name, target in (("packer", self._pack_now_and_then), ("uploader", self._upload_what_comes))
        ]

    def start(self) -> None:
        """Begin, with the files as they are now as what needs no checkpoint."""
        self._fingerprint = archive.fingerprint(self._room.directory, self._patterns, NOT_SAVED)
        for thread in self._threads:
            thread.start()

    def finish(self, *, was_killed: bool, until: float, hurry: Callable[[], bool]) -> None:
        """Take a last checkpoint of what the payload has left behind, and wait for it.

        Args:
            was_killed: The payload did not leave, so what it has just touched may be torn.
            until: Then it is given up; by the monotonic clock.
            hurry: Whether to give it up at once.
        """
        with self._packing:
            if not was_killed or self._is_at_rest():
                self._take(interrupted=True)
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            while (self._waiting or self._busy) and time.monotonic() < until and not hurry():
                self._changed.wait(min(max(until - time.monotonic(), 0.0), 0.2))
        self.give_up()

    def give_up(self) -> None:
        """Nobody needs a checkpoint of this evaluation any more."""
        with self._changed:
            self._ended = self._given_up = True
            self._changed.notify_all()

    # --- packing

    def _pack_now_and_then(self) -> None:
        due = time.monotonic() + self._interval
        while not self._ended:
            if self._room.save_request.exists() or (time.monotonic() >= due and not self._is_near_the_end()):
                with self._packing:
                    if not self._ended:
                        self._take()
                due = time.monotonic() + self._interval
            with self._changed:
                if not self._ended:
                    self._changed.wait(_LOOK)

    def _is_near_the_end(self) -> bool:
        """Whether a checkpoint that is begun now would be in the way of the last one."""
        left = self._time_left.seconds
        return left is not None and left < 1.5 * self._time_left.margin(self._grace)

    def _take(self, *, interrupted: bool = False) -> None:
        request = self._read_request()
        try:
            self._pack(self._wished_step(request), interrupted)
        except archive.ArchiveError as error:
            self._warn("No checkpoint of point %d: %s", error)
        except OSError as error:
            self._warn("No checkpoint of point %d: the disk: %s", error)
        finally:
            if request is not None and self._read_request() == request:
                with suppress(OSError):
                    self._room.save_request.unlink()  # tells the payload that its files are its own again

    def _pack(self, step: int | None, interrupted: bool) -> None:
        started = time.monotonic()
        self._count += 1
        target = self._aside / f"{self._count}.tar"
        packed = archive.pack(
            self._room.directory, self._patterns, target, before=self._fingerprint, without=NOT_SAVED, form=self._format
        )
        if not isinstance(packed, archive.Packed):
            return  # nothing there, or nothing new
        self._fingerprint = packed.fingerprint
        snapshot = _Snapshot(target, packed, step, interrupted, started)
        with self._changed:
            passed_over, self._waiting = self._waiting, snapshot
            self._changed.notify_all()
        if passed_over is not None:
            passed_over.path.unlink()

    def _read_request(self) -> str | None:
        try:
            return self._room.save_request.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def _wished_step(self, request: str | None) -> int | None:
        """The step that the payload has named, else the one that it has reported last."""
        try:
            wish: Any = json.loads(request or "null")
        except ValueError:
            wish = None
        step = wish.get("step") if isinstance(wish, dict) else None
        return step if isinstance(step, int) and not isinstance(step, bool) else self._step()

    def _is_at_rest(self) -> bool:
        """Whether no file was touched in the last moments: a killed payload may have left halves."""
        newest = archive.newest_change(self._room.directory, self._patterns, NOT_SAVED)
        return newest is None or time.time() - newest > _AT_REST

    # --- uploading

    def _upload_what_comes(self) -> None:
        while True:
            with self._changed:
                while self._waiting is None and not self._ended:
                    self._changed.wait()
                snapshot, self._waiting = self._waiting, None
                if snapshot is None or self._given_up:
                    return
                self._busy = True
            try:
                self._upload(snapshot)
            finally:
                with suppress(OSError):
                    snapshot.path.unlink()
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _upload(self, snapshot: _Snapshot) -> None:
        packed = snapshot.packed
        message = protocol.BeginUpload(
            new_request_id(),
            self._lease.epoch,
            ObjectKind.CHECKPOINT,
            packed.size,
            packed.sha256,
            packed.format.value,
            snapshot.step,
            snapshot.interrupted,
        )
        try:
            with self._connect() as steering:
                outcome = store(
                    steering, self._carrier, self._lease.evaluation, snapshot.path, message, lambda: self._given_up
                )
        except (ServiceError, TransferError, archive.Damaged, OSError) as error:
            self._fingerprint = None  # whatever is there next time is to be saved
            self._warn("The checkpoint of point %d was not stored: %s", error)
            return
        if not outcome.accepted:
            self._warn("The checkpoint of point %d was not wanted: %s", outcome.reason)
            return
        took = time.monotonic() - snapshot.taken_at
        self._time_left.note_saving(took)
        text = "Checkpoint of point %d stored (%s, %s)."
        size, time_ = show_bytes(packed.size), show_seconds(took)
        _log.info(text, self._lease.point, size, time_, extra=self._extra("checkpoint_stored"))

    def _warn(self, text: str, why: object) -> None:
        _log.warning(text, self._lease.point, why, extra=self._extra("checkpoint_missed"))

    def _extra(self, action: str) -> dict[str, object]:
        return {"action": action, "point": self._lease.point, "evaluation": self._lease.evaluation}
