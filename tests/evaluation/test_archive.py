"""Snapshots hold files at rest, and nothing in an archive is written where it must not."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import socket
import subprocess
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gridtune_common.protocol.storage import ArchiveFormat
from gridtune_evaluation.archive import (
    ArchiveError,
    Damaged,
    Packed,
    Restless,
    Unchanged,
    Unreadable,
    Unsafe,
    best_format,
    compression,
    list_settled,
    pack,
    packing,
    unpack,
)


def make_room(folder: Path, files: dict[str, str]) -> Path:
    """A working directory with files, by their names and contents."""
    room = folder / "room"
    room.mkdir(exist_ok=True)
    for name, content in files.items():
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        (room / name).write_text(content, encoding="utf-8")
    return room


def packed(room: Path, *patterns: str, **options: Any) -> Packed:
    """A snapshot beside *room*, which must succeed."""
    options.setdefault("form", ArchiveFormat.TAR)
    snapshot = pack(room, patterns, room.parent / "snapshot", **options)
    assert isinstance(snapshot, Packed)
    return snapshot


def names(room: Path, *patterns: str) -> list[str]:
    """The members of a snapshot of *room*."""
    packed(room, *patterns)
    with tarfile.open(room.parent / "snapshot") as tar:
        return tar.getnames()


def restored(folder: Path, snapshot: Packed) -> Path:
    """A fresh folder with the files of a snapshot."""
    target = folder / "restored"
    unpack(folder / "snapshot", target, snapshot.sha256, snapshot.size)
    return target


def forged(folder: Path, *members: tarfile.TarInfo) -> tuple[Path, str, int]:
    """An archive with any members, with its checksum and size."""
    path = folder / "forged.tar"
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    content = path.read_bytes()
    return path, hashlib.sha256(content).hexdigest(), len(content)


def member(name: str, kind: bytes = tarfile.REGTYPE, aim: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """One member of a forged archive; a file holds one byte."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, aim, mode
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


@contextmanager
def no_file_above(n_bytes: int) -> Iterator[None]:
    """A limit of the kernel's, which is as good as a full disk and can be had anywhere."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- what is packed


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    """Contents, names in any script, empty folders, links, modes and times survive."""
    room = make_room(tmp_path, {"out/größe ☃.txt": "snow", "out/run.sh": "#!/bin/sh", "out/.hidden": "dot"})
    (room / "out/run.sh").chmod(0o755)
    (room / "out/empty").mkdir()
    (room / "out/last").symlink_to("run.sh")
    os.utime(room / "out/run.sh", (1_000_000, 1_000_000.25))

    back = restored(tmp_path, packed(room, "out"))

    assert (back / "out/größe ☃.txt").read_text(encoding="utf-8") == "snow"
    assert (back / "out/.hidden").read_text() == "dot"
    assert (back / "out/empty").is_dir()
    assert os.readlink(back / "out/last") == "run.sh"
    assert os.access(back / "out/run.sh", os.X_OK)
    assert (back / "out/größe ☃.txt").stat().st_mode & 0o111 == 0
    assert (back / "out/run.sh").stat().st_mtime == 1_000_000.25


def test_a_name_that_is_no_utf8_survives(tmp_path: Path) -> None:
    """Bytes are bytes, whatever they were meant to be."""
    room = make_room(tmp_path, {})
    name = os.fsdecode(b"caf\xe9.pt")
    (room / name).write_text("x")

    back = restored(tmp_path, packed(room, "*.pt"))

    assert os.listdir(back) == [name]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["model.pt"], ["model.pt"]),
        (["*.pt"], ["last.pt", "model.pt"]),
        (["epoch-?/*.pt"], ["epoch-1/w.pt", "epoch-2/w.pt"]),
        (["epoch-1", "./epoch-1/w.pt"], ["epoch-1", "epoch-1/log.txt", "epoch-1/w.pt"]),
        (["model.pt", "nothing", "epoch-[12]"], ["model.pt"]),
        (["../outside", "model.pt"], ["model.pt"]),
    ],
    ids=["name", "star", "question mark in a folder", "folder, twice", "no match, no brackets", "no way up"],
)
def test_patterns_match_names(tmp_path: Path, patterns: list[str], expected: list[str]) -> None:
    """Stars and question marks match within a name; a folder means everything in it."""
    files = ["model.pt", "last.pt", ".secret.pt", "epoch-1/w.pt", "epoch-1/log.txt", "epoch-2/w.pt", "epoch-10/w.pt"]
    room = make_room(tmp_path, dict.fromkeys([*files, "../outside"], "x"))

    found = names(room, *patterns)

    assert found == expected


def test_nothing_to_pack_is_none(tmp_path: Path) -> None:
    """Without a match there is no snapshot and no file."""
    room = make_room(tmp_path, {})

    snapshot = pack(room, ["*.pt"], tmp_path / "snapshot")

    assert snapshot is None
    assert not (tmp_path / "snapshot").exists()


def test_sockets_and_pipes_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no file is not read, which might never end."""
    room = make_room(tmp_path, {"out/a": "x"})
    os.mkfifo(room / "out/pipe")
    monkeypatch.chdir(room)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("out/socket")

        found = names(room, "out")

    assert found == ["out", "out/a"]


def test_links_that_leave_are_left_out(tmp_path: Path) -> None:
    """Neither a link outside nor what is behind a linked folder is packed."""
    room = make_room(tmp_path, {"a": "x", "../elsewhere/secret": "s"})
    (room / "out").symlink_to("../elsewhere")
    (room / "absolute").symlink_to(tmp_path / "elsewhere/secret")
    (room / "sub").mkdir()
    (room / "sub/back").symlink_to("../out/secret")

    found = names(room, "*", "out/secret", "sub/back")

    assert found == ["a", "sub"]


def test_a_link_brings_what_it_points_to(tmp_path: Path) -> None:
    """A link to the newest checkpoint is worth nothing without that checkpoint; absolute ones are made relative."""
    room = make_room(tmp_path, {"epochs/3.pt": "three", "epochs/2.pt": "two"})
    (room / "last.pt").symlink_to(room / "epochs/3.pt")

    snapshot = packed(room, "last.pt")
    back = restored(tmp_path, snapshot)

    assert snapshot.n_files == 2
    assert os.readlink(back / "last.pt") == "epochs/3.pt"
    assert (back / "last.pt").read_text() == "three"
    assert not (back / "epochs/2.pt").exists()


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    """Links to each other, to their own folder and to the root are packed once."""
    room = make_room(tmp_path, {"d/a": "x", "other": "x"})
    (room / "d/self").symlink_to("../d")
    (room / "d/root").symlink_to("..")

    back = restored(tmp_path, packed(room, "d"))

    assert os.readlink(back / "d/self") == "."
    assert not (back / "other").exists()


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Neither order nor owner nor the time of packing is part of an archive."""
    room = make_room(tmp_path, {"b": "2", "a": "1"})

    first, second = packed(room, "*"), packed(room, "b", "a")

    assert first == second
    assert first.sha256 == hashlib.sha256((tmp_path / "snapshot").read_bytes()).hexdigest()
    assert first.size == (tmp_path / "snapshot").stat().st_size


def test_detours_of_links_inside_are_followed(tmp_path: Path) -> None:
    """A link may lead through other links, and up, as long as it stays inside; one without an end leads nowhere."""
    room = make_room(tmp_path, {"runs/1/w.pt": "one", "d/sub/x": "x"})
    (room / "newest").symlink_to(room / "runs/1")
    (room / "d/best").symlink_to("sub/../../newest/w.pt")
    (room / "d/dangling").symlink_to("nothing/yet")
    (room / "d/sideways").symlink_to("../newest/../1")
    (room / "d/ping").symlink_to("pong")
    (room / "d/pong").symlink_to("ping")

    back = restored(tmp_path, packed(room, "d"))

    assert (back / "d/best").read_text() == "one"
    assert sorted(os.listdir(back / "d")) == ["best", "dangling", "sub"]


# --- what a payload does to be given what is not its own

_SWAP_FOREVER = """
import ctypes, os, sys
rename, (one, other) = ctypes.CDLL(None, use_errno=True).renameat2, map(os.fsencode, sys.argv[1:])
assert rename(-100, one, -100, other, 2) == 0, os.strerror(ctypes.get_errno())  # 2: RENAME_EXCHANGE
print("swapping", flush=True)
while True:
    rename(-100, one, -100, other, 2)
"""


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Another process that exchanges two names, as fast as it can."""
    command = [sys.executable, "-c", _SWAP_FOREVER, str(one), str(other)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                pytest.skip("this system cannot exchange two names")
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("pattern", ["out", "out/folder/file"])
def test_a_folder_swapped_for_a_link_gives_nothing_away(tmp_path: Path, pattern: str) -> None:
    """Whenever the swap happens, files outside are neither listed nor packed."""
    room = make_room(tmp_path, {"out/folder/file": "public", "../outside/file": "secret"})
    (room / "out/link").symlink_to(tmp_path / "outside")
    secret = (tmp_path / "outside/file").stat().st_ino
    n_packed, end = 0, time.monotonic() + 2

    with swapping(room / "out/folder", room / "out/link"):
        while time.monotonic() < end:
            entries = list_settled(room, [pattern], sleep=lambda _: None).entries
            assert secret not in {entry.inode for entry in entries.values()}
            with suppress(Restless):
                snapshot = pack(
                    room, [pattern], tmp_path / "snapshot", form=ArchiveFormat.TAR, attempts=1, sleep=lambda _: None
                )
                n_packed += snapshot is not None
                assert snapshot is None or b"secret" not in (tmp_path / "snapshot").read_bytes()

    assert n_packed


@pytest.mark.parametrize("other", ["link to a folder", "link to a file", "pipe", "another file"])
def test_only_the_very_file_that_was_listed_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """What takes its place between the look and the opening is not read, and is waited for by nobody."""
    room = make_room(tmp_path, {"out/file": "public", "../outside/file": "secret"})

    def look_and_swap(*args: Any) -> Any:
        listing = list_settled(*args)
        swap()
        return listing

    def swap() -> None:
        (room / "out").rename(tmp_path / "moved")
        if other == "link to a folder":
            (room / "out").symlink_to(tmp_path / "outside")
            return
        (room / "out").mkdir()
        if other == "link to a file":
            (room / "out/file").symlink_to(tmp_path / "outside/file")
        elif other == "pipe":
            os.mkfifo(room / "out/file")
        else:
            (room / "out/file").write_text("secret")

    monkeypatch.setattr(packing, "list_settled", look_and_swap)

    with pytest.raises(Restless) as caught:
        pack(room, ["out"], tmp_path / "snapshot", attempts=1)

    assert list(caught.value.names) == ["out/file"]
    assert not (tmp_path / "snapshot").exists()


def test_names_too_long_for_a_path_are_an_error(tmp_path: Path) -> None:
    """What is packed can be unpacked: a payload may build deeper than any path reaches."""
    room = make_room(tmp_path, {})
    here = os.open(room, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=here)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)

    with pytest.raises(OSError, match="File name too long"):
        pack(room, ["*"], tmp_path / "snapshot")


@pytest.fixture
def other_device(tmp_path: Path) -> Iterator[Path]:
    """A folder in the room that is another file system."""
    folder = make_room(tmp_path, {"out/a": "x"}) / "out/mounted"
    folder.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=False).returncode:
        pytest.skip("only root can mount, and not everywhere")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_what_is_on_another_device_is_left_out(tmp_path: Path, other_device: Path) -> None:
    """Like a device itself, in a folder as by its own name; a link to it is kept alone."""
    (other_device / "sub").mkdir()
    (other_device / "sub/file").write_text("x")
    (tmp_path / "room/link").symlink_to("out/mounted/sub")

    found = names(tmp_path / "room", "out", "out/mounted/sub/*", "out/mounted/sub/file", "link")

    assert found == ["link", "out", "out/a"]


def test_the_root_may_be_on_another_device(tmp_path: Path, other_device: Path) -> None:
    """A working directory that is a file system of its own is packed whole."""
    (other_device / "sub").mkdir()
    (other_device / "sub/file").write_text("x")

    packed(tmp_path / "room", "out")
    snapshot = pack(other_device, ["*"], tmp_path / "snapshot", form=ArchiveFormat.TAR)

    assert isinstance(snapshot, Packed)
    assert list(snapshot.at_rest) == ["sub", "sub/file"]


# --- at rest


def test_an_unchanged_snapshot_is_not_packed_again(tmp_path: Path) -> None:
    """The fingerprint of the last one saves reading and sending all."""
    room = make_room(tmp_path, {"a": "1"})
    before = packed(room, "a").fingerprint

    again = pack(room, ["a"], tmp_path / "again", before=before)

    assert again == Unchanged(before)
    assert not (tmp_path / "again").exists()


def test_a_change_is_packed_again(tmp_path: Path) -> None:
    """Contents of the same size, and even of the same time, are other contents."""
    room = make_room(tmp_path, {"a": "1"})
    before = packed(room, "a").fingerprint
    times = (room / "a").stat()
    (room / "a").write_text("2")
    os.utime(room / "a", ns=(times.st_atime_ns, times.st_mtime_ns))

    again = pack(room, ["a"], tmp_path / "again", before=before)

    assert isinstance(again, Packed)


def touch_during_reads(monkeypatch: pytest.MonkeyPatch, change: Any, n_times: int) -> list[int]:
    """Let *change* happen while a file is read, in the first *n_times* tries."""
    calls: list[int] = []
    real = packing._Exactly.read  # noqa: SLF001 - the only moment at which a race can be made certain

    def read(self: Any, n_bytes: int) -> bytes:
        calls.append(n_bytes)
        if len(calls) <= n_times:
            change()
        return real(self, n_bytes)

    monkeypatch.setattr(packing._Exactly, "read", read)  # noqa: SLF001
    return calls


def test_a_file_that_changes_is_packed_once_it_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of half-written files is thrown away and tried again after a pause."""
    room = make_room(tmp_path, {"a": "old"})
    touch_during_reads(monkeypatch, lambda: (room / "a").write_text("newer"), 1)
    naps: list[float] = []

    snapshot = packed(room, "a", sleep=naps.append, pause_seconds=7)

    assert naps.count(7) == 1
    assert (restored(tmp_path, snapshot) / "a").read_text() == "newer"


@pytest.mark.parametrize("change", ["grows", "vanishes", "shrinks", "appears"])
def test_files_that_never_rest_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """After the last try there is an error, and no archive."""
    room = make_room(tmp_path, {"out/a": "old", "out/b": "x"})
    counter = iter(range(100))

    def happen() -> None:
        count = next(counter)
        if change == "grows":
            (room / "out/a").write_text("x" * (10 + count))
        elif change == "shrinks":
            os.truncate(room / "out/b", 0)
        elif change == "vanishes":
            (room / "out/b").unlink(missing_ok=True)
        else:
            (room / f"out/new{count}").write_text("x")

    def restore(_seconds: float) -> None:
        (room / "out/b").write_text("x")

    touch_during_reads(monkeypatch, happen, 100)

    with pytest.raises(Restless) as caught:
        pack(room, ["out"], tmp_path / "snapshot", attempts=3, sleep=restore)

    assert caught.value.names
    assert "kept changing" in str(caught.value)
    assert not (tmp_path / "snapshot").exists()


def test_a_full_disk_leaves_no_half_archive(tmp_path: Path) -> None:
    """The kernel's error goes to the caller, the room back to the disk."""
    room = make_room(tmp_path, {"a": "x" * 100_000})

    with no_file_above(50_000), pytest.raises(OSError, match="File too large"):
        pack(room, ["a"], tmp_path / "snapshot", form=ArchiveFormat.TAR)
    assert not (tmp_path / "snapshot").exists()


def test_a_disk_that_fills_while_unpacking_changes_nothing(tmp_path: Path) -> None:
    """Until all files are there, the folder stays as it was."""
    room = make_room(tmp_path, {"a": "new", "b": "x" * 100_000})
    snapshot = packed(room, "*")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").write_text("old")

    with no_file_above(50_000), pytest.raises(OSError, match="File too large"):
        unpack(tmp_path / "snapshot", tmp_path / "root", snapshot.sha256, snapshot.size)
    assert (tmp_path / "root/a").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["room", "root", "snapshot"]


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    """A file of 64 MiB passes through blocks of one."""
    room = make_room(tmp_path, {})
    with open(room / "weights", "wb") as file:
        file.truncate(64 * 2**20)
        file.write(b"begin")

    tracemalloc.start()
    snapshot = packed(room, "weights")
    back = restored(tmp_path, snapshot)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (back / "weights").stat().st_size == 64 * 2**20
    assert peak < 16 * 2**20


# --- compression


def test_zstd_is_used_where_there_is_one(tmp_path: Path) -> None:
    """With zstandard an archive is smaller, and is read again."""
    pytest.importorskip("zstandard")
    room = make_room(tmp_path, {"a": "x" * 10**6})

    snapshot = packed(room, "a", form=None)

    assert snapshot.format is ArchiveFormat.TAR_ZSTD
    assert snapshot.size < 10**5
    assert (restored(tmp_path, snapshot) / "a").read_text() == "x" * 10**6


def test_without_zstd_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive from a machine with zstd says what this one lacks."""
    monkeypatch.setattr(compression, "find_zstd", lambda: None)
    path = tmp_path / "foreign"
    path.write_bytes(b"\x28\xb5\x2f\xfd whatever")

    with pytest.raises(Unreadable, match="pip install zstandard"):
        unpack(path, tmp_path / "root", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    assert best_format() is ArchiveFormat.TAR


def test_gzip_is_read(tmp_path: Path) -> None:
    """Whoever packed with gzip is understood."""
    room = make_room(tmp_path, {"a": "content"})
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(room / "a", "a")
    content = (tmp_path / "a.tar.gz").read_bytes()

    unpack(tmp_path / "a.tar.gz", tmp_path / "root", hashlib.sha256(content).hexdigest(), len(content))

    assert (tmp_path / "root/a").read_text() == "content"


# --- unpacking


@pytest.mark.parametrize("harm", ["truncated", "flipped"])
def test_damage_is_seen_before_anything_is_written(tmp_path: Path, harm: str) -> None:
    """Size and checksum are looked at first."""
    snapshot = packed(make_room(tmp_path, {"a": "content"}), "a")
    content = bytearray((tmp_path / "snapshot").read_bytes())
    content[520] ^= 1
    (tmp_path / "snapshot").write_bytes(content[:-1] if harm == "truncated" else content)

    with pytest.raises(Damaged, match="fetch it again"):
        unpack(tmp_path / "snapshot", tmp_path / "new", snapshot.sha256, snapshot.size)
    assert not (tmp_path / "new").exists()


def test_an_archive_wins_over_what_is_there(tmp_path: Path) -> None:
    """Files, folders and links are replaced by what was saved; others stay, and a link is not written through."""
    room = make_room(tmp_path, {"same": "saved", "was-folder": "saved", "deep/file": "saved", "linked/file": "saved"})
    snapshot = packed(room, "*")
    root = tmp_path / "restored"
    for folder in ("was-folder/x", "deep"):
        (root / folder).mkdir(parents=True)
    for name in ("same", "deep/other", "was-folder/x/y"):
        (root / name).write_text("shipped")
    (tmp_path / "outside").mkdir()
    (root / "linked").symlink_to(tmp_path / "outside")

    unpack(tmp_path / "snapshot", root, snapshot.sha256, snapshot.size)

    assert [(root / name).read_text() for name in ("same", "was-folder", "deep/file", "linked/file")] == ["saved"] * 4
    assert (root / "deep/other").read_text() == "shipped"
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize(
    "members",
    [
        [member("../escape")],
        [member("a/../../escape")],
        [member("/tmp/gridtune-escape")],  # noqa: S108 - must not be written
        [member("link", tarfile.SYMTYPE, ".."), member("link/escape")],
        [member("link", tarfile.SYMTYPE, "/tmp")],  # noqa: S108
        [member("link", tarfile.SYMTYPE, "../outside")],
        [member("d/link", tarfile.SYMTYPE, "a/../../..")],
        [member("d/l", tarfile.SYMTYPE, ".."), member("e", tarfile.SYMTYPE, "d/l/..")],
        [member("l", tarfile.SYMTYPE, "."), member("l/m", tarfile.SYMTYPE, "..")],
        [member("hard", tarfile.LNKTYPE, "../outside")],
        [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("null", tarfile.CHRTYPE)],
        [member("disk", tarfile.BLKTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("twice"), member("twice")],
        [member(".")],
    ],
    ids=[
        "up", "up again", "absolute", "through a link", "absolute link", "link out", "link by detours",
        "chain of links", "link behind a link", "hard link", "absolute hard link", "character device", "block device",
        "pipe", "the same name twice", "the root itself",
    ],
)  # fmt: skip
def test_no_archive_writes_elsewhere(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    """Whatever a member is called or points to, all of it is refused and nothing is left."""
    path, sha256, size = forged(tmp_path, member("good"), *members)

    with pytest.raises(Unsafe):
        unpack(path, tmp_path / "deep" / "root", sha256, size)
    assert list((tmp_path / "deep").rglob("*")) == [tmp_path / "deep/root"]
    assert sorted(os.listdir(tmp_path)) == ["deep", "forged.tar"]


def test_setuid_and_other_peoples_rights_are_dropped(tmp_path: Path) -> None:
    """A restored file belongs to this user alone."""
    path, sha256, size = forged(tmp_path, member("program", mode=0o6777))

    unpack(path, tmp_path / "root", sha256, size)

    assert (tmp_path / "root/program").stat().st_mode & 0o7777 == 0o700


def test_no_archive_at_all(tmp_path: Path) -> None:
    """The right bytes of something else are an error that says so."""
    path = tmp_path / "text"
    path.write_text("hello" * 1000)

    with pytest.raises(Damaged, match="is no archive") as caught:
        unpack(path, tmp_path / "root", hashlib.sha256(path.read_bytes()).hexdigest(), 5000)
    assert isinstance(caught.value, ArchiveError)
