"""Runs and their results: which there are to do, doing them, and the file that keeps them."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean

from gridtune_steering import optimizers

from .alone import alone
from .drivers import ALONE, Contender, Driver, Ours
from .instances import Family, seed_of
from .memory import Memory
from .simulation import play
from .synthetic import FAMILIES
from .trainings import families

#: How many workers there are in each mode.
MODES = {"sequential": 1, "parallel": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One contender's game on one problem."""

    contender: Contender
    problem: str
    mode: str
    seed: int
    budget: int

    @property
    def key(self) -> str:
        """What tells it from all others; results by other versions of a library are others."""
        return f"{self.contender.label}|{self.problem}|{self.mode}|{self.seed}|{self.budget}|{versions(self.contender)}"

    @property
    def kind(self) -> tuple[str, str]:
        """Runs of one kind cost much the same time."""
        return self.contender.label, self.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is kept of a run.

    Attributes:
        key: The run's.
        label: The contender's.
        optimum: The best loss there is, as far as the problem knows.
        half: The best loss at half of the budget.
        best: The best loss.
        n_points: How many points were evaluated; fewer than the budget where a space was exhausted.
        n_repeats: How many of them for nothing.
        seconds: What the optimizer took.
        total_seconds: What all took.
    """

    key: str
    label: str
    algorithm: str
    driver: str
    block: str
    problem: str
    mode: str
    seed: int
    budget: int
    versions: str
    optimum: float | None
    half: float
    best: float
    n_points: int
    n_repeats: int
    seconds: float
    total_seconds: float


def problems(memory: Memory) -> dict[str, Family]:
    """All problems by name."""
    return {family.name: family for family in (*FAMILIES, *families(memory))}


def versions(contender: Contender) -> str:
    """The versions of the libraries that the contender stands on."""
    libraries = optimizers.load(contender.algorithm).libraries
    return " ".join(f"{library}={_version(library)}" for library in sorted(libraries))


def read(path: Path) -> dict[str, Row]:
    """All results of a file by key; where one is there twice, the later one counts."""
    if not path.exists():
        return {}
    rows = [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row.key: row for row in rows}


def carry_out(runs: list[Run], *, path: Path, cache: Path, jobs: int, known: Iterable[Row]) -> list[str]:
    """Do the runs, append their results to the file as they end, and return what failed."""
    failures = []
    progress = Progress(runs, known, jobs)
    # fresh processes, since the libraries' threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool, path.open("a") as file:
        for run, future in _submitted(pool, runs, cache):
            if (error := future.exception()) is not None:
                failures.append(f"{run.key}: {type(error).__name__}: {error}")
                print(f"failed: {failures[-1]}", flush=True)
                continue
            row = future.result()
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()
            progress.note(run, row)
    return failures


def perform(run: Run, cache: Path) -> Row:
    """Do one run."""
    started = time.perf_counter()
    memory = Memory(cache)
    family = problems(memory)[run.problem]
    instance = family.instance(run.seed)
    budget, workers = run.budget * run.contender.factor, MODES[run.mode]
    seed = seed_of("optimizer", run.problem, run.seed)
    driver: Driver
    if run.contender.driver == ALONE:
        driver = alone(run.contender.algorithm, instance.space, budget, workers, seed)
    else:
        driver = Ours(run.contender, instance.space, budget, seed)
    game = play(driver, instance, budget=budget, workers=workers, seed=seed_of("durations", run.problem, run.seed))
    memory.close()
    return Row(
        key=run.key,
        label=run.contender.label,
        algorithm=run.contender.algorithm,
        driver=run.contender.driver,
        block=family.block,
        problem=run.problem,
        mode=run.mode,
        seed=run.seed,
        budget=run.budget,
        versions=versions(run.contender),
        optimum=instance.optimum,
        half=game.best[(len(game.best) - 1) // 2],
        best=game.best[-1],
        n_points=len(game.best),
        n_repeats=game.n_repeats,
        seconds=round(game.seconds, 4),
        total_seconds=round(time.perf_counter() - started, 4),
    )


class Progress:
    """Says how far it is, and how long it will take: each kind of run as long as those before it."""

    def __init__(self, runs: Iterable[Run], known: Iterable[Row], jobs: int) -> None:
        self._left = [run.kind for run in runs]
        self._n, self._jobs = len(self._left), jobs
        self._seconds: dict[tuple[str, str], list[float]] = {}
        for row in known:
            self._seconds.setdefault((row.label, row.mode), []).append(row.total_seconds)

    def note(self, run: Run, row: Row) -> None:
        """Print a line for a run that has ended."""
        self._left.remove(run.kind)
        self._seconds.setdefault(run.kind, []).append(row.total_seconds)
        done = f"{self._n - len(self._left)}/{self._n}"
        what = f"{row.label:28} {row.problem:18} {row.mode:10} seed {row.seed:<3}"
        print(f"{done:>11}  {what} {row.best:12.5g} {row.total_seconds:7.1f} s   {self._estimate()} left", flush=True)

    def _estimate(self) -> str:
        means = {kind: fmean(seconds) for kind, seconds in self._seconds.items()}
        typical = fmean(means.values())
        seconds = sum(means.get(kind, typical) for kind in self._left) / self._jobs
        return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.1f} min"


def _submitted(pool: ProcessPoolExecutor, runs: list[Run], cache: Path) -> Iterator[tuple[Run, Future[Row]]]:
    futures = {pool.submit(perform, run, cache): run for run in runs}
    for future in as_completed(futures):
        yield futures[future], future


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"
