"""The same request again gives the same answer, not a second effect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.engine import Connection

from gridtune_common import wire
from gridtune_steering.bookkeeping import requests
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.access import Caller
from gridtune_steering.services.errors import RequestIdReused, RequestInProgress

T = TypeVar("T")


@dataclass(frozen=True)
class Deletion:
    """A deletion's request, which has no body."""

    request_id: str


def once_answered(
    connection: Connection,
    caller: Caller,
    operation: str,
    message: Any,
    kind: type[T],
    effect: Callable[[], T | None],
    *,
    now: datetime,
    earlier: Record | None,
) -> T | None:
    """Run *effect* unless this caller's request was answered before; then give that answer.

    An effect that returns None is no answer: it is not kept, and the same request may be tried again.

    Args:
        connection: The write transaction in which the effect happens and the answer is kept.
        caller: Request ids of different callers never meet.
        operation: What the request does, with the path's variables: ``tell 3f2a``.
        message: The request's body, with its ``request_id``.
        kind: The class of the answer.
        effect: Makes the answer; must not begin a transaction of its own.
        now: When the answer is given.
        earlier: The answer that there was when this transaction looked.

    Raises:
        RequestIdReused: The id belongs to another operation or body.
        RequestInProgress: The same request was answered while the effect took place here, which is to be undone.
    """
    fingerprint = _fingerprint(operation, message)
    if earlier is not None:
        if earlier.fingerprint != fingerprint:
            raise RequestIdReused(message.request_id)
        return wire.decode(kind, earlier.answer)
    answer = effect()
    if answer is not None:
        kept = wire.encode(answer)
        if not requests.keep(
            connection, caller.token, message.request_id, fingerprint=fingerprint, answer=kept, at=now
        ):
            raise RequestInProgress(message.request_id)
    return answer


def once(
    connection: Connection,
    caller: Caller,
    operation: str,
    message: Any,
    kind: type[T],
    effect: Callable[[], T],
    *,
    now: datetime,
) -> T:
    """Like `once_answered`, for an effect that always has an answer; looks for an earlier one by itself."""
    earlier = requests.find(connection, caller.token, message.request_id)
    answer = once_answered(connection, caller, operation, message, kind, effect, now=now, earlier=earlier)
    if answer is None:
        raise AssertionError("the effect had no answer")
    return answer


def _fingerprint(operation: str, message: Any) -> str:
    body = json.dumps(wire.encode(message), sort_keys=True)
    return hashlib.sha256(f"{operation}\n{body}".encode()).hexdigest()
