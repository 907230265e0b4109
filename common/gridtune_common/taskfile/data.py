"""Inputs that are fetched once on each node: where they come from, and where trainings find them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Optional
from urllib.parse import SplitResult, urlsplit

from gridtune_common.errors import Flaw
from gridtune_common.space.reading import LARGEST_WHOLE, Checked, check_text, check_whole, join, show
from gridtune_common.taskfile.values import (
    INPUT_FILE,
    check_duration,
    check_path,
    clean_path,
    write_bytes,
    write_seconds,
)

#: The addresses that agents can fetch from.
SCHEMES: Final = ("http", "https", "s3", "file")
#: Names in the working directory that are the agent's own.
OWN_NAMES: Final = (INPUT_FILE, "output.log", ".gridtune")
SHA256: Final = "[0-9A-Fa-f]{64}"

_EXAMPLE: Final = "https://example.org/train.npz"


@dataclass(frozen=True)
class DataSource(Checked):
    """Where one input comes from: an address, or a command that fetches it.

    Attributes:
        url: ``https://…``, ``http://…``, ``s3://bucket/key``, or ``file:///…``, which may be a folder.
        command: What ``/bin/sh`` runs instead; ``{target}`` is the file to write, ``{dir}`` its folder.
        sha256: The checksum of the file, in lower case.
        size_bytes: The size of the file.
        timeout_seconds: The longest that fetching may take.
    """

    url: Optional[str] = None
    command: Optional[str] = None
    sha256: Optional[str] = None
    size_bytes: Optional[int] = None
    timeout_seconds: float = 21_600.0

    def to_json(self) -> dict[str, Any]:
        """The source as a task file writes it."""
        written = {
            "url": self.url,
            "command": self.command,
            "sha256": self.sha256,
            "size": None if self.size_bytes is None else write_bytes(self.size_bytes),
            "timeout": write_seconds(self.timeout_seconds),
        }
        return {key: value for key, value in written.items() if value is not None}

    def _flaws(self) -> Iterator[Flaw]:
        if self.url is None and self.command is None:
            yield Flaw("", f"says not where to fetch it; write url: {_EXAMPLE}, or a command")
        if self.url is not None and self.command is not None:
            yield Flaw("", "has a url and a command; keep one of the two")
        if self.url is not None:
            yield from _check_url("url", self.url)
        if self.command is not None:
            yield from check_text("command", self.command, "rucio download --dir {dir} scope:name")
        if self.sha256 is not None and not (isinstance(self.sha256, str) and re.fullmatch(SHA256, self.sha256)):
            yield Flaw("sha256", f"{show(self.sha256)} is no checksum; write the 64 digits that sha256sum prints")
        if self.size_bytes is not None:
            yield from check_whole("size", self.size_bytes, 0, LARGEST_WHOLE)
        yield from check_duration("timeout", self.timeout_seconds)

    def _settle(self) -> None:
        if self.sha256 is not None:
            self._set("sha256", self.sha256.lower())
        self._set("timeout_seconds", float(self.timeout_seconds))


def check_data(path: str, data: Any, files: Any, result_file: str) -> Iterator[Flaw]:
    """Inputs in places of their own are expected: below the working directory, where nothing else is."""
    if not isinstance(data, Mapping):
        yield Flaw(
            path, f"{show(data)} is no mapping of paths to sources; write one, such as {{train.npz: {_EXAMPLE}}}"
        )
        return
    taken = {result_file: "the result file", **dict.fromkeys(OWN_NAMES, "the agent's own")}
    if isinstance(files, (list, tuple)):
        taken.update((clean_path(name), "under payload.files") for name in files if isinstance(name, str))
    seen: dict[str, str] = {}
    for name in data:
        place = join(path, str(name))
        flaws = list(check_path(place, name))
        yield from flaws or _check_place(place, clean_path(name), taken, seen)
        if not flaws:
            seen[clean_path(name)] = "another input"


def is_within(name: str, folder: str) -> bool:
    """Whether a path is another one or lies below it.

    >>> is_within("a/b", "a"), is_within("a", "a"), is_within("ab", "a")
    (True, True, False)
    """
    return name == folder or name.startswith(f"{folder}/")


def clashing(name: str, others: Collection[str]) -> Optional[str]:
    """The first path that cannot be beside an input called *name*: the same, one below it, or one above."""
    return next((other for other in others if is_within(name, other) or is_within(other, name)), None)


def _check_place(path: str, name: str, taken: Mapping[str, str], seen: Mapping[str, str]) -> Iterator[Flaw]:
    if name == str(PurePosixPath(".")):
        yield Flaw(path, "is the working directory itself; write the path of a file in it, such as train.npz")
        return
    # an input may lie in a folder that travels with the task, but not the other way round: inputs cannot be written to
    others = {other: what for other, what in taken.items() if what != "under payload.files" or is_within(other, name)}
    others.update(seen)
    other = clashing(name, others)
    if other is not None:
        yield Flaw(path, f"is in the way of {other} ({others[other]}); write another path")


def _check_url(path: str, url: Any) -> Iterator[Flaw]:
    flaws = list(check_text(path, url, _EXAMPLE))
    yield from flaws
    if flaws:
        return
    if re.search(r"\s", url):
        yield Flaw(path, f"{show(url)} has blanks in it; write %20 for a blank")
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in SCHEMES and parts.port != 0
    except ValueError as error:
        yield Flaw(path, f"{show(url)} is no address: {error}; write it like {_EXAMPLE}")
        return
    if not usable:
        kinds = "https://…, s3://bucket/key or file:///path"
        yield Flaw(path, f"{show(url)} cannot be fetched; write {kinds}, or a command that fetches it")
    elif parts.username is not None or parts.password is not None:
        fix = "leave them out and use a signed address, ~/.netrc on the nodes, or a command"
        yield Flaw(path, f"has a user or password in it, which everybody who sees the task could read; {fix}")
    else:
        yield from _check_parts(path, url, parts)


def _check_parts(path: str, url: str, parts: SplitResult) -> Iterator[Flaw]:
    if parts.scheme == "s3":
        if not parts.netloc or len(parts.path) < 2 or parts.path.endswith("/"):
            yield Flaw(path, f"{show(url)} names no object; write it like s3://bucket/key")
    elif parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or len(parts.path) < 2:
            yield Flaw(path, f"{show(url)} is no path on the node; write it like file:///cvmfs/example.org/train.npz")
    elif not parts.hostname:
        yield Flaw(path, f"{show(url)} names no host; write it like {_EXAMPLE}")
