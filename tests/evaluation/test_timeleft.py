"""How the end of a worker's time is shared out."""

from __future__ import annotations

import time

import pytest

from gridtune_evaluation.timeleft import TimeLeft
from gridtune_evaluation.walltime import Deadline


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


def lasting(seconds: float, *savings: float) -> tuple[TimeLeft, Clock]:
    """So much is left, and checkpoints took so long."""
    clock = Clock()
    left = TimeLeft(Deadline(time.time() + seconds, "test"), clock)
    for saving in savings:
        left.note_saving(saving)
    return left, clock


def test_grace_saving_and_the_last_word_are_kept_free() -> None:
    """What checkpoints take has a margin of its own."""
    left, _ = lasting(3600.0, 10.0)

    assert left.margin(30.0) == pytest.approx(30 + 15 + 2)
    assert left.usable(30.0) == pytest.approx(3600 - 47, abs=0.1)


def test_one_slow_checkpoint_is_outvoted() -> None:
    """It may have met an outage."""
    left, _ = lasting(3600.0, 10.0, 2000.0, 10.0)

    assert left.margin(0.0) == pytest.approx(17.0)


def test_a_payload_gets_half_of_a_short_time_at_least() -> None:
    """However long its grace."""
    left, _ = lasting(20.0)

    assert left.usable(600.0) == pytest.approx(10.0, abs=0.1)


def test_the_kill_leaves_time_for_the_checkpoint() -> None:
    """Grace is cut where both do not fit."""
    plenty, clock = lasting(3600.0, 10.0)
    assert plenty.end_of_grace(30.0) == pytest.approx(clock.now + 30)

    short, clock = lasting(40.0, 10.0)
    assert short.end_of_grace(30.0) == pytest.approx(clock.now + 40 - 15 - 2, abs=0.1)

    shorter, clock = lasting(10.0, 10.0)
    assert shorter.end_of_grace(30.0) == pytest.approx(clock.now + 5, abs=0.1)
    assert shorter.end_of_saving() == pytest.approx(clock.now + 8, abs=0.1)


def test_pauses_end_with_the_time() -> None:
    """Nobody sleeps into the end."""
    left, clock = lasting(30.0)
    assert left.at_most(10.0) == 10.0
    assert left.at_most(300.0) == pytest.approx(28.0, abs=0.1)
    assert not left.is_over

    clock.now += 29.5

    assert left.is_over
    assert left.at_most(300.0) == 0.0


def test_without_an_end_there_is_no_hurry() -> None:
    """But a checkpoint at SIGTERM is not waited for for ever."""
    clock = Clock()
    left = TimeLeft(None, clock)

    assert (left.seconds, left.usable(30.0), left.is_over, left.at_most(300.0)) == (None, None, False, 300.0)
    assert left.end_of_grace(30.0) == clock.now + 30
    assert left.end_of_saving() == clock.now + 30
