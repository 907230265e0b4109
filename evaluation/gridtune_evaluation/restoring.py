"""Going on from a checkpoint: fetched, verified and unpacked before the command starts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Final

from gridtune_common import protocol
from gridtune_common.client import new_request_id
from gridtune_common.errors import Refused, ServiceError
from gridtune_common.units import show_bytes
from gridtune_evaluation import archive
from gridtune_evaluation.carrier import Carrier
from gridtune_evaluation.steering import Steering
from gridtune_evaluation.transfer import TransferRefused

_log = logging.getLogger("gridtune.agent")

#: What a service or a store says of an object that was deleted.
_GONE: Final = frozenset({404, 410})


@dataclass(frozen=True)
class Restored:
    """What was unpacked.

    Attributes:
        base: The whole checkpoint that it came from: itself, or what it leans on.
        names: The files, folders and links that are as they are in the base.
    """

    checkpoint: protocol.Checkpoint
    base: str
    names: frozenset[str]


def restore(
    steering: Steering,
    carrier: Carrier,
    lease: protocol.Lease,
    directory: Path,
    aside: Path,
    give_up: Callable[[], bool],
) -> Restored | None:
    """Unpack the newest checkpoint that is whole into the working directory; None if the training begins anew.

    A damaged or missing one is reported, and the one before is tried. While archives are fetched they lie in the
    folder *aside*; *give_up* says whether there is no point in trying on.

    Raises:
        ServiceError: The service said no, or was away until *give_up*.
        TransferError: The store said no, or was away until *give_up*.
        Unreadable: This node lacks what the checkpoint is compressed by; others may have it.
        OSError: The disk.
    """
    restorer = _Restorer(steering, carrier, lease, aside, give_up)
    try:
        return restorer.restore(directory)
    finally:
        restorer.tidy_up()


class _Bad(Exception):  # noqa: N818 - never leaves this module
    """An object is damaged or gone."""

    def __init__(self, object_: str, why: str) -> None:
        self.object = object_
        super().__init__(why)


class _Restorer:
    """Tries one checkpoint after the other; a base that several of them lean on is fetched once."""

    def __init__(
        self,
        steering: Steering,
        carrier: Carrier,
        lease: protocol.Lease,
        aside: Path,
        give_up: Callable[[], bool],
    ) -> None:
        self._steering = steering
        self._carrier = carrier
        self._lease = lease
        self._aside = aside
        self._give_up = give_up
        self._fetched: set[str] = set()
        self._bad: set[str] = set()

    def restore(self, directory: Path) -> Restored | None:
        for checkpoint in self._lease.checkpoints:
            base = checkpoint.base or checkpoint
            if self._bad & {checkpoint.id, base.id}:
                continue
            try:
                names = self._unpack(checkpoint, directory)
            except _Bad as bad:
                self._bad.add(bad.object)
                _report(self._steering, self._lease, checkpoint, bad)
            else:
                text = "Point %d goes on from step %s (%s)."
                step = "unknown" if checkpoint.step is None else checkpoint.step
                size = show_bytes(checkpoint.size + (checkpoint.base.size if checkpoint.base else 0))
                _log.info(text, self._lease.point, step, size, extra=_extra("resumed", self._lease))
                return Restored(checkpoint, base.id, names)
        return None

    def tidy_up(self) -> None:
        for name in self._fetched:
            (self._aside / name).unlink(missing_ok=True)

    def _unpack(self, checkpoint: protocol.Checkpoint, directory: Path) -> frozenset[str]:
        _check_known(checkpoint)
        archive_, base = self._fetch(checkpoint), None
        if checkpoint.base is not None:
            base = archive.Whole(self._fetch(checkpoint.base), checkpoint.base.sha256, checkpoint.base.size)
        try:
            return archive.unpack(archive_, directory, checkpoint.sha256, checkpoint.size, base)
        except archive.BadBase as error:
            assert checkpoint.base is not None  # noqa: S101 - for the type checker: there is no such error without
            raise _Bad(checkpoint.base.id, str(error)) from error
        except (archive.Damaged, archive.Unsafe) as error:
            raise _Bad(checkpoint.id, str(error)) from error

    def _fetch(self, stored: protocol.Checkpoint | protocol.CheckpointBase) -> Path:
        target = self._aside / stored.id
        if stored.id in self._fetched:
            return target
        self._fetched.add(stored.id)
        try:
            self._carrier.download(
                target,
                lambda: self._steering.download(self._lease.evaluation, stored.id),
                size=stored.size,
                sha256=stored.sha256,
                give_up=self._give_up,
            )
        except archive.Damaged as error:
            raise _Bad(stored.id, str(error)) from error
        except (Refused, TransferRefused) as error:
            if error.status not in _GONE:
                raise
            raise _Bad(stored.id, f"it is gone: {error}") from error
        return target


def _check_known(checkpoint: protocol.Checkpoint) -> None:
    known = {form.value for form in protocol.ArchiveFormat}
    for stored in (checkpoint, checkpoint.base):
        if stored is not None and stored.format not in known:
            fix = "update gridtune on this node"
            raise archive.Unreadable(f"checkpoint {stored.id} is packed as {stored.format!r}, unknown here; {fix}")


def _report(steering: Steering, lease: protocol.Lease, checkpoint: protocol.Checkpoint, bad: _Bad) -> None:
    what = "A checkpoint" if bad.object == checkpoint.id else "The base of a checkpoint"
    text = "%s of point %d (step %s) is damaged, trying the one before: %s"
    _log.error(text, what, lease.point, checkpoint.step, bad, extra=_extra("checkpoint_damaged", lease))
    message = protocol.ReportDamage(new_request_id(), lease.epoch, str(bad))
    try:
        steering.report_damage(lease.evaluation, bad.object, message)
    except ServiceError as error:  # the next one to stumble over it says so again
        _log.warning("Cannot report the damage: %s", error, extra=_extra("report_failed", lease))


def _extra(action: str, lease: protocol.Lease) -> dict[str, object]:
    return {"action": action, "point": lease.point, "evaluation": lease.evaluation}
