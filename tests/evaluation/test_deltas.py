"""What did not change is not packed again, and comes back all the same."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtune_common.protocol.storage import ArchiveFormat
from gridtune_evaluation.archive import (
    BadBase,
    Damaged,
    Entry,
    Packed,
    Unreadable,
    Unsafe,
    Whole,
    deltas,
    list_settled,
    pack,
    unpack,
)
from gridtune_evaluation.archive.listing import Listing

_MANIFEST = "./base"
_FROZEN = b"f" * 4096


@dataclasses.dataclass(frozen=True)
class Shelved:
    """An archive that was put aside."""

    path: Path
    packed: Packed

    @property
    def whole(self) -> Whole:
        """The archive as a base."""
        return Whole(self.path, self.packed.sha256, self.packed.size)

    @property
    def members(self) -> list[str]:
        """What is in it."""
        with tarfile.open(self.path) as tar:
            return tar.getnames()

    def unpack(self, root: Path, base: Shelved | None = None) -> frozenset[str]:
        """Put it below *root*."""
        whole = None if base is None else base.whole
        return unpack(self.path, root, self.packed.sha256, self.packed.size, whole)


def shelve(room: Path, name: str, base: Mapping[str, Entry] | None = None, **options: Any) -> Shelved:
    """Pack the folder ``out`` of *room* to a file beside it; of however little, a delta is made if it can be."""
    options = {"form": ArchiveFormat.TAR, "small": 0, "share": 1.0, **options}
    packed = pack(room, ["out"], room.parent / name, base=base, **options)
    assert isinstance(packed, Packed)
    return Shelved(room.parent / name, packed)


def make_room(folder: Path, **files: bytes) -> Path:
    """A working directory with files in its folder ``out``, and a large one that nobody touches."""
    room = folder / "room"
    (room / "out").mkdir(parents=True)
    for name, content in {"frozen": _FROZEN, **files}.items():
        (room / "out" / name).write_bytes(content)
    return room


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """All below *root*: kind, mode, time and content by name."""
    return {path.relative_to(root).as_posix(): _looks(path) for path in root.rglob("*")}


def _looks(path: Path) -> tuple[Any, ...]:
    if path.is_symlink():
        return ("link", os.readlink(path))
    status = path.stat()
    return ("folder",) if path.is_dir() else ("file", status.st_mode, status.st_mtime, path.read_bytes())


# --- any change

_NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "caf\udce9"])


def _write(room: Path, name: str, _other: str, content: bytes) -> None:
    (_room_for(room, name)).write_bytes(content)


def _make_folder(room: Path, name: str, _other: str, _content: bytes) -> None:
    _room_for(room, name).mkdir()


def _link(room: Path, name: str, other: str, _content: bytes) -> None:
    path = _room_for(room, name)
    path.symlink_to(os.path.relpath(room / "out" / other, path.parent))


def _rename(room: Path, name: str, other: str, _content: bytes) -> None:
    source = room / "out" / name
    if os.path.lexists(source) and not other.startswith(name) and not name.startswith(other):
        source.rename(_room_for(room, other))


def _remove(room: Path, name: str, _other: str, _content: bytes) -> None:
    _clear(room / "out" / name)


def _change_mode(room: Path, name: str, _other: str, _content: bytes) -> None:
    path = room / "out" / name
    if path.is_file() and not path.is_symlink():
        path.chmod(path.stat().st_mode ^ 0o100)


def _append(room: Path, name: str, _other: str, content: bytes) -> None:
    path = room / "out" / name
    if path.is_file() and not path.is_symlink():
        with open(path, "ab") as file:
            file.write(content)


def _room_for(room: Path, name: str) -> Path:
    """A path with nothing there, in true folders."""
    path = room / "out" / name
    for folder in list(path.relative_to(room / "out").parents)[-2::-1]:
        if not (room / "out" / folder).is_dir() or (room / "out" / folder).is_symlink():
            _clear(room / "out" / folder)
            (room / "out" / folder).mkdir()
    _clear(path)
    return path


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


_CHANGES = st.lists(
    st.tuples(
        st.sampled_from([_write, _make_folder, _link, _rename, _remove, _change_mode, _append]),
        _NAMES,
        _NAMES,
        st.binary(max_size=8),
    ),
    max_size=6,
)
_Change = tuple[Callable[[Path, str, str, bytes], None], str, str, bytes]


def apply(room: Path, changes: list[_Change]) -> None:
    """Let them happen."""
    for change, name, other, content in changes:
        if "/" not in name or not (room / "out" / name.split("/")[0]).is_symlink():
            change(room, name, other, content)


@settings(max_examples=40, deadline=None)
@given(before=_CHANGES, then=_CHANGES, at_last=_CHANGES)
def test_a_delta_on_its_base_is_the_whole(before: list[_Change], then: list[_Change], at_last: list[_Change]) -> None:
    """Whatever was written, removed, renamed or replaced by something else; also after it was restored elsewhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        room = make_room(folder)
        apply(room, before)
        base = shelve(room, "base")
        apply(room, then)
        whole, delta = shelve(room, "whole"), shelve(room, "delta", base.packed.at_rest)
        whole.unpack(folder / "expected" / "1")
        names = delta.unpack(folder / "1", base)
        assert delta.packed.format is ArchiveFormat.DELTA_TAR
        assert tree(folder / "1") == tree(folder / "expected" / "1")

        elsewhere = folder / "1"
        listing = list_settled(elsewhere, ["out"])
        unchanged = {name: entry for name, entry in listing.at_rest.items() if name in names}
        apply(elsewhere, at_last)
        whole, delta = shelve(elsewhere, "whole"), shelve(elsewhere, "delta", unchanged)
        whole.unpack(folder / "expected" / "2")
        delta.unpack(folder / "2", base)

        assert delta.packed.size < len(_FROZEN) + 20_000
        assert "out/frozen" not in delta.members
        assert tree(folder / "2") == tree(folder / "expected" / "2")


# --- what is packed


def test_only_what_changed_is_packed(tmp_path: Path) -> None:
    """With the names of what did not."""
    room = make_room(tmp_path, old=b"1", gone=b"2", small=b"3")
    base = shelve(room, "base")
    (room / "out/small").write_bytes(b"4")
    (room / "out/gone").unlink()
    (room / "out/new").write_bytes(b"5")

    delta = shelve(room, "delta", base.packed.at_rest)
    kept = delta.unpack(tmp_path / "root", base)

    assert delta.members == [_MANIFEST, "out/new", "out/small"]
    assert kept == {"out", "out/frozen", "out/old"}
    assert sorted(os.listdir(tmp_path / "root/out")) == ["frozen", "new", "old", "small"]


def test_a_delta_is_compressed_like_a_whole_one(tmp_path: Path) -> None:
    """By zstd where the task wants it."""
    pytest.importorskip("zstandard")
    room = make_room(tmp_path)
    base = shelve(room, "base", form=ArchiveFormat.TAR_ZSTD)
    (room / "out/new").write_bytes(b"n" * 1000)

    delta = shelve(room, "delta", base.packed.at_rest, form=ArchiveFormat.TAR_ZSTD)
    delta.unpack(tmp_path / "root", base)

    assert delta.packed.format is ArchiveFormat.DELTA_TAR_ZSTD
    assert delta.packed.size < 1000
    assert (tmp_path / "root/out/new").read_bytes() == b"n" * 1000


@pytest.mark.parametrize(
    ("n_changed", "options", "form"),
    [
        (4000, {"share": 0.5}, ArchiveFormat.DELTA_TAR),
        (4200, {"share": 0.5}, ArchiveFormat.TAR),
        (4200, {"share": 1.0}, ArchiveFormat.DELTA_TAR),
        (0, {"small": 4096}, ArchiveFormat.DELTA_TAR),
        (0, {"small": 4097}, ArchiveFormat.TAR),
        (0, {"small": deltas.SMALL_BYTES}, ArchiveFormat.TAR),
    ],
    ids=["less than half", "more than half", "anything", "just large enough", "just too small", "much too small"],
)
def test_deltas_are_made_where_they_are_worth_it(
    tmp_path: Path, n_changed: int, options: dict[str, Any], form: ArchiveFormat
) -> None:
    """Of large snapshots of which little changed."""
    room = make_room(tmp_path)
    base = shelve(room, "base")
    (room / "out/changing").write_bytes(b"c" * n_changed)

    packed = shelve(room, "again", base.packed.at_rest, **options).packed

    assert packed.format is form


def test_what_was_just_touched_is_not_relied_on(tmp_path: Path) -> None:
    """A second write within the same tick of the clock would not be seen."""
    room = make_room(tmp_path)

    def touch(seconds: float) -> None:
        time.sleep(2 * seconds)
        (room / "out/hot").write_bytes(b"h")

    base = shelve(room, "base", sleep=touch)

    assert sorted(base.packed.at_rest) == ["out", "out/frozen"]
    assert "out/hot" in base.members


@pytest.mark.parametrize(
    ("ctime_ns", "is_at_rest"),
    [
        (99_940_000_001, True),
        (99_960_000_001, False),
        (97 * 10**9, True),
        (99 * 10**9, False),
        (101_000_000_001, False),
    ],
    ids=["fine clock", "fine clock, just now", "whole seconds", "whole seconds, just now", "a clock that is ahead"],
)
def test_the_clock_of_the_file_system_counts(ctime_ns: int, is_at_rest: bool) -> None:
    """One that knows whole seconds alone needs more patience."""
    listing = Listing({"a": Entry(0, ctime_ns=ctime_ns)}, at=100.0)

    assert list(listing.at_rest) == ["a"] * is_at_rest


# --- nothing is trusted


def forged(folder: Path, name: str, manifest: bytes | None, *members: tarfile.TarInfo) -> Shelved:
    """An archive with any manifest and any members."""
    path = folder / name
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        if manifest is not None:
            deltas.add_manifest(tar, manifest)
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return Shelved(path, Packed(len(content), sha256, ArchiveFormat.DELTA_TAR, 1, None))  # type: ignore[arg-type]


def member(name: str, kind: bytes = tarfile.REGTYPE, aim: str = "") -> tarfile.TarInfo:
    """One member of a forged archive; a file holds one byte."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, aim
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


def assert_untouched(folder: Path) -> None:
    """Nothing was written to the root, beside it, or anywhere else."""
    assert list((folder / "deep").rglob("*")) == [folder / "deep/root"]
    assert sorted(os.listdir(folder)) == ["base", "deep", "delta"]


@pytest.mark.parametrize(
    "manifest",
    [
        b"nothing",
        b"a\0../../etc/passwd\0",
        b"/etc/passwd\0",
        b"a\0\xff\xfe\0",
        b"{" * 10_000,
        b"./base\0",
        b"../base\0",
    ],
    ids=["unknown", "up", "absolute", "no utf-8", "nonsense", "itself", "a file beside"],
)
def test_a_manifest_selects_members_and_nothing_else(tmp_path: Path, manifest: bytes) -> None:
    """What is no member of the base is damage; no name in it is ever a path."""
    base = forged(tmp_path, "base", None, member("a"), member("b"))
    delta = forged(tmp_path, "delta", manifest, member("c"))

    with pytest.raises(Damaged, match="which does not have it"):
        delta.unpack(tmp_path / "deep/root", base)

    assert_untouched(tmp_path)


@pytest.mark.parametrize(
    ("kept", "members"),
    [
        (b"a\0", [member("a")]),
        (b"a\0", [member("a/below")]),
        (b"d/x\0", [member("d")]),
        (b"link\0", [member("link/through")]),
        (b"link\0", [member("link/up", tarfile.SYMTYPE, "..")]),
        (b"a\0", [member("a", tarfile.SYMTYPE, "d")]),
        (b"a\0", [member("../escape")]),
        (b"a\0", [member(_MANIFEST)]),
        (b"a\0", [member("up", tarfile.SYMTYPE, "../..")]),
    ],
    ids=[
        "twice", "below a file", "instead of a folder", "through a link", "link behind a link",
        "link instead of a file", "up", "a second manifest", "link out",
    ],
)  # fmt: skip
def test_no_delta_writes_elsewhere(tmp_path: Path, kept: bytes, members: list[tarfile.TarInfo]) -> None:
    """Base and delta are judged together: what is harmless alone may not be so with the other."""
    base = forged(tmp_path, "base", None, member("a"), member("d/x"), member("link", tarfile.SYMTYPE, "d"))
    delta = forged(tmp_path, "delta", kept, *members)

    with pytest.raises(Unsafe):
        delta.unpack(tmp_path / "deep/root", base)

    assert_untouched(tmp_path)


def test_what_a_manifest_leaves_out_is_checked_too(tmp_path: Path) -> None:
    """A base with a member that leads out is no archive of ours."""
    base = forged(tmp_path, "base", None, member("a"), member("../escape"))
    delta = forged(tmp_path, "delta", b"a\0", member("c"))

    with pytest.raises(BadBase):
        delta.unpack(tmp_path / "deep/root", base)

    assert_untouched(tmp_path)


def test_a_damaged_base_is_told_from_a_damaged_delta(tmp_path: Path) -> None:
    """The one is of use to nobody, the other's base to others."""
    base = forged(tmp_path, "base", None, member("a"))
    delta = forged(tmp_path, "delta", b"a\0", member("c"))
    harmed = dataclasses.replace(base, packed=dataclasses.replace(base.packed, sha256="0" * 64))

    with pytest.raises(BadBase, match="another SHA-256"):
        delta.unpack(tmp_path / "deep/root", harmed)
    with pytest.raises(Damaged, match="does not begin with"):
        base.unpack(tmp_path / "deep/root", base)

    assert_untouched(tmp_path)


def test_a_delta_is_no_whole_archive(tmp_path: Path) -> None:
    """Who knows nothing of bases refuses it, and restores no half: this is also what older agents do."""
    delta = forged(tmp_path, "delta", b"a\0", member("c"))
    forged(tmp_path, "base", None, member("a"))

    with pytest.raises(Unsafe, match="no plain relative path"):
        delta.unpack(tmp_path / "deep/root")

    assert_untouched(tmp_path)


def test_a_manifest_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none is written that would be refused: then all is packed."""
    base, delta = forged(tmp_path, "base", None, member("a")), forged(tmp_path, "delta", b"a\0", member("c"))
    monkeypatch.setattr(deltas, "_LARGEST_MANIFEST", 1)

    with pytest.raises(Damaged, match="does not begin with"):
        delta.unpack(tmp_path / "deep/root", base)
    assert deltas.find_delta({"frozen": Entry(0, size=9)}, {"frozen": Entry(0, size=9)}, small=0, share=1.0) is None


def test_a_base_that_cannot_be_read_here_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another node may have what it takes."""
    pytest.importorskip("zstandard")
    room = make_room(tmp_path)
    base = shelve(room, "base", form=ArchiveFormat.TAR_ZSTD)
    delta = forged(tmp_path, "delta", b"out\0", member("c"))
    monkeypatch.setattr("gridtune_evaluation.archive.compression.find_zstd", lambda: None)

    with pytest.raises(Unreadable, match="pip install zstandard"):
        delta.unpack(tmp_path / "root", base)
