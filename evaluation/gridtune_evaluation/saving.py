"""Checkpoints of a running payload: packed while it trains, uploaded beside it, committed when they are whole.

Two threads for each evaluation. One packs: every ``payload.checkpoint.interval``, when the payload asks for it (the
file ``checkpoint`` in its control folder), and a last time when it has left. The other uploads, one after the other;
a snapshot that waits there for its turn gives way to a newer one. Neither ever holds the payload up, and no trouble
with storage makes an evaluation fail: a checkpoint that did not come about is a warning, the next one a new try.

What did not change is not sent again. The last whole checkpoint that was committed, or that this evaluation went on
from, is the base of those that follow, which are deltas: see `archive.deltas`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Final

from gridtune_common import protocol
from gridtune_common.client import new_request_id
from gridtune_common.errors import Refused, ServiceError
from gridtune_common.protocol import ObjectKind
from gridtune_common.units import show_bytes, show_seconds
from gridtune_evaluation import archive
from gridtune_evaluation.carrier import Carrier
from gridtune_evaluation.contract import Room
from gridtune_evaluation.plan import Plan
from gridtune_evaluation.restoring import Restored
from gridtune_evaluation.steering import Connect
from gridtune_evaluation.storing import store
from gridtune_evaluation.timeleft import TimeLeft
from gridtune_evaluation.transfer import TransferError
from gridtune_evaluation.untrusted import unlink

_log = logging.getLogger("gridtune.agent")

#: What a payload asks for is a line, in bytes.
_LONGEST_REQUEST: Final = 4096
#: Seconds between two looks for the payload's own wish.
_LOOK: Final = 0.1
#: The contract's own files, which are new for each evaluation.
NOT_SAVED: Final = (".gridtune", "input.json", "output.log")
#: A service that knows no deltas does not know their formats.
_UNKNOWN_FORMAT: Final = 422
#: What a service says to a delta whose base it does not keep, or to any delta.
_NO_SUCH_BASE: Final = frozenset({409, _UNKNOWN_FORMAT})
#: Files of a payload that had to be killed count only if they were at rest for so many seconds.
_AT_REST: Final = 2.0


@dataclass(frozen=True)
class _Base:
    """A whole checkpoint in the store, and what of it lies in the working directory untouched."""

    object: str
    entries: Mapping[str, archive.Entry]


@dataclass(frozen=True)
class _Snapshot:
    path: Path
    packed: archive.Packed
    base: str | None
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
        self._base: _Base | None = None
        self._makes_deltas = True
        self._again = False
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

    def start(self, restored: Restored | None = None) -> None:
        """Begin, with the files as they are now as what needs no checkpoint."""
        if restored is not None:
            listing = archive.list_settled(self._room.directory, self._patterns, NOT_SAVED)
            entries = {name: entry for name, entry in listing.at_rest.items() if name in restored.names}
            self._base = _Base(restored.base, entries)
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
                # if that was refused for its base, there is no next occasion
                if self._uploaded(until, hurry) and self._again and time.monotonic() < until and not hurry():
                    self._take(interrupted=True)
            with self._changed:
                self._ended = True
                self._changed.notify_all()
        self._uploaded(until, hurry)
        self.give_up()

    def _uploaded(self, until: float, hurry: Callable[[], bool]) -> bool:
        """Wait for what is on its way; whether that has come to an end, good or bad."""
        with self._changed:
            while (self._waiting or self._busy) and time.monotonic() < until and not hurry():
                self._changed.wait(min(max(until - time.monotonic(), 0.0), 0.2))
            return not (self._waiting or self._busy)

    def give_up(self) -> None:
        """Nobody needs a checkpoint of this evaluation any more."""
        with self._changed:
            self._ended = self._given_up = True
            self._changed.notify_all()

    # --- packing

    def _pack_now_and_then(self) -> None:
        due = time.monotonic() + self._interval
        while not self._ended:
            is_due = self._again or time.monotonic() >= due
            if self._room.save_request.exists() or (is_due and not self._is_near_the_end()):
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
                    unlink(
                        self._room.directory, self._room.save_request.path
                    )  # tells the payload that its files are its own again

    def _pack(self, step: int | None, interrupted: bool) -> None:
        started = time.monotonic()
        self._count += 1
        target = self._aside / f"{self._count}.tar"
        with self._changed:
            self._again = False
            base, before = self._base, self._fingerprint
        packed = archive.pack(
            self._room.directory,
            self._patterns,
            target,
            before=before,
            base=None if base is None else base.entries,
            # at the end there is time for what checkpoints took so far, and those were deltas
            share=1.0 if interrupted else archive.WORTHWHILE_SHARE,
            without=NOT_SAVED,
            form=self._format,
        )
        if not isinstance(packed, archive.Packed):
            return  # nothing there, or nothing new
        leans_on = base.object if base is not None and packed.format.is_delta else None
        snapshot = _Snapshot(target, packed, leans_on, step, interrupted, started)
        with self._changed:
            self._fingerprint = packed.fingerprint
            passed_over, self._waiting = self._waiting, snapshot
            self._changed.notify_all()
        if passed_over is not None:
            passed_over.path.unlink()

    def _read_request(self) -> str | None:
        try:
            with self._room.save_request.open() as file:
                return file.read(_LONGEST_REQUEST).decode("utf-8", "replace")
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
            snapshot.base,
        )
        try:
            with self._connect() as steering:
                object_, outcome = store(
                    steering, self._carrier, self._lease.evaluation, snapshot.path, message, lambda: self._given_up
                )
        except (ServiceError, TransferError, archive.Damaged, OSError) as error:
            self._fingerprint = None  # whatever is there next time is to be saved
            self._warn("The checkpoint of point %d was not stored: %s", error)
            if isinstance(error, Refused) and error.status in _NO_SUCH_BASE:
                self._do_without(snapshot.base, for_good=error.status == _UNKNOWN_FORMAT)
            return
        if not outcome.accepted:
            self._warn("The checkpoint of point %d was not wanted: %s", outcome.reason)
            self._do_without(snapshot.base)
            return
        self._lean_on(object_, packed)
        took = time.monotonic() - snapshot.taken_at
        self._time_left.note_saving(took)
        text = "Checkpoint of point %d stored (%s, %s)."
        size, time_ = show_bytes(packed.size), show_seconds(took)
        _log.info(text, self._lease.point, size, time_, extra=self._extra("checkpoint_stored"))

    def _lean_on(self, object_: str, packed: archive.Packed) -> None:
        """Make deltas of a checkpoint that was stored, if it is whole."""
        if self._makes_deltas and not packed.format.is_delta:
            with self._changed:
                self._base = _Base(object_, packed.at_rest)

    def _do_without(self, base: str | None, *, for_good: bool = False) -> None:
        """A delta was refused, maybe for its base: save again soon, and lean on that base no more."""
        if base is None:
            return
        with self._changed:
            if self._base is not None and self._base.object == base:
                self._base = None
            self._makes_deltas &= not for_good
            self._fingerprint, self._again = None, True
            self._changed.notify_all()

    def _warn(self, text: str, why: object) -> None:
        _log.warning(text, self._lease.point, why, extra=self._extra("checkpoint_missed"))

    def _extra(self, action: str) -> dict[str, object]:
        return {"action": action, "point": self._lease.point, "evaluation": self._lease.evaluation}
