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
    """How a checkpoint is packed. Values are only ever added."""

    TAR = "tar"
    TAR_GZIP = "tar.gz"
    TAR_ZSTD = "tar.zst"


@dataclass(frozen=True)
class BeginUpload:
    """An evaluation has something to store.

    Attributes:
        size: In bytes.
        sha256: Of all bytes, in hex.
        step: The step that a checkpoint stands for, if the payload says so.
        format: How it is packed: an `ArchiveFormat`, or ``gz`` for a log.
        interrupted: A checkpoint that was taken after the payload was asked to leave: the last of its stretch.
    """

    request_id: str
    epoch: int
    kind: ObjectKind
    size: int
    sha256: str
    format: str
    step: Optional[int] = None
    interrupted: bool = False


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
class Checkpoint:
    """A committed checkpoint of a point; ``GET /evaluations/E/objects/ID`` says where it is."""

    id: str
    size: int
    sha256: str
    format: str
    step: Optional[int] = None


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
