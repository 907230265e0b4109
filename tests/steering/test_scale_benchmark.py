"""The benchmarks of the service at scale: what they count, compare and write into the database."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from gridtune_common.protocol import Point, PointState
from gridtune_steering.services import records
from service_bench import OPERATOR, Bench

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed

from benchmarks.quality.synthetic import FAMILIES  # noqa: E402
from benchmarks.scale import worker  # noqa: E402
from benchmarks.scale.asktell_report import targets  # noqa: E402
from benchmarks.scale.freshness import Game, Played, Seen, missed, ratio_of  # noqa: E402
from benchmarks.scale.history import preload  # noqa: E402
from benchmarks.scale.measured import Case, Measured, quantile  # noqa: E402
from benchmarks.scale.seats import Notes  # noqa: E402
from benchmarks.scale.tally import Tally, deal  # noqa: E402


class SleepySeat:
    """A worker whose asks take 20 ms."""

    def pair(self, notes: Notes) -> None:
        """Sleep, and tell at once."""
        notes.timed("ask", lambda: time.sleep(0.02))
        notes.timed("tell", lambda: None)

    def close(self) -> None:
        """Nothing is open."""


def measured(who: str, case: Case, *, pairs: int, ask: float) -> Measured:
    """A measurement of a second in which every ask took as long."""
    calls = {"ask": [(0.0, ask)] * pairs, "tell": [(0.5, 0.6)] * pairs}
    return Measured("postgresql", who, case, Tally(1.0, calls))


def point(number: int, informed_by: int) -> Point:
    """A point of a task."""
    return Point(number, PointState.DONE, {}, {}, 0, "", informed_by=informed_by)


def played(seed: int, regret: float) -> Played:
    """A game that ended so."""
    game = Game(who="a", workers=1, seed=seed, points=1, evaluation_seconds=0.0, family=FAMILIES[0])
    return Played(game=game, regret=regret, seconds=1.0)


@pytest.mark.parametrize("algorithm", ["random", "hyperopt/tpe"])
def test_preloaded_history_is_taken_up(bench: Bench, algorithm: str) -> None:
    """A task with a written past goes on after it, knowing all of it."""
    task = bench.submit(points=100, algorithm=algorithm)

    preload(bench.steering.database, task, 30)

    lease = bench.lease(task)
    made = records.point_detail(bench.steering, OPERATOR, task, lease.point).point
    assert (lease.point, made.informed_by) == (30, 30)


@pytest.mark.parametrize(
    ("workers", "processes", "shares"), [(1, 4, [1]), (16, 4, [4, 4, 4, 4]), (6, 4, [2, 2, 1, 1])], ids=str
)
def test_workers_are_dealt_out(workers: int, processes: int, shares: list[int]) -> None:
    """Each process gets as many workers as the others, give or take one."""
    assert deal(workers, processes) == shares


def test_warm_up_does_not_count() -> None:
    """A process of workers tells what ended after its warm-up alone, and all that it began before the end."""
    seen = worker.work([SleepySeat(), SleepySeat()], warm=0.2, seconds=0.3)

    asks = seen["calls"]["ask"]
    assert all(ended >= 0 for _, ended in asks)
    assert 10 <= len(asks) <= 32
    assert max(ended for _, ended in asks) > 0.25


def test_calls_in_progress_at_the_end_count() -> None:
    """An ask that outlasts the measurement belongs to its times, but its pair does not to its pairs."""
    tally = Tally(10.0, {"ask": [(-1.0, 1.0), (9.0, 30.0)], "tell": [(1.0, 2.0), (30.0, 31.0)]})

    assert tally.times("ask") == [21.0]
    assert tally.pairs == 0.1


def test_calls_longer_than_the_measurement_count() -> None:
    """Where every call outlasts the measurement, those in progress are its times."""
    tally = Tally(4.0, {"ask": [(-1.0, 7.0), (-5.0, -4.5)]})

    assert tally.times("ask") == [8.0]


def test_few_times_have_their_longest_as_p99() -> None:
    """A quantile beyond what was measured is the longest."""
    assert quantile([1.0] * 50 + [9.0], 0.99) == 9.0


def test_targets_compare_what_is_comparable() -> None:
    """Only the case with as many workers and observations is held against Optuna."""
    case = Case("hyperopt/tpe", 16, 500)
    found = [
        measured("Optuna, RDB", Case("optuna/tpe", 1, 500), pairs=1000, ask=0.001),
        measured("Optuna, RDB", Case("optuna/tpe", 16, 500), pairs=2, ask=1.0),
        measured("gridtune", case, pairs=100, ask=0.5),
    ]

    verdicts = [(value, met) for _, value, met in targets(found)]

    assert verdicts == [("50", "yes"), ("0.5", "**no**")]


def test_missed_results_are_those_acknowledged_before_the_ask() -> None:
    """What was told while an ask waited need not be known, what was told before it must."""
    seen = Seen(asked={0: 0.0, 1: 2.0, 2: 2.0}, acknowledged=[1.0, 1.5, 2.5])

    assert missed([point(0, 0), point(1, 1), point(2, 3)], seen) == [0, 1, 0]


def test_regrets_are_compared_seed_by_seed() -> None:
    """Instances of a problem differ in scale, so that ratios are taken before the mean."""
    parallel, sequential = [played(0, 2.0), played(1, 800.0)], [played(0, 1.0), played(1, 100.0)]

    assert ratio_of(parallel, sequential) == pytest.approx(4.0)
