"""Whatever a payload makes of its files, its agent neither follows it out of the working directory nor waits for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridtune_common.protocol import Fail, FailureCause, Tell
from gridtune_evaluation.untrusted import PayloadFile, open_plain, read_plain, touch, unlink
from payload_scripts import evaluate, fail_of, result, steps, tell_of


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A working directory beside a secret."""
    (tmp_path / "secret").write_text("s3cr3t")
    (tmp_path / "room" / "control").mkdir(parents=True)
    return tmp_path / "room"


def test_plain_files_are_read(room: Path) -> None:
    """Also below, and through links that lead to a file inside."""
    (room / "control" / "a").write_text("content")
    (room / "link").symlink_to("control/a")
    (room / "control" / "back").symlink_to("../link")

    assert read_plain(room, room / "control" / "a", 4) == b"cont"
    assert read_plain(room, room / "control" / "back", 100) == b"content"
    assert PayloadFile(room, room / "link").status().st_size == 7


@pytest.mark.parametrize(
    "aim", ["../secret", "/etc/passwd", "/proc/self/environ", "control/../../secret", "self", "/dev/zero"]
)
def test_links_that_lead_out_are_no_files(room: Path, aim: str) -> None:
    """Wherever they stand; nor is a link to itself."""
    (room / "self").symlink_to(aim)

    with pytest.raises(FileNotFoundError, match="there is no plain file"):
        open_plain(room, room / "self")


def test_folders_that_are_links_are_not_entered(room: Path) -> None:
    """Neither to read, nor to write, nor to remove."""
    (room / "control").rmdir()
    (room / "control").symlink_to("..")
    stop = room / "control" / "stop"

    for act in (
        lambda: open_plain(room, room / "control" / "secret"),
        lambda: touch(room, stop),
        lambda: unlink(room, stop),
    ):
        with pytest.raises(FileNotFoundError):
            act()
    assert not (room.parent / "stop").exists()


def test_nothing_is_made_where_a_link_leads(room: Path) -> None:
    """A name that is taken stays as it is."""
    (room / "control" / "stop").symlink_to("../../made")

    touch(room, room / "control" / "stop")

    assert not (room.parent / "made").exists()


def test_pipes_do_not_hold_anybody_up(room: Path) -> None:
    """A pipe is no file."""
    os.mkfifo(room / "pipe")

    with pytest.raises(FileNotFoundError):
        open_plain(room, room / "pipe")


@pytest.mark.parametrize("name", ["output.json", "output.log", ".gridtune/reports.jsonl", ".gridtune/checkpoint"])
def test_a_payload_that_leaves_pipes(tmp_path: Path, name: str) -> None:
    """It fails, or is done, like any other; no slot waits for it."""
    word, _ = evaluate(tmp_path, steps(f"rm -f {name}", f"mkfifo {name}", "exit 3"))

    assert isinstance(word, Fail)
    assert word.cause is FailureCause.EXIT_CODE


def test_an_output_that_is_a_link(tmp_path: Path) -> None:
    """The agent does not tell what its user alone can read."""
    (tmp_path / "secret").write_text("s3cr3t")

    failed = fail_of(tmp_path / "work", f"rm output.log; ln -s {tmp_path}/secret output.log; exit 3")

    assert "s3cr3t" not in failed.output_tail + failed.message


def test_a_result_that_is_a_link_inside(tmp_path: Path) -> None:
    """As trainings leave them: the newest of many."""
    told = tell_of(tmp_path, f"mkdir out; {result('out/last.json', loss=2)}; ln -s out/last.json output.json")

    assert isinstance(told, Tell)
    assert told.metrics == {"loss": 2}


def test_a_result_that_never_ends(tmp_path: Path) -> None:
    """Neither is a device read, nor a file of any size."""
    assert fail_of(tmp_path / "a", "ln -s /dev/zero output.json").cause is FailureCause.NO_RESULT
    large = fail_of(tmp_path / "b", "head -c 20000000 /dev/zero > output.json")

    assert large.cause is FailureCause.INVALID_RESULT
    assert "larger than" in large.message
