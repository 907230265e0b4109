"""Places in S3, besides that of the service's own objects, whose objects it may sign addresses of.

Keys are plain strings here, as they are in S3: nothing is decoded and nothing is resolved. No address is signed for a
key that somebody on the way could take for another one (``..``, ``//``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gridtune_common.errors import ConfigurationError
from gridtune_steering.objectstore.port import NotSigned

_VARIABLE: Final = "GRIDTUNE_STEERING_DATA_BUCKETS"
#: A bucket, and after a slash the names that all keys begin with, each with a slash at its end.
_PLACE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:/((?:[^/\s\\]+/)*))?")
_SOURCE: Final = re.compile(r"s3://([^/]+)/(.+)", re.IGNORECASE | re.DOTALL)
#: Names in a path that servers and libraries resolve.
_RESOLVED: Final = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, or all keys in it that begin with a prefix.

    Attributes:
        prefix: Empty, or with a ``/`` at its end.
    """

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}"

    def holds(self, bucket: str, key: str) -> bool:
        """Whether an object is in it."""
        return bucket == self.bucket and key.startswith(self.prefix)

    def overlaps(self, other: Place) -> bool:
        """Whether an object could be in both; some stores make no difference between A and a in buckets' names."""
        nested = self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix)
        return self.bucket.lower() == other.bucket.lower() and nested


def read_places(texts: Iterable[str], own: Place) -> tuple[Place, ...]:
    """The places that an operator has listed.

    Args:
        texts: Each a ``bucket`` or a ``bucket/prefix/``.
        own: Where the service keeps its own objects.

    Raises:
        ConfigurationError: One of them is no place, or holds the service's own, or lies in it.
    """
    places = tuple(_read_place(text) for text in texts)
    for place in places:
        if place.overlaps(own):
            raise ConfigurationError(
                f"{_VARIABLE}: {place} and {own}, where the service keeps its own objects, overlap, and users could "
                "read checkpoints and logs of others; give the service a bucket or a prefix of its own"
            )
    return places


def listed_object(source: str, places: Iterable[Place]) -> tuple[str, str]:
    """The bucket and the key of ``s3://bucket/key``, as they are, if an address may be signed.

    Raises:
        NotSigned: It is in none of the places, or its key is not to be trusted.
    """
    found = _SOURCE.fullmatch(source)
    if found is None or not _RESOLVED.isdisjoint(found[2].split("/")):
        raise NotSigned(
            f"this service signs no address for {source}: its key has an empty name, '.' or '..' in its path"
        )
    bucket, key = found.groups()
    if not any(place.holds(bucket, key) for place in places):
        raise NotSigned(
            f"this service signs no address for {source}; its operator can list the bucket, or a prefix in it, in "
            f"{_VARIABLE}, and then every user can read what is there"
        )
    return bucket, key


def _read_place(text: str) -> Place:
    found = _PLACE.fullmatch(text)
    if found is None or not _RESOLVED.isdisjoint((found[2] or "").split("/")[:-1]):
        raise ConfigurationError(
            f"{_VARIABLE}: {text!r} is no place; write bucket or bucket/prefix/, with a slash last"
        )
    return Place(found[1], found[2] or "")
