"""Deltas: archives of what changed since a whole snapshot, their base, was packed or unpacked.

A delta begins with a manifest: the names of all that is in its base and still belongs to the snapshot. What is not
named there was removed, or is in the delta itself. The manifest's own name is one that nothing in a snapshot can have,
and that `unpack` refuses anywhere else, as did agents that knew no deltas.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from gridtune_common.protocol.storage import ArchiveFormat
from gridtune_evaluation.archive.errors import Damaged
from gridtune_evaluation.archive.listing import Entry

#: Snapshots below this are packed whole: a base has to be fetched, too.
SMALL_BYTES: Final = 8 * 2**20
#: A delta that would be a larger share of its snapshot is not worth it.
WORTHWHILE_SHARE: Final = 0.5
#: How deltas are packed where whole snapshots are packed so.
DELTA_FORMATS: Final = {
    ArchiveFormat.TAR: ArchiveFormat.DELTA_TAR,
    ArchiveFormat.TAR_ZSTD: ArchiveFormat.DELTA_TAR_ZSTD,
}
_MANIFEST: Final = "./base"
_LARGEST_MANIFEST: Final = 64 * 2**20


@dataclass(frozen=True)
class Delta:
    """A snapshot as seen from its base.

    Attributes:
        changed: What is new or was touched.
        manifest: The names of all the rest.
    """

    changed: dict[str, Entry]
    manifest: bytes


def find_delta(entries: Mapping[str, Entry], base: Mapping[str, Entry], *, small: int, share: float) -> Delta | None:
    """What changed since *base* was packed; None if *entries* had better be packed whole."""
    changed = {name: entry for name, entry in entries.items() if base.get(name) != entry}
    n_whole, n_changed = _n_bytes(entries), _n_bytes(changed)
    if n_whole < small or n_changed >= n_whole or n_changed > share * n_whole:
        return None
    manifest = _manifest(entries.keys() - changed.keys())
    return Delta(changed, manifest) if len(manifest) <= _LARGEST_MANIFEST else None


def _n_bytes(entries: Mapping[str, Entry]) -> int:
    return sum(entry.size for entry in entries.values())


def _manifest(names: Collection[str]) -> bytes:
    return b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in sorted(names))


def add_manifest(tar: tarfile.TarFile, manifest: bytes) -> None:
    """Write the first member of a delta."""
    member = tarfile.TarInfo(_MANIFEST)
    member.size = len(manifest)
    tar.addfile(member, io.BytesIO(manifest))


def read_manifest(tar: tarfile.TarFile) -> frozenset[str]:
    """Read the first member of a delta. Names in it may be anything: they are good for choosing members, and no more.

    Raises:
        Damaged: There is no manifest.
    """
    member = tar.next()
    is_there = member is not None and member.name == _MANIFEST and member.isreg() and member.size <= _LARGEST_MANIFEST
    file = tar.extractfile(member) if member is not None and is_there else None
    if file is None:
        raise Damaged("the delta does not begin with what it keeps of its base")
    return frozenset(name.decode("utf-8", "surrogateescape") for name in file.read().split(b"\0") if name)
