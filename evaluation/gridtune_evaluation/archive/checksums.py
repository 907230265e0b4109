"""Whether a file is the one that it should be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from gridtune_evaluation.archive.errors import Damaged

_BLOCK: Final = 2**20


def verify(path: Path, sha256: str, size: int) -> None:
    """Raise `Damaged` unless a file has this size and checksum."""
    found = path.stat().st_size
    if found != size:
        raise Damaged(f"{path} has {found} bytes instead of {size}; fetch it again")
    digest, _ = checksum(path)
    if digest != sha256.lower():
        raise Damaged(f"{path} has another SHA-256 than what was stored ({digest}); fetch it again")


def checksum(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file, in hex, and its size in bytes."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
