"""Runs and their results: which there are to do, doing them, and the file that keeps them."""

from __future__ import annotations

import csv
import math
import multiprocessing
import signal
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean

from gridtune_steering import optimizers

from .alone import alone
from .drivers import ALONE, Contender, Driver, Ours
from .instances import Family, Instance, seed_of
from .memory import Memory
from .simulation import Game, play
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
        label = self.contender.label
        return f"{label}|{self.problem}|{self.mode}|{self.seed}|{self.budget}|{versions(self.contender)}"

    @property
    def kind(self) -> tuple[str, str]:
        """Runs of one kind cost much the same time."""
        return self.contender.label, self.mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is kept of a run.

    Attributes:
        label: The contender's.
        versions: Of the libraries that it stands on.
        optimum: The best loss there is, as far as the problem knows.
        half: The best loss at half of the budget.
        best: The best loss.
        n_points: How many points were evaluated: fewer than the budget where a space was exhausted, none if it failed.
        n_repeats: How many of them for nothing.
        seconds: What the optimizer took.
        total_seconds: What all took.
    """

    label: str
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

    @property
    def key(self) -> str:
        """The run's."""
        return f"{self.label}|{self.problem}|{self.mode}|{self.seed}|{self.budget}|{self.versions}"

    @property
    def has_failed(self) -> bool:
        """Whether the optimizer crashed or hung; its loss is infinite."""
        return self.n_points == 0


_COLUMNS = [column.name for column in fields(Row)]


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
    with path.open(encoding="utf-8", newline="") as file:
        rows = [_read_row(values) for values in csv.DictReader(file)]
    return {row.key: row for row in rows}


def append(path: Path, row: Row) -> None:
    """Add a result to a file."""
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(row))


def carry_out(runs: list[Run], *, path: Path, cache: Path, jobs: int, limit: float, known: Iterable[Row]) -> None:
    """Do the runs, and append their results to the file as they end.

    A run that crashes, or takes longer than *limit* seconds, is a result too: the worst.
    """
    progress = Progress(runs, known, jobs)
    # fresh processes, since the libraries' threads do not survive a fork
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        futures = {pool.submit(perform, run, cache, limit): run for run in runs}
        for future in as_completed(futures):
            run, error = futures[future], future.exception()
            if isinstance(error, BrokenExecutor):
                raise SystemExit("a process was killed, nobody knows in which run; call again to go on") from error
            row = future.result() if error is None else _failure(run, cache)
            append(path, row)
            progress.note(run, row, error)
    finally:
        pool.shutdown(cancel_futures=True)  # who interrupts it does not want the rest


def perform(run: Run, cache: Path, limit: float) -> Row:
    """Do one run.

    Raises:
        TimeoutError: It took longer than *limit* seconds.
    """
    started = time.perf_counter()
    with closing(Memory(cache)) as memory, _at_most(limit):
        family = problems(memory)[run.problem]
        instance = family.instance(run.seed)
        budget, workers = run.budget * run.contender.factor, MODES[run.mode]
        driver = _driver(run, instance, budget, workers)
        seed = seed_of("durations", run.problem, run.seed)
        game = play(driver, instance, budget=budget, workers=workers, seed=seed)
    return _row(run, family.block, instance.optimum, game, time.perf_counter() - started)


def _driver(run: Run, instance: Instance, budget: int, workers: int) -> Driver:
    seed = seed_of("optimizer", run.problem, run.seed)
    if run.contender.driver == ALONE:
        return alone(run.contender.algorithm, instance.space, budget, workers, seed)
    return Ours(run.contender, instance.space, budget, seed)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer: some optimizers wait for ever for a result that does not come."""

    def interrupt(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:g} s")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, 10.0)  # and again, since some libraries swallow it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _failure(run: Run, cache: Path) -> Row:
    with closing(Memory(cache)) as memory:
        family = problems(memory)[run.problem]
    return _row(run, family.block, family.instance(run.seed).optimum, Game(best=[], n_repeats=0, seconds=0.0), 0.0)


def _row(run: Run, block: str, optimum: float | None, game: Game, total_seconds: float) -> Row:
    best = game.best or [math.inf]
    return Row(
        label=run.contender.label,
        block=block,
        problem=run.problem,
        mode=run.mode,
        seed=run.seed,
        budget=run.budget,
        versions=versions(run.contender),
        optimum=optimum,
        half=_rounded(best[(len(best) - 1) // 2]),
        best=_rounded(best[-1]),
        n_points=len(game.best),
        n_repeats=game.n_repeats,
        seconds=round(game.seconds, 4),
        total_seconds=round(total_seconds, 4),
    )


class Progress:
    """Says how far it is, and how long it will take: each kind of run as long as those before it."""

    def __init__(self, runs: Iterable[Run], known: Iterable[Row], jobs: int) -> None:
        self._left = [run.kind for run in runs]
        self._n, self._jobs = len(self._left), jobs
        self._seconds: dict[tuple[str, str], list[float]] = {}
        for row in known:
            self._seconds.setdefault((row.label, row.mode), []).append(row.total_seconds)

    def note(self, run: Run, row: Row, error: BaseException | None) -> None:
        """Print a line for a run that has ended."""
        self._left.remove(run.kind)
        if error is None:
            self._seconds.setdefault(run.kind, []).append(row.total_seconds)
        done = f"{self._n - len(self._left)}/{self._n}"
        what = f"{row.label:28} {row.problem:18} {row.mode:10} seed {row.seed:<3}"
        result = f"{row.best:12.5g} {row.total_seconds:7.1f} s" if error is None else f"{type(error).__name__}: {error}"
        print(f"{done:>11}  {what} {result}   {self._estimate()} left", flush=True)

    def _estimate(self) -> str:
        means = {kind: fmean(seconds) for kind, seconds in self._seconds.items()}
        typical = fmean(means.values()) if means else 0.0
        seconds = sum(means.get(kind, typical) for kind in self._left) / self._jobs
        return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.1f} min"


def _read_row(values: dict[str, str]) -> Row:
    return Row(
        label=values["label"],
        block=values["block"],
        problem=values["problem"],
        mode=values["mode"],
        seed=int(values["seed"]),
        budget=int(values["budget"]),
        versions=values["versions"],
        optimum=float(values["optimum"]) if values["optimum"] else None,
        half=float(values["half"]),
        best=float(values["best"]),
        n_points=int(values["n_points"]),
        n_repeats=int(values["n_repeats"]),
        seconds=float(values["seconds"]),
        total_seconds=float(values["total_seconds"]),
    )


def _rounded(loss: float) -> float:
    """Short enough for a file, and still equal to what is equal."""
    return float(f"{loss:.9g}")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"
