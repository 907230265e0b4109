"""Snapshots of a payload's files: packed when they are at rest, unpacked whole or not at all.

An archive is a tar, compressed by zstd where the task wants it.

::

    errors       what can be wrong
    checksums    whether a file is the one that it should be
    tree         true folders and plain files, whatever a payload makes of them
    listing      what there is, and whether it was touched
    compression  zstd, where this Python has one
    deltas       what changed since a whole archive was made
    packing      files into an archive
    unpacking    and back, trusting nothing that is inside
"""

from gridtune_evaluation.archive.checksums import checksum, verify
from gridtune_evaluation.archive.compression import best_format
from gridtune_evaluation.archive.deltas import WORTHWHILE_SHARE
from gridtune_evaluation.archive.errors import ArchiveError, BadBase, Damaged, Restless, Unreadable, Unsafe
from gridtune_evaluation.archive.listing import Entry, Fingerprint, fingerprint, list_settled, newest_change
from gridtune_evaluation.archive.packing import Packed, Unchanged, pack
from gridtune_evaluation.archive.unpacking import Whole, unpack

__all__ = [
    "WORTHWHILE_SHARE",
    "ArchiveError",
    "BadBase",
    "Damaged",
    "Entry",
    "Fingerprint",
    "Packed",
    "Restless",
    "Unchanged",
    "Unreadable",
    "Unsafe",
    "Whole",
    "best_format",
    "checksum",
    "fingerprint",
    "list_settled",
    "newest_change",
    "pack",
    "unpack",
    "verify",
]
