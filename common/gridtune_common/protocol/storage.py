"""Object storage: how checkpoints and logs of evaluations get there and back.

An upload takes three steps: begin (size and checksum are said, addresses are given), send the parts to their addresses,
commit. Only what is committed exists. Addresses are signed and expire; ask for fresh ones as often as need be. One that
begins with ``/`` belongs to the service itself. No token is sent to any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional


class ObjectKind(str, Enum):
    """What an object is. Values are only ever added."""

    CHECKPOINT = "checkpoint"  #: An archive of a payload's files, from which another evaluation can go on.
    LOG = "log"  #: What a payload printed, compressed by gzip.


class ArchiveFormat(str, Enum):
    """How a checkpoint is packed. Values are only ever added.

    A delta holds the files that changed since another checkpoint, its base, was packed, and the names of those that did
    not. It has formats of its own, so that who does not know deltas takes none for a whole checkpoint.
    """

    TAR = "tar"
    TAR_GZIP = "tar.gz"
    TAR_ZSTD = "tar.zst"
    DELTA_TAR = "delta.tar"
    DELTA_TAR_ZSTD = "delta.tar.zst"

    @property
    def is_delta(self) -> bool:
        """Whether it is nothing without its base."""
        return self in (ArchiveFormat.DELTA_TAR, ArchiveFormat.DELTA_TAR_ZSTD)


@dataclass(frozen=True)
class BeginUpload:
    """An evaluation has something to store.

    Attributes:
        size: In bytes.
        sha256: Of all bytes, in hex.
        step: The step that a checkpoint stands for, if the payload says so.
        format: How it is packed: an `ArchiveFormat`, or ``gz`` for a log.
        interrupted: A checkpoint that was taken after the payload was asked to leave: the last of its stretch.
        base: The checkpoint that a delta leans on: a committed one of the same point that has no base itself.
    """

    request_id: str
    epoch: int
    kind: ObjectKind
    size: int
    sha256: str
    format: str
    step: Optional[int] = None
    interrupted: bool = False
    base: Optional[str] = None


@dataclass(frozen=True)
class Upload:
    """Where to send the parts of an object, in order, each by one PUT.

    Attributes:
        id: The object's.
        urls: An address for each part.
        part_size: In bytes; every part but the last is as large.
        expires_seconds: For how long the addresses can be used.
    """

    id: str
    urls: list[str]
    part_size: int
    expires_seconds: float


@dataclass(frozen=True)
class CommitUpload:
    """All parts are there."""

    request_id: str
    epoch: int


@dataclass(frozen=True)
class CheckpointBase:
    """The whole checkpoint that a delta leans on."""

    id: str
    size: int
    sha256: str
    format: str


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint of a point; ``GET /evaluations/E/objects/ID`` says where it is.

    Attributes:
        base: What a delta leans on, to be fetched the same way; None for a whole checkpoint.
    """

    id: str
    size: int
    sha256: str
    format: str
    step: Optional[int] = None
    base: Optional[CheckpointBase] = None


@dataclass(frozen=True)
class Download:
    """Where to fetch an object; ranges can be asked for."""

    url: str
    expires_seconds: float


@dataclass(frozen=True)
class LocateInput:
    """Where can an input be fetched from? The answer is a `Download`.

    Attributes:
        url: The input's own address, ``s3://bucket/key``, letter by letter as ``payload.data`` has it.
    """

    url: str


@dataclass(frozen=True)
class ReportDamage:
    """A stored checkpoint cannot be used: it does not have its checksum, or cannot be unpacked."""

    request_id: str
    epoch: int
    detail: str = ""


@dataclass(frozen=True)
class StoredObject:
    """An object of a point, as its owner sees it.

    Attributes:
        evaluation: Whose it is.
        size: In bytes.
        committed_at: None while its upload is under way, or if it was given up.
        doomed_at: When it is deleted; None while it is wanted. ``doom`` says why.
        base: The checkpoint that a delta leans on.
    """

    id: str
    kind: ObjectKind
    point: int
    evaluation: str
    size: int
    sha256: str
    format: str
    created_at: str
    step: Optional[int] = None
    committed_at: Optional[str] = None
    doomed_at: Optional[str] = None
    doom: str = ""
    base: Optional[str] = None


@dataclass(frozen=True)
class StorageUse:
    """What is stored for a task.

    Attributes:
        committed_bytes: Of objects that can be fetched, the doomed among them.
        pending_bytes: Of uploads that were begun and are not committed.
        doomed_bytes: Of objects that will be deleted when their time of grace is over.
    """

    task: str
    name: str
    owner: str
    n_objects: int = 0
    committed_bytes: int = 0
    pending_bytes: int = 0
    doomed_bytes: int = 0


@dataclass(frozen=True)
class Storage:
    """What is stored, by task, the largest first; quotas in bytes, None for no limit."""

    items: list[StorageUse] = field(default_factory=list)
    task_quota_bytes: Optional[int] = None
    user_quota_bytes: Optional[int] = None
