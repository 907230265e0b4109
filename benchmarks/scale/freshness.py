"""Games of many workers on one problem, and how much their optimizer knew."""

from __future__ import annotations

import bisect
import contextlib
import math
import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from benchmarks.quality.alone import suggest
from benchmarks.quality.instances import Family, Instance

from gridtune_common.client import Client, TaskEnded, new_request_id
from gridtune_common.protocol import Ask, Lease, Point, SubmitTask, Tell

from .objective import document
from .peers import driver_url
from .services import Served

#: A regret that counts for none.
_ZERO = 1e-9


@dataclass(frozen=True, kw_only=True)
class Game:
    """What is played.

    Attributes:
        evaluation_seconds: How long an evaluation takes in the mean.
        family: The problem; each seed is an instance of it.
    """

    who: str
    workers: int
    seed: int
    points: int
    evaluation_seconds: float
    family: Family


@dataclass(frozen=True, kw_only=True)
class Played:
    """What came of a game.

    Attributes:
        missed: For each point, how many results its optimizer might have known and did not; None if nobody can tell.
    """

    game: Game
    regret: float
    seconds: float
    missed: Sequence[int] | None = None

    def line(self) -> str:
        """What to say of it at once."""
        game = self.game
        known = "" if self.missed is None else f", fresh {fresh(self.missed):.0%}"
        found = f"regret {self.regret:.4g}{known}, {self.seconds:.1f} s"
        return f"{game.who}, {game.workers} workers, seed {game.seed}: {found}"


@dataclass
class Seen:
    """What the workers saw, on one clock: when they asked for each point, and when tells were answered."""

    asked: dict[int, float] = field(default_factory=dict)
    acknowledged: list[float] = field(default_factory=list)


def our_game(game: Game, served: Served) -> Played:
    """Play against the service."""
    instance, seen = game.family.instance(game.seed), Seen()
    space = {parameter.name: parameter.to_json() for parameter in instance.space}
    with served.service.client() as client:
        message = SubmitTask(new_request_id(), document(game.who, game.points, game.seed, space))
        task = client.submit(message).summary.id
        started = time.monotonic()
        _in_threads(game, lambda index: _work(served, task, index, game, instance, seen))
        seconds = time.monotonic() - started
        points = list(client.all_points(task))
    best = min(point.value for point in points if point.value is not None)
    return Played(game=game, regret=_regret(best, instance), seconds=seconds, missed=missed(points, seen))


def _work(served: Served, task: str, index: int, game: Game, instance: Instance, seen: Seen) -> None:
    """One worker, until the task has ended."""
    rng = random.Random(1000 * game.seed + index)
    with contextlib.closing(Client(served.service.url, served.service.token)) as client:
        while True:
            begun = time.monotonic()
            lease = _ask(client, task, f"w{index}")
            if lease is None:
                return
            seen.asked[lease.point] = begun
            time.sleep(rng.expovariate(1 / game.evaluation_seconds))
            metrics: dict[str, float | None] = {"loss": instance.loss(lease.parameters)}
            client.tell(lease.evaluation, Tell(new_request_id(), lease.epoch, metrics))
            seen.acknowledged.append(time.monotonic())


def _ask(client: Client, task: str, worker: str) -> Lease | None:
    while True:
        answer = client.ask(task, Ask(new_request_id(), worker, wait=20.0))
        if isinstance(answer, Lease):
            return answer
        if isinstance(answer, TaskEnded):
            return None
        time.sleep(answer.retry_after)


def missed(points: Sequence[Point], seen: Seen) -> list[int]:
    """For each point, how many results its optimizer had not learnt that were acknowledged before its worker asked."""
    acknowledged = sorted(seen.acknowledged)
    known = ((point, bisect.bisect_left(acknowledged, seen.asked[point.number])) for point in points)
    return [max(n - point.informed_by, 0) for point, n in known]


def fresh(missing: Sequence[int]) -> float:
    """The share of points that missed nothing.

    >>> fresh([0, 0, 3, 0])
    0.75
    """
    return sum(n == 0 for n in missing) / len(missing)


def optuna_game(game: Game, url: str) -> Played:
    """Play Optuna's own parallel mode, in memory or on a database."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    instance = game.family.instance(game.seed)
    rng = random.Random(game.seed)
    pool = {"pool_size": game.workers + 2, "max_overflow": 0}
    storage = optuna.storages.RDBStorage(driver_url(url), engine_kwargs=pool) if url else None
    sampler = optuna.samplers.TPESampler(seed=game.seed, constant_liar=True)
    study = optuna.create_study(storage=storage, sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        values: dict[str, Any] = {parameter.name: suggest(trial, parameter) for parameter in instance.space}
        time.sleep(rng.expovariate(1 / game.evaluation_seconds))
        return instance.loss(values)

    started = time.monotonic()
    study.optimize(objective, n_trials=game.points, n_jobs=game.workers)
    return Played(game=game, regret=_regret(study.best_value, instance), seconds=time.monotonic() - started)


def _regret(best: float, instance: Instance) -> float:
    assert instance.optimum is not None
    return best - instance.optimum


def _in_threads(game: Game, work: Any) -> None:
    threads = [threading.Thread(target=work, args=(index,)) for index in range(game.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def table(played: Sequence[Played]) -> list[str]:
    """A row for each player and number of workers."""
    lines = [
        "| algorithm | workers | fresh | missed | regret | / sequential | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows: dict[tuple[str, int], list[Played]] = {}
    for each in played:
        rows.setdefault((each.game.who, each.game.workers), []).append(each)
    for (who, workers), games in rows.items():
        regret, alone = statistics.median(game.regret for game in games), rows.get((who, 1))
        ratio = f"{ratio_of(games, alone):.2f}" if alone else "-"
        seconds = statistics.fmean(game.seconds for game in games)
        lines.append(f"| {who} | {workers} | {_freshness(games)} | {regret:.4g} | {ratio} | {seconds:.1f} |")
    return lines


def ratio_of(games: Sequence[Played], others: Sequence[Played]) -> float:
    """The geometric mean of the ratios of regrets, seed by seed."""
    theirs = {other.game.seed: other.regret for other in others}
    logs = [math.log(max(game.regret, _ZERO) / max(theirs[game.game.seed], _ZERO)) for game in games]
    return math.exp(statistics.fmean(logs))


def _freshness(games: Sequence[Played]) -> str:
    missing = [n for game in games for n in game.missed or ()]
    return f"{fresh(missing):.1%} | {statistics.fmean(missing):.2f}" if missing else "always | 0"
