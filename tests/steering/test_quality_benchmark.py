"""The benchmark of quality: its problems, its drivers and its statistics."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed

from benchmarks.quality import scores  # noqa: E402
from benchmarks.quality.__main__ import main  # noqa: E402
from benchmarks.quality.alone import alone  # noqa: E402
from benchmarks.quality.drivers import Contender, Ours  # noqa: E402
from benchmarks.quality.instances import Instance, Point, parse, unit  # noqa: E402
from benchmarks.quality.memory import Memory  # noqa: E402
from benchmarks.quality.runs import Row, problems, read  # noqa: E402
from benchmarks.quality.simulation import play  # noqa: E402
from benchmarks.quality.synthetic import FAMILIES  # noqa: E402

SYNTHETIC = [family.name for family in FAMILIES]
with closing(Memory(Path(":memory:"))) as empty:
    REAL = sorted(set(problems(empty)) - set(SYNTHETIC))


@pytest.fixture
def memory() -> Iterator[Memory]:
    """A memory that remembers nothing yet."""
    with closing(Memory(Path(":memory:"))) as memory:
        yield memory


class TestSyntheticProblems:
    """What is planted is the best."""

    @pytest.mark.parametrize("seed", [0, 7])
    @pytest.mark.parametrize("name", SYNTHETIC)
    def test_the_declared_optimum_is_attained(self, name: str, seed: int, memory: Memory) -> None:
        """The best point is in the space and has the loss that is said to be the best."""
        instance = problems(memory)[name].instance(seed)

        assert instance.best_point is not None
        assert instance.space.explain(instance.best_point) == ""
        assert instance.loss(instance.best_point) == pytest.approx(instance.optimum, abs=1e-12)

    @pytest.mark.parametrize("name", SYNTHETIC)
    def test_nothing_is_better_than_the_optimum(self, name: str, memory: Memory) -> None:
        """Neither points at random nor neighbours of the best one are below the optimum."""
        instance, rng = problems(memory)[name].instance(1), random.Random(1)
        assert instance.best_point is not None
        assert instance.optimum is not None
        near = [instance.best_point | {key: value} for key, value in _steps_aside(instance, rng)]

        losses = [instance.loss(point) for point in [*near, *(instance.space.sample(rng) for _ in range(300))]]

        assert min(losses) >= instance.optimum
        assert max(losses) > instance.optimum

    @pytest.mark.parametrize("name", SYNTHETIC)
    def test_every_seed_is_another_instance_and_the_same_one_again(self, name: str, memory: Memory) -> None:
        """The loss of a point depends on the seed, and on nothing else."""
        family = problems(memory)[name]
        points = [family.instance(0).space.sample(random.Random(i)) for i in range(5)]

        first, again, other = ([family.instance(seed).loss(point) for point in points] for seed in (0, 0, 1))

        assert first == again
        assert first != other


class TestRealProblems:
    """Finite, large enough, and remembered."""

    @pytest.mark.parametrize("name", REAL)
    def test_fifty_points_are_a_small_part_of_the_space(self, name: str, memory: Memory) -> None:
        """The space has many times more points than a run evaluates, and not too many to try them all."""
        space = problems(memory)[name].instance(0).space

        assert space.size is not None
        assert 500 <= space.size <= 3500
        assert len([parameter for parameter in space if (parameter.n_values or 0) >= 10]) >= 2

    @pytest.mark.slow
    @pytest.mark.parametrize("name", REAL)
    def test_a_training_is_repeatable(self, name: str, memory: Memory) -> None:
        """A point has one loss, so that it can be remembered."""
        instance = problems(memory)[name].instance(0)
        point = instance.space.sample(random.Random(0))

        with closing(Memory(Path(":memory:"))) as other:
            losses = [instance.loss(point), problems(other)[name].instance(1).loss(point)]

        assert losses[0] == losses[1]

    def test_a_point_is_trained_once(self, tmp_path: Path) -> None:
        """The second time the loss comes from the memory, also from another process's."""
        trained: list[Point] = []

        def train(point: Point) -> float:
            trained.append(point)
            return float(point["x"])

        with closing(Memory(tmp_path / "losses")) as one, closing(Memory(tmp_path / "losses")) as other:
            losses = [
                memory.recall("p", {"x": x, "kind": "a"}, train) for memory, x in [(one, 1), (other, 1), (one, 2)]
            ]
            known = other.known("p")

        assert losses == [1.0, 1.0, 2.0]
        assert [point["x"] for point in trained] == [1, 2]
        assert known == (2, 1.0)


class TestGames:
    """Asking and telling with one worker and with many."""

    def test_one_worker_knows_each_result_before_it_asks_again(self) -> None:
        """Sequential runs alternate."""
        driver = Recorder()

        play(driver, Instance(space=LINE, loss=lambda point: point["x"]), budget=5, workers=1, seed=0)

        assert driver.calls == ["ask", "tell"] * 5

    def test_many_workers_ask_first_and_tell_out_of_order(self) -> None:
        """All workers get a point before there is a result, and results come in the order of their ends."""
        driver = Recorder()

        game = play(driver, Instance(space=LINE, loss=lambda point: point["x"]), budget=10, workers=4, seed=1)

        assert driver.calls[:5] == ["ask"] * 4 + ["tell"]
        assert sorted(driver.told) == list(range(10)) != driver.told
        assert len(game.best) == 10
        assert game.best == sorted(game.best, reverse=True)

    def test_points_proposed_twice_are_counted(self) -> None:
        """A repeat costs an evaluation."""
        game = play(Recorder(always=0.5), Instance(space=LINE, loss=lambda point: 1.0), budget=6, workers=2, seed=0)

        assert game.n_repeats == 5

    def test_points_outside_of_the_space_end_the_game(self) -> None:
        """Nobody wins by leaving the field."""
        with pytest.raises(ValueError, match="outside"):
            play(Recorder(always=7.0), Instance(space=LINE, loss=lambda point: 1.0), budget=1, workers=1, seed=0)

    @pytest.mark.parametrize("workers", [1, 16])
    @pytest.mark.parametrize("name", ["hyperopt/tpe", "hyperopt/anneal", "optuna/tpe", "nevergrad/OnePlusOne"])
    @pytest.mark.parametrize("problem", ["branches-8", "steps-6"])
    def test_libraries_alone_stay_in_the_space(self, problem: str, name: str, workers: int, memory: Memory) -> None:
        """Their points have active parameters only, of their types, inside their bounds."""
        pytest.importorskip(name.partition("/")[0])
        instance = problems(memory)[problem].instance(0)
        driver = alone(name, instance.space, 20, workers, 3)

        game = play(driver, instance, budget=20, workers=workers, seed=0)

        assert len(game.best) == 20

    def test_ours_goes_through_the_campaign(self, memory: Memory) -> None:
        """A finite space is never proposed twice, and ends the game when it is exhausted."""
        instance = Instance(space=parse(x={"type": "int", "low": 1, "high": 7}), loss=lambda point: point["x"])

        game = play(Ours(Contender(algorithm="random"), instance.space, 20, 0), instance, budget=20, workers=3, seed=0)

        assert game.best[-1] == 1
        assert (len(game.best), game.n_repeats) == (7, 0)


class TestScores:
    """On an example that can be worked out by hand."""

    ROWS = tuple(
        replace(row, label=label, problem=problem, seed=seed, best=best, half=best, optimum=1.0)
        for row in [
            Row(
                label="",
                block="synthetic",
                problem="",
                mode="sequential",
                seed=0,
                budget=8,
                versions="",
                optimum=None,
                half=0.0,
                best=0.0,
                n_points=8,
                n_repeats=0,
                seconds=1.0,
                total_seconds=1.0,
            )
        ]
        for label, problem, losses in [
            ("random", "p", [3.0, 5.0, 9.0]),  # gaps 2, 4 and 8: the median is 4
            ("good", "p", [2.0, 2.0, 1.0]),
            ("good alone", "p", [3.0, 3.0, 30.0]),
        ]
        for seed, best in enumerate(losses)
    )

    def test_regret_is_in_units_of_random_searchs_median(self) -> None:
        """The gap to the optimum by the median gap of random search, cut at the most."""
        result = scores.score(self.ROWS, {})

        assert dict(zip(result.labels, result.regret.tolist(), strict=True)) == {
            "random": [0.5, 1.0, 2.0],
            "good": [0.25, 0.25, 0.0],
            "good alone": [0.5, 0.5, scores.MOST_REGRET],
        }

    def test_ranks_share_ties(self) -> None:
        """Equal losses get the mean of their places."""
        result = scores.score(self.ROWS, {})

        assert dict(zip(result.labels, result.rank.tolist(), strict=True)) == {
            "random": [2.5, 3.0, 2.0],
            "good": [1.0, 1.0, 1.0],
            "good alone": [2.5, 2.0, 3.0],
        }

    def test_cells_that_somebody_has_not_finished_are_left_out(self) -> None:
        """All are compared on the same."""
        result = scores.score([row for row in self.ROWS if (row.label, row.seed) != ("good", 1)], {})

        assert [seed for _, seed, _ in result.cells] == [0, 2]
        assert result.n_dropped == 1

    def test_the_optimum_may_come_from_what_is_known(self) -> None:
        """A problem that does not know its optimum is measured against the best ever seen."""
        result = scores.score([replace(row, optimum=None) for row in self.ROWS], {"p": 1.0})

        assert result.regret.tolist() == scores.score(self.ROWS, {}).regret.tolist()

    def test_a_run_that_failed_is_the_worst(self) -> None:
        """It has the most regret, and the last rank."""
        failed = replace(self.ROWS[3], best=math.inf, half=math.inf, n_points=0)

        result = scores.score([failed if row == self.ROWS[3] else row for row in self.ROWS], {})

        assert failed.label == "good"
        assert result.regret[result.labels.index("good"), 0] == scores.MOST_REGRET
        assert result.rank[result.labels.index("good"), 0] == 3

    def test_ours_is_compared_to_alone_cell_by_cell(self) -> None:
        """The difference is the mean of the differences; three cells prove nothing."""
        [comparison] = scores.compare(scores.score(self.ROWS, {}), ["sequential"])

        assert comparison.difference.mean == pytest.approx((-0.25 - 0.25 - 2) / 3)
        assert (comparison.n_won, comparison.n_lost) == (3, 0)
        assert comparison.p == pytest.approx(0.25)
        assert comparison.verdict == "no significant difference"

    def test_a_confidence_interval_covers_the_truth_about_as_often_as_it_says(self) -> None:
        """Of 100 samples of a known mean, nearly all intervals hold it, and not all."""
        rng = np.random.default_rng(5)
        samples = [rng.normal(3.0, 1.0, 20).tolist() for _ in range(100)]

        intervals = [scores.bootstrap(sample, ["p"] * 20) for sample in samples]

        assert 85 <= sum(each.low <= 3.0 <= each.high for each in intervals) <= 99

    def test_differences_between_problems_do_not_widen_the_interval(self) -> None:
        """The problems are what they are: only seeds are drawn anew."""
        interval = scores.bootstrap([1.0] * 5 + [9.0] * 5, ["p"] * 5 + ["q"] * 5)

        assert (interval.mean, interval.low, interval.high) == (5.0, 5.0, 5.0)


class TestCommand:
    """The benchmark from end to end."""

    def test_a_small_run_writes_its_report_and_is_not_done_twice(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Two problems, two algorithms and two seeds: page, chart and results; the second call runs nothing."""
        words = ["--algorithms", "random", "sobol", "--problems", "peaks-2", "branches-8", "--seeds", "2"]
        words += ["--budget", "8", "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "losses.sqlite")]

        assert main(words) == 0
        assert main([*words, "--report"]) == 0

        assert "16 runs, 0 of them to do" in capsys.readouterr().out
        assert len(read(tmp_path / "out" / "runs.csv")) == 16
        assert "| sobol |" in (tmp_path / "out" / "quality.md").read_text(encoding="utf-8")
        assert (tmp_path / "out" / "quality.svg").read_text(encoding="utf-8").startswith("<svg")

    def test_a_run_that_hangs_has_failed_and_is_tried_again(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its result says so, the command fails, and the next call runs it anew."""
        words = ["--algorithms", "sobol", "--problems", "peaks-2", "--seeds", "1", "--modes", "sequential"]
        words += ["--budget", "20", "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "losses.sqlite")]

        assert main([*words, "--limit", "0.0001"]) == 1
        assert main(words) == 0

        output = capsys.readouterr().out
        assert "TimeoutError: not done after 0.0001 s" in output
        assert "2 runs, 2 of them to do" in output
        assert "2 runs, 0 of them to do" not in output

    def test_contenders_are_named_with_options_and_budgets(self) -> None:
        """What a label says is what runs."""
        contender = Contender.parse("skopt/rf*2:n_points=500,acq_func=PI")

        assert (contender.algorithm, contender.factor) == ("skopt/rf", 2)
        assert contender.options == {"n_points": 500, "acq_func": "PI"}
        assert contender.label == "skopt/rf*2:n_points=500,acq_func=PI"


LINE = parse(x={"type": "float", "low": 0, "high": 1})


class Recorder:
    """Proposes smaller and smaller numbers, or always one, and writes down what is done to it."""

    def __init__(self, always: float | None = None) -> None:
        self.calls: list[str] = []
        self.told: list[int] = []
        self._always = always

    def ask(self) -> tuple[int, Point]:
        """The next number."""
        number = self.calls.count("ask")
        self.calls.append("ask")
        return number, {"x": 1 / (number + 1) if self._always is None else self._always}

    def tell(self, token: int, loss: float) -> None:
        """Write it down."""
        self.calls.append("tell")
        self.told.append(token)


def _steps_aside(instance: Instance, rng: random.Random) -> list[tuple[str, object]]:
    """For each parameter of the best point, the nearest of some other values."""
    best = instance.best_point or {}
    aside: list[tuple[str, object]] = []
    for name, value in best.items():
        parameter = instance.space[name]
        others = [other for other in (parameter.sample(rng) for _ in range(30)) if other != value]
        if instance.space.active(best) == instance.space.active(best | {name: others[0]}):
            aside.append((name, min(others, key=lambda v: abs(unit(parameter, v) - unit(parameter, value)))))
    return aside
