"""Durations and sizes with their units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_common import units
from gridtune_common.taskfile.values import MAX_SECONDS, write_bytes, write_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("5m", 300.0), ("5min", 300.0), ("1h30m", 5400.0), ("2 d", 172800.0), ("0.5h", 1800.0)],
)
def test_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    """A duration is the sum of its parts, each in its unit."""
    assert units.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 weeks", "-5m", "5m!", "1e3s", "0s", "0h0m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """The message quotes what was written."""
    with pytest.raises(ValueError, match=f"^'{text}' is"):
        units.seconds(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("2kB", 2000), ("512MiB", 512 * 2**20), ("1.5 GiB", 3 * 2**29), (" 1TB ", 10**12)],
)
def test_sizes_are_read_in_bytes(text: str, size: int) -> None:
    """Binary and decimal units are told apart."""
    assert units.n_bytes(text) == size


@pytest.mark.parametrize("text", ["", "4", "4G", "4gib", "-1GiB", "0B", "0.1B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """The message quotes what was written."""
    with pytest.raises(ValueError, match=f"^'{text}' is"):
        units.n_bytes(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0.25, "0.2s"), (42.4, "42s"), (59.7, "1m"), (5400, "1h30m"), (86400, "1d"), (90061, "1d1h"), (10, "10s")],
)
def test_durations_are_shown_in_at_most_two_units(duration: float, text: str) -> None:
    """People need no seconds beside days."""
    assert units.show_seconds(duration) == text


@given(st.floats(min_value=0, max_value=MAX_SECONDS, exclude_min=True))
def test_a_written_duration_reads_the_same(duration: float) -> None:
    """No duration loses anything on its way through a document."""
    assert units.seconds(write_seconds(duration)) == duration


@given(st.integers(1, 2**53))
def test_a_written_size_reads_the_same(size: int) -> None:
    """No size loses anything on its way through a document."""
    assert units.n_bytes(write_bytes(size)) == size
