"""The port behind which objects are kept.

StoreError                     the store cannot do it
├── StoreAway                  it does not answer, or answers with an error of its own; it may later
│   └── StoreFull              there is no room left
├── NoSuchObject               there is nothing under this key
├── NoSuchUpload               an upload was finished, abandoned or never begun
├── UploadIncomplete           parts are missing
├── BadKey                     a key that no store can keep
├── NotSigned                  no address is given for this object, which is not the store's own
├── AddressRefused             a signed address was changed, has expired, or is for something else
└── WrongContent               what was sent is not what is due
    ├── WrongLength
    └── WrongChecksum

Agents never see a credential: they PUT parts to signed addresses and GET from signed addresses, which expire. A store
checks a part against the ``Content-MD5`` header that comes with it, and refuses the part if they differ.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gridtune_common.errors import GridtuneError


class StoreError(GridtuneError):
    """The object store cannot do it."""


class StoreAway(StoreError):  # noqa: N818 - named for the fact
    """The store does not answer, or answers with an error of its own; it may later."""


class StoreFull(StoreAway):
    """There is no room left; there may be when somebody has tidied up."""


class NoSuchObject(StoreError):  # noqa: N818
    """There is nothing under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no object {key}")


class NoSuchUpload(StoreError):  # noqa: N818
    """The upload was finished, abandoned or never begun."""

    def __init__(self, upload: str) -> None:
        super().__init__(f"there is no upload {upload}: it was finished, abandoned or never begun")


class UploadIncomplete(StoreError):  # noqa: N818
    """Parts are missing."""


class BadKey(StoreError):  # noqa: N818
    """No store can keep an object under this key."""


class NotSigned(StoreError):  # noqa: N818
    """No address is given for this object, which is not the store's own."""


class AddressRefused(StoreError):  # noqa: N818
    """A signed address was changed, has expired, or is for something else."""


class WrongContent(StoreError):  # noqa: N818
    """What was sent is not what is due; nothing was stored."""


class WrongLength(WrongContent):
    """More or fewer bytes than are due."""


class WrongChecksum(WrongContent):
    """The bytes do not have the MD5 that came with them, or are others than those sent before for the same part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object of the store's listing; ``size`` in bytes."""

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """An upload that was begun and neither finished nor abandoned."""

    key: str
    upload: str
    begun_at: datetime


_KEY_LIMIT, _NAME_LIMIT = 1024, 200
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def checked_key(key: str) -> str:
    """The key, if it can be used.

    Raises:
        BadKey: It is no relative path of usable names.
    """
    for name in key.split("/"):
        if not _NAME.fullmatch(name) or name in {".", ".."} or len(name) > _NAME_LIMIT:
            usable = f"1 to {_NAME_LIMIT} letters, digits, '-', '_' and '.'"
            raise BadKey(f"{key[:100]!r} is no key: write names of {usable}, with '/' between them")
    if len(key) > _KEY_LIMIT:
        raise BadKey(f"the key {key[:100]!r}… is longer than {_KEY_LIMIT} characters")
    return key


def checked_prefix(prefix: str) -> str:
    """The beginning of keys: empty, or a key that may end amid a name or with a ``/``.

    Raises:
        BadKey: No key begins like this.
    """
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix


class ObjectStore(ABC):
    """Keeps objects under keys, which are relative paths of letters, digits, ``-``, ``_``, ``.`` and ``/``.

    Safe to use from many threads and processes. An object appears whole or not at all, and is durable as soon as
    `finish` or `write` has returned. An object of a single part may appear before `finish`, as soon as it is sent.

    Each upload has a key of its own, and no key is the folder of another: not both ``a`` and ``a/b``. All methods raise
    `StoreAway` when the store does not answer, and `BadKey` for keys that cannot be used.
    """

    #: Smallest size of any part but the last, and the largest number of parts that the store takes.
    min_part_size: int
    max_parts: int

    @abstractmethod
    def begin(self, key: str, size: int, n_parts: int) -> str:
        """Begin an upload; returns its name, which may be empty where the store needs none (a single part)."""

    @abstractmethod
    def part_urls(self, key: str, upload: str, sizes: Sequence[int], lifetime: timedelta) -> list[str]:
        """An address for each part, to be PUT with exactly the bytes that it is due (*sizes*).

        *sizes* are the same whenever addresses of this upload are asked for, and the lifetime is at most seven days. A
        part can be sent again, with the same bytes, as long as the upload is neither finished nor abandoned.
        """

    @abstractmethod
    def finish(self, key: str, upload: str, sizes: Sequence[int]) -> None:
        """Make the object of its parts. Doing it again changes nothing.

        Raises:
            UploadIncomplete: A part is missing or has another size; nothing was changed.
        """

    @abstractmethod
    def abandon(self, key: str, upload: str) -> None:
        """Forget an upload that will not be finished, with all that was sent of it; no error if there is none.

        Never for one that was finished. A part that is under way meanwhile, or whose address is still good, may arrive
        later: an object of a single part then appears after all, and has to be deleted.
        """

    @abstractmethod
    def download_url(self, key: str, lifetime: timedelta) -> str:
        """An address from which the object can be fetched, whole or by ranges; no check whether it exists."""

    def data_url(self, source: str, lifetime: timedelta) -> str:
        """An address from which a task's input, ``s3://bucket/key``, can be fetched; no check whether it exists.

        Raises:
            NotSigned: It is in no place that the operator has listed, or the store does not speak S3.
        """
        raise NotSigned(
            f"this service signs no address for {source}: its own objects are not in S3; its operator can keep them "
            "there (GRIDTUNE_STEERING_OBJECT_STORE) and list the place in GRIDTUNE_STEERING_DATA_BUCKETS"
        )

    @abstractmethod
    def write(self, key: str, content: bytes) -> None:
        """Store a small object at once."""

    @abstractmethod
    def read(self, key: str, limit: int) -> bytes:
        """At most the first *limit* bytes of an object.

        Raises:
            NoSuchObject: There is none.
        """

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are no error."""

    @abstractmethod
    def listing(self, prefix: str) -> Iterator[Stored]:
        """All objects whose key begins with *prefix*, in order of their keys."""

    @abstractmethod
    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Uploads to keys that begin with *prefix*, in order of their keys; those of a single part may be left out."""

    @abstractmethod
    def check(self) -> None:
        """Whether the store can be used at all.

        Raises:
            StoreError: It cannot; says why and what to mend.
        """
