"""Going on from a checkpoint: fetched, verified and unpacked before the command starts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Callable, Final

from gridtune_common import protocol
from gridtune_common.client import new_request_id
from gridtune_common.errors import ServiceError
from gridtune_common.units import show_bytes
from gridtune_evaluation import archive
from gridtune_evaluation.carrier import Carrier
from gridtune_evaluation.steering import Steering
from gridtune_evaluation.transfer import TransferRefused

_log = logging.getLogger("gridtune.agent")

#: What a store answers that is there and does not have the object: no other node would find it either.
_GONE: Final = frozenset({404, 410})


def restore(
    steering: Steering,
    carrier: Carrier,
    lease: protocol.Lease,
    directory: Path,
    aside: Path,
    give_up: Callable[[], bool],
) -> protocol.Checkpoint | None:
    """Unpack the newest checkpoint that is whole into the working directory; None if the training begins anew.

    One that is damaged or gone is reported, and the one before is tried. While an archive is fetched it lies in the
    folder *aside*; *give_up* says whether there is no point in trying on.

    Raises:
        ServiceError: The service said no, or was away until *give_up*.
        TransferError: The store said no, or was away until *give_up*.
        Unreadable: This node lacks what the checkpoint is compressed by; others may have it.
        OSError: The disk.
    """
    for checkpoint in lease.checkpoints:
        try:
            _restore(steering, carrier, lease, checkpoint, directory, aside, give_up)
        except (archive.Damaged, archive.Unsafe) as error:
            _report(steering, lease, checkpoint, str(error))
        except TransferRefused as error:
            if error.status not in _GONE:
                raise
            _report(steering, lease, checkpoint, f"it is gone: {error}")
        else:
            text = "Point %d goes on from step %s (%s)."
            step = "unknown" if checkpoint.step is None else checkpoint.step
            _log.info(text, lease.point, step, show_bytes(checkpoint.size), extra=_extra("resumed", lease))
            return checkpoint
    return None


def _restore(
    steering: Steering,
    carrier: Carrier,
    lease: protocol.Lease,
    checkpoint: protocol.Checkpoint,
    directory: Path,
    aside: Path,
    give_up: Callable[[], bool],
) -> None:
    fetched = aside / checkpoint.id
    try:
        carrier.download(
            fetched,
            lambda: steering.download(lease.evaluation, checkpoint.id),
            size=checkpoint.size,
            sha256=checkpoint.sha256,
            give_up=give_up,
        )
        archive.unpack(fetched, directory, checkpoint.sha256, checkpoint.size)
    finally:
        fetched.unlink(missing_ok=True)


def _report(steering: Steering, lease: protocol.Lease, checkpoint: protocol.Checkpoint, why: str) -> None:
    text = "A checkpoint of point %d (step %s) is damaged, trying the one before: %s"
    _log.error(text, lease.point, checkpoint.step, why, extra=_extra("checkpoint_damaged", lease))
    message = protocol.ReportDamage(new_request_id(), lease.epoch, why)
    try:
        steering.report_damage(lease.evaluation, checkpoint.id, message)
    except ServiceError as error:  # the next one to stumble over it says so again
        _log.warning("Cannot report the damage: %s", error, extra=_extra("report_failed", lease))


def _extra(action: str, lease: protocol.Lease) -> dict[str, object]:
    return {"action": action, "point": lease.point, "evaluation": lease.evaluation}
