"""Objects in a folder of this machine, or of a shared file system; the service's own web processes hand them out.

Below the root: ``objects/KEY``, ``uploads/UPLOAD/`` with the content and its finished parts, and ``drafts/``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Final, Protocol

from gridtune_steering.objectstore import disk
from gridtune_steering.objectstore.parts import CONTENT, marker, writing
from gridtune_steering.objectstore.port import (
    NoSuchObject,
    ObjectStore,
    Stored,
    StoreFull,
    Unfinished,
    UploadIncomplete,
    WrongChecksum,
    WrongLength,
    checked_key,
    checked_prefix,
)
from gridtune_steering.objectstore.signing import Signer

#: Where the web processes serve these objects; addresses begin with it.
ADDRESS: Final = "/api/v1/objects/"
_ABOUT = "about.json"
_GONE = "gone-"
_BLOCK = 2**20
#: After so long, what lies around half made is what a crash left.
_LEFTOVER_AGE = timedelta(days=1)


class Readable(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class _About:
    key: str
    size: int
    begun_at: str


class FolderStore(ObjectStore):
    """Keeps objects as files. Besides the port: `receive` and `fetch`, for what comes to the signed addresses."""

    min_part_size = 1
    max_parts = 10_000

    def __init__(self, root: Path, key: bytes, clock: Callable[[], datetime]) -> None:
        self._root = root
        self._objects = root / "objects"
        self._uploads = root / "uploads"
        self._drafts = root / "drafts"
        self._signer = Signer(key, clock)
        self._clock = clock

    # --- the port

    def begin(self, key: str, size: int, n_parts: int) -> str:
        """Begin an upload; refused at once if there is no room for it."""
        about = _About(checked_key(key), size, self._clock().isoformat())
        upload = secrets.token_hex(12)
        folder = self._uploads / upload
        with disk.translated(self._root):
            folder.mkdir(parents=True)
            if shutil.disk_usage(folder).free < size:
                folder.rmdir()
                raise StoreFull(f"there is no room for {size} bytes below {self._root}")
            with (folder / CONTENT).open("xb") as content:
                content.truncate(size)
                os.fsync(content.fileno())
            disk.write_durably(folder / _ABOUT, json.dumps(asdict(about)).encode())
            disk.sync_folder(self._uploads)
        return upload

    def part_urls(self, key: str, upload: str, sizes: Sequence[int], lifetime: timedelta) -> list[str]:
        """An address for each part, relative to the service's."""
        checked_key(key)
        offsets = [0, *accumulate(sizes)]
        return [
            self._address("PUT", key, {"upload": upload, "part": part, "offset": offset, "size": size}, lifetime)
            for part, (offset, size) in enumerate(zip(offsets, sizes, strict=False), 1)
        ]

    def finish(self, key: str, upload: str, sizes: Sequence[int]) -> None:
        """Rename the content, if all its parts are marked."""
        target = self._path(key)
        folder = self._folder(upload)
        with disk.translated(self._root):
            about = _about(folder)
            if about is not None and about.key == key and (folder / CONTENT).exists():
                self._check_parts(folder, about, sizes)
                with contextlib.suppress(FileNotFoundError):  # another process does the same, and was faster
                    disk.move(folder / CONTENT, target, self._root)
            self._check_object(target, sizes)
            disk.sync_folders(target, self._root)  # also if it was renamed before: maybe just now, or before a crash
            if about is not None and about.key == key:
                self._discard(folder)

    def abandon(self, key: str, upload: str) -> None:
        """Remove the upload's folder."""
        with disk.translated(self._root):
            self._discard(self._folder(upload))

    def download_url(self, key: str, lifetime: timedelta) -> str:
        """An address, relative to the service's."""
        return self._address("GET", checked_key(key), {}, lifetime)

    def write(self, key: str, content: bytes) -> None:
        """Write a draft and rename it."""
        target = self._path(key)
        draft = self._drafts / secrets.token_hex(12)
        with disk.translated(self._root):
            self._drafts.mkdir(parents=True, exist_ok=True)
            disk.write_durably(draft, content)
            disk.move(draft, target, self._root)
            disk.sync_folders(target, self._root)

    def read(self, key: str, limit: int) -> bytes:
        """Read the file's beginning."""
        with disk.translated(self._root):
            try:
                with self._path(key).open("rb") as file:
                    return file.read(limit)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                raise NoSuchObject(key) from error

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files, and the folders that they leave empty."""
        with disk.translated(self._root):
            for key in keys:
                disk.remove_file(self._path(key), self._objects)

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Walk the folder that the prefix names."""
        start, _, _ = checked_prefix(prefix).rpartition("/")
        with disk.translated(self._root):
            for key, stat in disk.walk(self._objects / start, start and f"{start}/"):
                if key.startswith(prefix):
                    yield Stored(key=key, size=stat.st_size, modified_at=datetime.fromtimestamp(stat.st_mtime, UTC))

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        """Look into all uploads; what a crash left half made or half removed goes on this occasion."""
        checked_prefix(prefix)
        with disk.translated(self._root):
            self._sweep()
            yield from sorted(
                (
                    Unfinished(key=about.key, upload=folder.name, begun_at=datetime.fromisoformat(about.begun_at))
                    for folder in _entries(self._uploads)
                    if (about := _about(folder)) is not None and about.key.startswith(prefix)
                ),
                key=lambda upload: (upload.key, upload.begun_at),
            )

    def check(self) -> None:
        """Write a file and remove it."""
        probe = self._drafts / secrets.token_hex(12)
        with disk.translated(self._root):
            self._drafts.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"?")
            probe.unlink()

    # --- what the web processes need

    def receive(
        self, key: str, query: Mapping[str, str], stream: Readable, content_length: int | None, content_md5: str | None
    ) -> None:
        """Take a part that is PUT to its signed address; *content_md5* is in base64, as in HTTP.

        Raises:
            AddressRefused: The address was not signed for this, or has expired.
            WrongContent: Length or checksum are not what is due.
            NoSuchUpload: The upload was finished or abandoned.
        """
        self._signer.verify("PUT", key, query)
        upload, part, offset, size = query["upload"], int(query["part"]), int(query["offset"]), int(query["size"])
        due = _md5_due(content_md5)
        if content_length != size:
            sent = "a body without Content-Length" if content_length is None else f"{content_length} bytes"
            raise WrongLength(f"part {part} has {size} bytes, not {sent}")
        md5 = hashlib.md5(usedforsecurity=False)
        with disk.translated(self._root), writing(self._folder(upload), part, offset) as writer:
            for block in _blocks(stream, size):
                md5.update(block)
                writer.write(block)
            if due is not None and md5.digest() != due:
                raise WrongChecksum(f"part {part} arrived with another MD5 than its Content-MD5; send it again")
            writer.finish(size, md5.hexdigest())

    def fetch(self, key: str, query: Mapping[str, str]) -> Path:
        """The file behind a signed address for GET.

        Raises:
            AddressRefused: The address was not signed for this, or has expired.
            NoSuchObject: There is none.
            StoreAway: There are no objects at all: the folder is not mounted, or cannot be entered.
        """
        self._signer.verify("GET", key, query)
        path = self._path(key)
        with disk.translated(self._root):
            if not path.is_file():
                self._objects.stat()
                raise NoSuchObject(key)
        return path.resolve()

    # --- places

    def _address(self, method: str, key: str, fields: Mapping[str, str | int], lifetime: timedelta) -> str:
        return f"{ADDRESS}{key}?{self._signer.signed(method, key, fields, lifetime)}"

    def _path(self, key: str) -> Path:
        return self._objects / checked_key(key)

    def _folder(self, upload: str) -> Path:
        return self._uploads / (upload if upload.isalnum() else "unknown")  # what we never called one is never there

    # --- uploads

    def _check_parts(self, folder: Path, about: _About, sizes: Sequence[int]) -> None:
        missing = [part for part, size in enumerate(sizes, 1) if (m := marker(folder, part)) is None or m.size != size]
        if missing:
            shown = ", ".join(str(part) for part in missing[:10]) + (", …" if len(missing) > 10 else "")
            raise UploadIncomplete(f"of {len(sizes)} parts, these are missing or have another size: {shown}")
        if sum(sizes) != about.size:
            raise UploadIncomplete(f"the upload was begun for {about.size} bytes, not {sum(sizes)}")

    def _check_object(self, target: Path, sizes: Sequence[int]) -> None:
        try:
            size = target.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise UploadIncomplete("there is no such upload, and nothing was made of it; begin anew") from None
        if size != sum(sizes):
            raise UploadIncomplete(f"the object has {size} bytes, not {sum(sizes)}")

    def _discard(self, folder: Path) -> None:
        """Rename a folder, so that nobody writes into it any more, and remove it."""
        gone = self._uploads / f"{_GONE}{folder.name}"
        try:
            folder.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)

    def _sweep(self) -> None:
        for folder in _entries(self._uploads):
            if folder.name.startswith(_GONE) or (_about(folder) is None and self._is_leftover(folder)):
                shutil.rmtree(folder, ignore_errors=True)
        for draft in _entries(self._drafts):
            if self._is_leftover(draft):
                draft.unlink(missing_ok=True)

    def _is_leftover(self, path: Path) -> bool:
        try:
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except FileNotFoundError:
            return False
        return self._clock() - changed > _LEFTOVER_AGE


def _about(folder: Path) -> _About | None:
    try:
        return _About(**json.loads((folder / _ABOUT).read_bytes()))
    except FileNotFoundError:
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _md5_due(content_md5: str | None) -> bytes | None:
    if content_md5 is None:
        return None
    try:
        digest = base64.b64decode(content_md5, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise WrongChecksum("Content-MD5 is not the base64 of 16 bytes")
    return digest


def _blocks(stream: Readable, size: int) -> Iterator[bytes]:
    left = size
    while left:
        block = _next_block(stream, min(_BLOCK, left))
        if not block:
            raise WrongLength(f"the body broke off after {size - left} of {size} bytes; send the part again")
        left -= len(block)
        yield block


def _next_block(stream: Readable, size: int) -> bytes:
    try:
        return stream.read(size)
    except OSError:  # of the connection, not of the disk
        return b""
