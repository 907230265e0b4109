"""How much optimizers know when they propose, and what it costs to have many workers.

Points of a synthetic problem with a known optimum are evaluated by threads that sleep for a short random time
(exponentially distributed) and use the agents' own client. Then, from the export and from what the workers saw:

* fresh: the share of points whose optimizer had learnt, when it proposed them, all results that had been acknowledged
  before their worker asked;
* missed: how many of those results it had not learnt, in the mean;
* regret: the best loss less the optimum, the median over seeds, and what it is to that of one worker, who is served
  strictly one point after the other (the geometric mean over seeds).

Beside it Optuna's own parallel mode: ``study.optimize(n_jobs=…)`` with ``TPESampler(constant_liar=True)``, in memory or
on the service's PostgreSQL server. It reads the storage with each suggestion, so all of its points are fresh.

    python -m benchmarks.freshness [--workers 1 4 16 64] [--points 128] [--seeds 5] [--evaluation-seconds 0.3]
        [--algorithms hyperopt/tpe optuna/tpe auto] [--problem rosenbrock-4] [--database postgresql]
        [--optuna-storage memory rdb] [--web 1] [--hosts 1] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from benchmarks.quality.synthetic import FAMILIES
from benchmarks.scale import services
from benchmarks.scale.databases import KINDS, postgres_server
from benchmarks.scale.freshness import Game, Played, optuna_game, our_game, table
from benchmarks.scale.measured import today
from benchmarks.scale.processes import machine

from servers.postgres import Postgres


def main() -> None:
    """Print a row for each algorithm and number of workers, and write them."""
    arguments, where = _parser().parse_args(), machine()
    with ExitStack() as stack:
        needs_server = arguments.database == "postgresql" or "rdb" in arguments.optuna_storage
        server = stack.enter_context(postgres_server()) if needs_server else None
        played = list(_shown(_games(arguments, server)))
    flags = " ".join(map(shlex.quote, sys.argv[1:]))
    words = (
        f"{arguments.points} points of {arguments.problem}, {arguments.seeds} seeds, evaluations of "
        f"{arguments.evaluation_seconds:g} s in the mean; {arguments.web} web process(es), {arguments.hosts} optimizer "
        f"host(s), {arguments.database}. {today()}, {where}; workers are threads on the same machine."
    )
    head = ["# Freshness", "", f"`{f'python -m benchmarks.freshness {flags}'.strip()}`", "", words, "", _READING, ""]
    text = "\n".join([*head, *table(played)])
    print("\n" + text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "freshness.md").write_text(text + "\n")


_READING = """\
`fresh` is the share of points whose optimizer knew, when it proposed them, all results that were acknowledged before
their worker asked, `missed` how many of these it did not know, in the mean. `regret` is the median over the seeds,
`/ sequential` the geometric mean over the seeds of what it is to the same with one worker. `seconds` is a whole run in
the mean."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluation-seconds", type=float, default=0.3, help="the mean")
    parser.add_argument("--algorithms", nargs="+", default=["hyperopt/tpe", "optuna/tpe", "auto"])
    parser.add_argument("--problem", choices=[family.name for family in FAMILIES], default="rosenbrock-4")
    parser.add_argument("--database", choices=KINDS, default="postgresql")
    parser.add_argument("--optuna-storage", nargs="*", choices=["memory", "rdb"], default=["memory", "rdb"])
    parser.add_argument("--web", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser


def _games(arguments: argparse.Namespace, server: Postgres | None) -> Iterator[Played]:
    family = next(family for family in FAMILIES if family.name == arguments.problem)
    base = Game(
        who="",
        workers=0,
        seed=0,
        points=arguments.points,
        evaluation_seconds=arguments.evaluation_seconds,
        family=family,
    )
    url = server.new_database() if server is not None and arguments.database == "postgresql" else ""
    with services.service(url, *services.serve_flags(arguments)) as served:
        for name in arguments.algorithms:
            for game in _each(replace(base, who=name), arguments):
                yield our_game(game, served)
    for storage in arguments.optuna_storage:
        for game in _each(replace(base, who=f"Optuna alone, {storage}"), arguments):
            yield optuna_game(game, server.new_database() if storage == "rdb" and server is not None else "")


def _each(game: Game, arguments: argparse.Namespace) -> Iterator[Game]:
    for workers in arguments.workers:
        for seed in range(arguments.seeds):
            yield replace(game, workers=workers, seed=seed)


def _shown(played: Iterator[Played]) -> Iterator[Played]:
    """Say each thing as soon as it is known."""
    for each in played:
        print(each.line(), flush=True)
        yield each


if __name__ == "__main__":
    main()
