"""Cursors of paged listings: opaque to clients, and checked when they come back."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime

from gridtune_common.errors import Flaw
from gridtune_steering.services.errors import Unusable

#: What a 64-bit column holds.
_LARGEST = 2**63 - 1


def encode(place: str) -> str:
    """Make a cursor."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def number(cursor: str) -> int:
    """The number in a cursor.

    Raises:
        Unusable: It is none of ours.
    """
    place = _decode(cursor)
    if not place.isdecimal() or int(place) > _LARGEST:
        raise _unusable(cursor)
    return int(place)


def time_and_id(cursor: str) -> tuple[datetime, str]:
    """The time and id in a cursor.

    Raises:
        Unusable: It is none of ours.
    """
    time, _, name = _decode(cursor).partition(" ")
    try:
        moment = datetime.fromisoformat(time)
        if moment.tzinfo is None:
            raise _unusable(cursor)
        return moment.astimezone(UTC), name
    except (ValueError, OverflowError) as error:
        raise _unusable(cursor) from error


def encode_pair(first: str, second: str) -> str:
    """Make a cursor of two texts."""
    return encode(f"{len(first)}:{first}{second}")


def pair(cursor: str) -> tuple[str, str]:
    """The two texts in a cursor.

    Raises:
        Unusable: It is none of ours.
    """
    length, colon, texts = _decode(cursor).partition(":")
    if not (colon and length.isdecimal() and len(length) < 5 and int(length) <= len(texts)) or "\0" in texts:
        raise _unusable(cursor)
    return texts[: int(length)], texts[int(length) :]


def _decode(cursor: str) -> str:
    try:
        return base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError) as error:
        raise _unusable(cursor) from error


def _unusable(cursor: str) -> Unusable:
    flaw = Flaw("after", f"{cursor[:80]!r} is no cursor; take it from 'next' of the page before")
    return Unusable("the page cannot be found", [flaw])
