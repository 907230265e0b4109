"""What a payload printed: packed, and followed while it grows."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_evaluation.logs import LIMIT, Tail, compress
from payload_scripts import payload_file


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An output's place."""
    return tmp_path / "output.log"


def packed(log: Path, limit: int = LIMIT) -> bytes:
    """What is in a packed output."""
    compress(payload_file(log), log.with_suffix(".gz"), limit)
    return gzip.decompress(log.with_suffix(".gz").read_bytes())


# --- packing ------------------------------------------------------------------------------------------------


def test_an_output_is_packed_whole(log: Path) -> None:
    """Nothing is left out of a short one."""
    log.write_bytes(b"epoch 1\n" * 1000)

    assert packed(log) == log.read_bytes()


def test_the_same_output_gives_the_same_bytes(log: Path, tmp_path: Path) -> None:
    """Neither the time nor the name of a file is in its packed form."""
    log.write_bytes(b"hello")

    compress(payload_file(log), tmp_path / "a.gz")
    os.utime(log, (0, 0))
    compress(payload_file(log), tmp_path / "b.gz")

    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_of_a_long_output_both_ends_are_kept(log: Path) -> None:
    """A line says how many bytes are missing between them."""
    log.write_bytes(b"a" * 50 + b"b" * 1000 + b"c" * 50)

    assert packed(log, 100) == b"a" * 50 + "\n[… 1000 bytes left out …]\n".encode() + b"c" * 50


def test_characters_are_not_cut_in_two(log: Path) -> None:
    """Both ends of a long output are text if all of it is."""
    log.write_text("é" * 100)

    text = packed(log, 50).decode()

    assert text == "é" * 13 + "\n[… 150 bytes left out …]\n" + "é" * 12


def test_an_empty_output_is_an_output(log: Path) -> None:
    """A payload that printed nothing has an empty log."""
    log.touch()

    assert packed(log, 100) == b""


def test_no_output_is_an_error(log: Path) -> None:
    """What is not there cannot be packed."""
    with pytest.raises(FileNotFoundError):
        compress(payload_file(log), log.with_suffix(".gz"))


# --- following ----------------------------------------------------------------------------------------------


def test_an_output_is_followed(log: Path) -> None:
    """Each piece begins where the one before has ended."""
    tail = Tail(payload_file(log))
    log.write_text("epoch 1\n")
    first = tail.since(0, 1000)
    with log.open("a") as file:
        file.write("epoch 2\nepoch")
    second = tail.since(first.offset, 1000)

    assert (first.text, second.text) == ("epoch 1\n", "epoch 2\nepoch")
    assert tail.since(second.offset, 1000).text == ""


def test_what_is_not_there_yet_is_empty(log: Path) -> None:
    """A payload that has not started has printed nothing."""
    assert Tail(payload_file(log)).since(0, 10).text == ""


def test_long_pieces_end_with_a_line(log: Path) -> None:
    """What is cut by the limit is cut between lines if there are any."""
    log.write_text("epoch 1\nepoch 2\nepoch 3\n")
    tail = Tail(payload_file(log))

    first = tail.since(0, 20)

    assert first.text == "epoch 1\nepoch 2\n"
    assert tail.since(first.offset, 20).text == "epoch 3\n"


def test_half_a_character_waits(log: Path) -> None:
    """A character that is written in two goes is read in one."""
    tail = Tail(payload_file(log))
    log.write_bytes(b"caf\xc3")
    first = tail.since(0, 100)
    with log.open("ab") as file:
        file.write(b"\xa9")

    assert first.text == "caf"
    assert tail.since(first.offset, 100).text == "é"


def test_what_is_no_text_is_replaced(log: Path) -> None:
    """Bytes that are no UTF-8, and zeros, which databases refuse, do not stop the view."""
    log.write_bytes(b"a\xff\x00b\n")

    assert Tail(payload_file(log)).since(0, 100).text == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b\n"


@given(st.text(alphabet="aé€😀\n"), st.integers(4, 30))
def test_all_pieces_together_are_the_output(tmp_path_factory: pytest.TempPathFactory, text: str, limit: int) -> None:
    """Whatever the limit, nothing is lost, doubled or broken."""
    log = tmp_path_factory.mktemp("log") / "output.log"
    log.write_bytes(text.encode())
    tail, pieces, offset = Tail(payload_file(log)), list[str](), 0

    while offset < len(text.encode()):
        piece = tail.since(offset, limit)
        assert piece.offset > offset
        pieces.append(piece.text)
        offset = piece.offset

    assert "".join(pieces) == text


@pytest.mark.parametrize("longer", [False, True])
def test_a_truncated_output_begins_anew(log: Path, longer: bool) -> None:
    """A payload that empties its output and prints on is read from the new beginning, however much it printed."""
    tail = Tail(payload_file(log))
    log.write_text("epoch 1\n")
    offset = tail.since(0, 100).offset
    log.write_text("again\n" * (10 if longer else 1))

    piece = tail.since(offset, 100)

    assert piece.restarted
    assert piece.text == log.read_text()
    assert not tail.since(piece.offset, 100).restarted


def test_a_replaced_output_begins_anew(log: Path) -> None:
    """Rotation is noticed, too, also while there is no new file yet."""
    tail = Tail(payload_file(log))
    log.write_text("epoch 1\n")
    offset = tail.since(0, 100).offset
    log.rename(log.with_suffix(".1"))
    between = tail.since(offset, 100)
    log.write_text("epoch 1\nepoch 2\n")

    assert between.restarted
    assert tail.since(offset, 100).text == "epoch 1\nepoch 2\n"
