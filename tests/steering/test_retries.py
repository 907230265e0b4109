"""What a try means for its point, who may try next, which failures are alike, and when a host is set aside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_common.protocol import FailureCause
from gridtune_common.taskfile import Retry
from gridtune_steering.services import likeness, retries, setting_aside
from gridtune_steering.services.retries import Blame, Place, Tally, Trouble
from gridtune_steering.services.setting_aside import Miss, Streak

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PATIENCE = timedelta(seconds=120)
HERE, BESIDE, AFAR = Place("cern", "a"), Place("cern", "b"), Place("bnl", "c")


def trouble(blame: Blame = Blame.PAYLOAD, place: Place = HERE, at: datetime = NOW) -> Trouble:
    """A try that did not end well."""
    return Trouble(place, blame, at)


def n_tries(blame: Blame, rules: Retry) -> int:
    """How many tries of one kind a point survives, and one."""
    tally = Tally()
    for number in range(1, 1000):
        verdict = retries.after_trouble(tally, trouble(blame), rules, "reason")
        if verdict.has_failed:
            return number
        tally = verdict.tally
    raise AssertionError("it never failed")


@pytest.mark.parametrize("cause", FailureCause)
def test_only_nodes_are_to_blame_for_what_is_theirs(cause: FailureCause) -> None:
    """What the training did is the training's, what the node did is the node's."""
    is_nodes = cause in {FailureCause.INFRASTRUCTURE, FailureCause.START}

    assert retries.blame_for(cause) is (Blame.INFRASTRUCTURE if is_nodes else Blame.PAYLOAD)


@pytest.mark.parametrize(("blame", "tries"), [(Blame.PAYLOAD, 2), (Blame.LOST, 3), (Blame.INFRASTRUCTURE, 4)])
def test_each_kind_has_its_own_limit(blame: Blame, tries: int) -> None:
    """The task file says how many."""
    assert n_tries(blame, Retry(attempts=2, lost=3, infrastructure=4)) == tries


def test_kinds_do_not_add_up() -> None:
    """Two lost workers and four bad nodes leave a training all its tries."""
    tally = Tally()
    for blame in [Blame.LOST] * 2 + [Blame.INFRASTRUCTURE] * 4 + [Blame.PAYLOAD] * 2:
        verdict = retries.after_trouble(tally, trouble(blame), Retry(), "reason")
        assert not verdict.has_failed
        tally = verdict.tally

    assert (tally.attempts, tally.lost, tally.infrastructure, tally.own) == (8, 2, 4, 2)
    assert retries.after_trouble(tally, trouble(Blame.PAYLOAD), Retry(), "reason").has_failed


def test_what_cannot_help_is_not_tried() -> None:
    """A permanent failure is the last."""
    assert retries.after_trouble(Tally(), trouble(), Retry(), "reason", permanent=True).has_failed


def test_a_loss_that_was_none_is_taken_back() -> None:
    """As if nothing had been."""
    before = Tally(attempts=1, troubles=(trouble(),))
    after = retries.after_trouble(before, trouble(Blame.LOST), Retry(), "reason").tally

    assert after.without_last_loss() == before


def test_a_point_that_stands_still_fails_with_advice() -> None:
    """So many stretches in a row; one that gets further begins the count anew."""
    tally = Tally()
    for has_advanced in (False, False, True, False, False):
        verdict = retries.after_stretch(tally, Retry(stalled=3), has_advanced=has_advanced)
        assert not verdict.has_failed
        tally = verdict.tally

    verdict = retries.after_stretch(tally, Retry(stalled=3), has_advanced=False)

    assert verdict.has_failed
    assert verdict.message.startswith("3 stretches in a row ended before the training got any further")
    assert "walltime" in verdict.message
    assert verdict.tally.attempts == 0


@pytest.mark.parametrize(
    ("others", "may"),
    [([], True), ([HERE], True), ([HERE, BESIDE], False), ([AFAR], False)],
    ids=["nobody", "itself", "another host", "another site"],
)
def test_a_host_that_failed_a_point_leaves_it_to_others_if_there_are_any(others: list[Place], may: bool) -> None:
    """It gets the point back at once if nobody else is there."""
    assert retries.may_try([trouble()], HERE, others, now=NOW, patience=PATIENCE) is may


def test_another_site_goes_before_another_host() -> None:
    """What one site lacks, its other hosts lack most often too."""
    assert not retries.may_try([trouble()], BESIDE, [HERE, BESIDE, AFAR], now=NOW, patience=PATIENCE)
    assert retries.may_try([trouble()], AFAR, [HERE, BESIDE, AFAR], now=NOW, patience=PATIENCE)


def test_a_nodes_first_fault_is_forgiven() -> None:
    """Once more on the same node, then on another."""
    once, twice = [trouble(Blame.INFRASTRUCTURE)], [trouble(Blame.INFRASTRUCTURE)] * 2

    assert retries.may_try(once, HERE, [HERE, AFAR], now=NOW, patience=PATIENCE)
    assert not retries.may_try(twice, HERE, [HERE, BESIDE], now=NOW, patience=PATIENCE)
    assert retries.may_try(twice, BESIDE, [HERE, BESIDE, AFAR], now=NOW, patience=PATIENCE)


places = st.builds(Place, st.sampled_from(["cern", "bnl", ""]), st.sampled_from("abcd"))
troubles = st.lists(st.builds(Trouble, places, st.sampled_from(Blame), st.just(NOW)), max_size=8)


@given(troubles, st.lists(places, min_size=1, max_size=6))
def test_some_place_may_always_try(history: list[Trouble], there: list[Place]) -> None:
    """However often a point failed wherever, it waits for nobody who is not there: no point starves."""
    assert any(retries.may_try(history, place, there, now=NOW, patience=PATIENCE) for place in there)


@given(troubles, places, st.lists(places, max_size=6))
def test_no_point_waits_for_ever(history: list[Trouble], asker: Place, others: list[Place]) -> None:
    """After its patience anyone may try, whoever else is there."""
    assert retries.may_try(history, asker, others, now=NOW + PATIENCE, patience=PATIENCE)


def test_points_that_nobody_takes_do_not_feed_those_who_wait() -> None:
    """A worker that may not have a point waits for a new one; one that may, does not."""
    failed_here = [trouble()]

    def left(waiting: list[Place]) -> int:
        return retries.n_untakeable([failed_here], waiting, [HERE, AFAR], now=NOW, patience=PATIENCE)

    assert (left([HERE]), left([AFAR]), left([HERE, AFAR])) == (1, 0, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("No module named 'torch'", "No module named 'torch'"),
        ("cannot open /scratch/job123/data.h5", "cannot open /scratch/job99/x/data.h5"),
        ("CUDA error at 0x7f3a1c", "CUDA error at 0xdeadbeef"),
        ("loss is 1.5e-07 at step 12", "loss is -3 at step 7"),
        ("unknown optimizer adam", "unknown optimizer sgd"),
    ],
    ids=["equal", "paths", "addresses", "numbers", "values"],
)
def test_failures_are_alike_whatever_their_values(one: str, other: str) -> None:
    """What differs from point to point does not make a failure another one."""
    first = likeness.likeness(FailureCause.EXIT_CODE, 1, one, {"kind": "adam", "rate": 0.1})
    second = likeness.likeness(FailureCause.EXIT_CODE, 1, other, {"kind": "sgd", "rate": 0.2})

    assert first == second


@pytest.mark.parametrize(
    ("cause", "code", "words"),
    [
        (FailureCause.SIGNAL, 1, "no torch"),
        (FailureCause.EXIT_CODE, 2, "no torch"),
        (FailureCause.EXIT_CODE, 1, "no numpy"),
    ],
)
def test_failures_differ_by_cause_code_and_words(cause: FailureCause, code: int, words: str) -> None:
    """Each of the three tells failures apart."""
    assert likeness.likeness(cause, code, words, {}) != likeness.likeness(FailureCause.EXIT_CODE, 1, "no torch", {})


def test_the_last_words_are_what_was_printed_last() -> None:
    """Unless the cause has a message of its own that says more."""
    output = "Traceback\nKeyError: 'x'\n\n"

    assert likeness.last_words(FailureCause.EXIT_CODE, "ended with exit code 1", output) == "KeyError: 'x'"
    assert likeness.last_words(FailureCause.REPORTED, "no data", output) == "no data"
    assert likeness.last_words(FailureCause.TIMEOUT, "ran too long", "") == "ran too long"


def test_a_host_is_suspect_after_four_points_within_an_hour() -> None:
    """The same point again is the point's fault, and what is long ago is forgotten."""
    same = slow = fast = Streak()
    for number in range(4):
        same = same.with_miss(Miss("t", 0, NOW))
        slow = slow.with_miss(Miss("t", number, NOW + number * timedelta(minutes=25)))
        fast = fast.with_miss(Miss("t", number, NOW + number * timedelta(minutes=15)))

    assert [setting_aside.is_suspect(streak, 0) for streak in (same, slow, fast)] == [False, False, True]


def test_a_host_that_comes_back_has_one_try() -> None:
    """And is set aside for longer each time."""
    lengths = [setting_aside.length(times) for times in range(5)]

    assert setting_aside.is_suspect(Streak().with_miss(Miss("t", 0, NOW)), 1)
    assert lengths == sorted(lengths)
    assert lengths[:3] == [timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1)]


def test_a_streak_survives_its_column() -> None:
    """What was written is read again."""
    streak = Streak().with_miss(Miss("t", 3, NOW))

    assert Streak.read(streak.write()) == streak
