"""The port behind which objects are kept.

Agents never see a credential: they PUT parts to signed addresses and GET from signed addresses, which expire. A store
checks a part against the ``Content-MD5`` header that comes with it, and refuses the part if they differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gridtune_common.errors import GridtuneError


class StoreError(GridtuneError):
    """The object store cannot do it."""


class StoreAway(StoreError):  # noqa: N818 - named for the fact
    """The store does not answer, or answers with an error of its own; it may later."""


class NoSuchObject(StoreError):  # noqa: N818
    """There is nothing under this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no object {key}")


class UploadIncomplete(StoreError):  # noqa: N818
    """Parts are missing."""


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


class ObjectStore(ABC):
    """Keeps objects under keys, which are relative paths of letters, digits, ``-``, ``_``, ``.`` and ``/``.

    Safe to use from many threads and processes. An object appears whole or not at all, and is durable as soon as
    `finish` or `write` has returned. All methods raise `StoreAway` when the store does not answer.
    """

    #: Smallest size of any part but the last, and the largest number of parts that the store takes.
    min_part_size: int
    max_parts: int

    @abstractmethod
    def begin(self, key: str, size: int, n_parts: int) -> str:
        """Begin an upload; returns its name, which may be empty where the store needs none (a single part)."""

    @abstractmethod
    def part_urls(self, key: str, upload: str, sizes: Sequence[int], lifetime: timedelta) -> list[str]:
        """An address for each part, to be PUT with exactly the bytes that it is due (*sizes*)."""

    @abstractmethod
    def finish(self, key: str, upload: str, sizes: Sequence[int]) -> None:
        """Make the object of its parts. Doing it again changes nothing.

        Raises:
            UploadIncomplete: A part is missing or has another size; nothing was changed.
        """

    @abstractmethod
    def abandon(self, key: str, upload: str) -> None:
        """Forget an upload that will not be finished, with its parts; no error if there is none."""

    @abstractmethod
    def download_url(self, key: str, lifetime: timedelta) -> str:
        """An address from which the object can be fetched, whole or by ranges; no check whether it exists."""

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
        """All uploads to keys that begin with *prefix*, in order of their keys."""

    @abstractmethod
    def check(self) -> None:
        """Whether the store can be used at all.

        Raises:
            StoreError: It cannot; says why and what to mend.
        """
