"""Bringing a file into object storage: begin, upload, commit; for checkpoints and logs alike."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, TypeVar

from gridtune_common import protocol
from gridtune_common.client import new_request_id
from gridtune_common.errors import Refused, ServiceError
from gridtune_evaluation.carrier import Carrier
from gridtune_evaluation.outage import backoff, passes
from gridtune_evaluation.steering import Steering

T = TypeVar("T")


def store(
    steering: Steering,
    carrier: Carrier,
    evaluation: str,
    path: Path,
    message: protocol.BeginUpload,
    give_up: Callable[[], bool],
) -> tuple[str, protocol.Outcome]:
    """Upload a file and commit it, patiently; returns the object's id and whether it is wanted.

    Raises:
        ServiceError: The service said no, or it was away until *give_up*.
        TransferError: The store said no, or it was away until *give_up*.
    """
    upload = _patiently(lambda: steering.begin_upload(evaluation, message), give_up)
    refresh = lambda: steering.upload(evaluation, upload.id)  # noqa: E731 - said twice below
    carrier.upload(path, upload, refresh, give_up)
    commit = protocol.CommitUpload(new_request_id(), message.epoch)
    try:
        return upload.id, _patiently(lambda: steering.commit_upload(evaluation, upload.id, commit), give_up)
    except Refused as error:
        if error.status != 409:
            raise
    carrier.upload(path, _patiently(refresh, give_up), refresh, give_up)  # a part got lost after all: once more
    return upload.id, _patiently(lambda: steering.commit_upload(evaluation, upload.id, commit), give_up)


def _patiently(call: Callable[[], T], give_up: Callable[[], bool]) -> T:
    for pause in backoff():
        try:
            return call()
        except ServiceError as error:
            if not passes(error) or give_up():
                raise
        until = time.monotonic() + pause
        while time.monotonic() < until and not give_up():
            time.sleep(0.05)
    raise AssertionError("the back-off never ends")
