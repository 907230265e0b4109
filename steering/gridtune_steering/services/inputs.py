"""Inputs of tasks that lie in S3: the service signs their addresses, so that nodes need no credentials."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from gridtune_common.errors import Flaw
from gridtune_common.protocol import Download, LocateInput
from gridtune_common.taskfile import parse_task
from gridtune_steering.services.access import Caller, visible_task
from gridtune_steering.services.errors import NotFound, Unusable
from gridtune_steering.services.steering import Steering

#: Letters of an unknown input that are repeated to the caller.
_SHOWN = 200


def locate(steering: Steering, caller: Caller, task: str, message: LocateInput) -> Download:
    """Where an input of a task can be fetched from. Only what the task itself names is signed.

    Raises:
        NotFound: No such task, or it has no such input.
        Unusable: The input is not in S3.
        NotSigned: The service gives no addresses in that place.
    """
    with steering.database.read() as connection:
        row = visible_task(connection, caller, task)
    payload = parse_task(row.document).payload
    if payload is None or message.url not in {source.url for source in payload.data.values()}:
        raise NotFound("input", message.url[:_SHOWN])
    if urlsplit(message.url).scheme != "s3":
        raise Unusable("the input needs no address", [Flaw("url", "is not in S3; fetch it from where it is")])
    lifetime = timedelta(seconds=steering.settings.address_seconds)
    return Download(steering.store.data_url(message.url, lifetime), lifetime.total_seconds())
