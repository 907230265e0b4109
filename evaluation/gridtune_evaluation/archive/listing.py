"""What there is below a root: files, folders and links, and whether somebody has touched them."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import stat
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Final

from gridtune_evaluation.archive.tree import Tree

#: A file system's clock ticks every few milliseconds; two writes within one tick look like one.
_TICK_SECONDS: Final = 0.05
#: Some know whole seconds alone.
_COARSE_TICK_SECONDS: Final = 2.0
#: Through more links the kernel does not go either.
_MOST_LINKS: Final = 40


@dataclass(frozen=True)
class Fingerprint:
    """What a snapshot's files looked like from outside; equal ones stand for equal contents."""

    digest: str


@dataclass(frozen=True)
class Entry:
    """One file, folder or link; equal if nobody touched it."""

    mode: int
    device: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    link: str = ""

    @property
    def touched_at(self) -> float:
        """When it last changed, in seconds since 1970; a payload can set `mtime_ns` to anything, but not this."""
        return self.ctime_ns / 1e9

    @property
    def tick_seconds(self) -> float:
        """How long after a change another one may look the same."""
        return _TICK_SECONDS if self.ctime_ns % 10**9 else _COARSE_TICK_SECONDS

    @property
    def is_folder(self) -> bool:
        """Whether it is a true folder, not a link to one."""
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True)
class Listing:
    """What there was.

    Attributes:
        entries: By name.
        at: When the look began, in seconds since 1970.
    """

    entries: dict[str, Entry]
    at: float

    @property
    def at_rest(self) -> dict[str, Entry]:
        """Those of which every later change can be seen. Of two changes within one tick the second cannot."""
        return {name: entry for name, entry in self.entries.items() if entry.touched_at < self.at - entry.tick_seconds}

    @property
    def unrest_seconds(self) -> float:
        """After which all will be at rest if nobody touches it any more."""
        found = (entry.tick_seconds for entry in self.entries.values() if self._was_touched_just_now(entry))
        return max(found, default=0.0)

    def _was_touched_just_now(self, entry: Entry) -> bool:
        return 0 <= self.at - entry.touched_at <= entry.tick_seconds


def fingerprint(root: Path, patterns: Sequence[str], without: Collection[str] = ()) -> Fingerprint:
    """What the files below *root* look like now, to be told from how they look later."""
    return fingerprint_of(list_entries(root, patterns, without))


def newest_change(root: Path, patterns: Sequence[str], without: Collection[str] = ()) -> float | None:
    """When one of the files was touched last, in seconds since 1970; None if there is none."""
    times = [entry.mtime_ns / 1e9 for entry in list_entries(root, patterns, without).values() if entry.mtime_ns]
    return max(times, default=None)


def list_settled(
    root: Path,
    patterns: Sequence[str],
    without: Collection[str] = (),
    sleep: Callable[[float], object] = time.sleep,
) -> Listing:
    """Like `list_entries`, with a moment's patience for files that were touched just now."""
    listing = _listing(root, patterns, without)
    if listing.unrest_seconds:
        sleep(listing.unrest_seconds)
        listing = _listing(root, patterns, without)
    return listing


def list_entries(root: Path, patterns: Sequence[str], without: Collection[str] = ()) -> dict[str, Entry]:
    """What matches below *root*, by its name there, in order."""
    try:
        tree = Tree(root)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    with tree:
        census = _Census(tree, root, without)
        for pattern in patterns:
            for name in _matches(tree, [part for part in pattern.split("/") if part not in ("", ".")]):
                census.add(name)
    return dict(sorted(census.entries.items()))


def fingerprint_of(entries: Mapping[str, Entry]) -> Fingerprint:
    """Entries in short."""
    rows = [[os.fsencode(name).hex(), *_row(entry)] for name, entry in entries.items()]
    return Fingerprint(hashlib.sha256(json.dumps(rows).encode()).hexdigest())


def _row(entry: Entry) -> tuple[object, ...]:
    place, times = (entry.device, entry.inode), (entry.mtime_ns, entry.ctime_ns)
    return (entry.mode, *place, entry.size, *times, entry.link)


def differences(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[str]:
    """The names of what came, went or was touched."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def names_in(folder: Path) -> list[str]:
    """The names in a folder, in order; none if there is no such folder."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _matches(tree: Tree, parts: Sequence[str], below: str = "") -> Iterator[str]:
    if not parts:
        yield below
        return
    for name in _names(tree, below, parts[0]):
        yield from _matches(tree, parts[1:], posixpath.join(below, name))


def _names(tree: Tree, folder: str, pattern: str) -> list[str]:
    """Names in *folder* that match, by the rules of a shell without brackets."""
    if pattern == "..":
        return []
    if "*" not in pattern and "?" not in pattern:
        return [pattern] if tree.has(posixpath.join(folder, pattern)) else []
    expression = re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
    hidden = pattern.startswith(".")
    return [name for name in tree.names(folder) if expression.fullmatch(name) and (hidden or not name.startswith("."))]


def _listing(root: Path, patterns: Sequence[str], without: Collection[str]) -> Listing:
    at = time.time()  # before the look: what changes meanwhile has changed later
    return Listing(list_entries(root, patterns, without), at)


class _Census:
    """Collects entries by their names relative to the root."""

    def __init__(self, tree: Tree, root: Path, without: Collection[str] = ()) -> None:
        self._tree = tree
        self._roots = (os.path.abspath(root), os.path.realpath(root))
        self._without = frozenset(without)
        self.entries: dict[str, Entry] = {}

    def add(self, name: str) -> None:
        """Take a file, a link with what it points to, or a folder with all in it; leave out whatever else it is."""
        if name in self.entries or name in self._without or name.partition("/")[0] in self._without:
            return
        status = self._tree.status(name)
        if status is None:
            return
        if stat.S_ISREG(status.st_mode):
            place, times = (status.st_dev, status.st_ino), (status.st_mtime_ns, status.st_ctime_ns)
            self.entries[name] = Entry(status.st_mode, *place, status.st_size, *times)
        elif stat.S_ISDIR(status.st_mode):
            if name:
                # A folder's own times change with files that are not part of the snapshot.
                self.entries[name] = Entry(status.st_mode)
            for inner in self._tree.names(name):
                self.add(posixpath.join(name, inner))
        elif stat.S_ISLNK(status.st_mode):
            self._add_link(name, status.st_mode)

    def _add_link(self, name: str, mode: int) -> None:
        aim = self._aim(name)
        if aim is None:
            return
        self.entries[name] = Entry(mode, link=posixpath.relpath(aim or ".", posixpath.dirname(name) or "."))
        self._add_behind(aim)

    def _add_behind(self, aim: str) -> None:
        """What a link points to, which may itself lie behind other links."""
        parts = aim.split("/")
        for count in range(1, len(parts)):
            outer = "/".join(parts[:count])
            if self._tree.link(outer) is not None:
                self.add(outer)  # and with it the whole folder behind it
                return
        # A link to the root or to a folder above itself adds nothing but the rest of the root.
        if aim:
            self.add(aim)

    def _aim(self, name: str) -> str | None:
        """Where a link points, relative to the root; None if outside, or if only the kernel can tell."""
        real = self._real(name)
        link = self._tree.link(name)
        path = None if link is None else self._from_root(posixpath.dirname(name), link)
        if real is None or path is None:
            return None
        inside = posixpath.normpath(path)
        if self._real(inside) != real:
            return None
        return "" if inside == "." else inside

    def _real(self, path: str) -> str | None:
        """The same place without links on the way; None if the way leads out, even if it comes back, or has no end."""
        todo, real, n_links = path.split("/")[::-1], "", 0
        while todo:
            part = todo.pop()
            if part == ".." and not real:
                return None
            if part in ("", ".", ".."):
                real = posixpath.dirname(real) if part == ".." else real
                continue
            link = self._tree.link(posixpath.join(real, part))
            if link is None:
                real = posixpath.join(real, part)
                continue
            n_links += 1
            aim = self._from_root(real, link)
            if aim is None or n_links > _MOST_LINKS:
                return None
            todo, real = [*todo, *aim.split("/")[::-1]], ""
        return real

    def _from_root(self, folder: str, link: str) -> str | None:
        """A link in *folder* as a path relative to the root; None for an absolute one to elsewhere."""
        if not posixpath.isabs(link):
            return posixpath.join(folder, link)
        for root in self._roots:
            if f"{link}/".startswith(f"{root}/"):
                return link[len(root) + 1 :]
        return None
