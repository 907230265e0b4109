"""The command line of the quality benchmark."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from gridtune_common.errors import InvalidDocument, MissingExtra
from gridtune_steering import optimizers
from gridtune_steering.optimizers.grid import every_point

from . import report
from .alone import can_be_alone
from .drivers import ALONE, OURS, Contender
from .instances import REAL
from .memory import Memory
from .runs import MODES, Row, Run, carry_out, problems, read

#: The yardstick of regret: it is always run.
YARDSTICK = "random"
ALGORITHMS = (
    *(YARDSTICK, f"{YARDSTICK}*4", "sobol", "auto"),
    *("hyperopt/tpe", "hyperopt/anneal"),
    *("optuna/tpe", "optuna/cmaes"),
    *("nevergrad/NGOpt", "nevergrad/CMA", "nevergrad/OnePlusOne", "nevergrad/TwoPointsDE"),
    *("skopt/gp", "skopt/rf", "skopt/et", "skopt/gbrt"),
)


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, then write the report of what was chosen."""
    arguments = _parser().parse_args(words)
    # small trainings and models lose more by threads than they gain; processes that are started later inherit this
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    with closing(Memory(arguments.cache)) as memory:
        names = _problems(arguments, memory)
        if arguments.enumerate:
            _enumerate(memory, names)
            return 0
        command = ["python", "-m", "benchmarks.quality", *(sys.argv[1:] if words is None else words)]
        return _benchmark(arguments, names, memory, command)


def _benchmark(arguments: argparse.Namespace, names: Sequence[str], memory: Memory, command: Sequence[str]) -> int:
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "runs.csv"
    runs, known = _chosen(arguments, names), read(path)
    missing = [] if arguments.report else [run for run in runs if _is_to_do(run, known, arguments.again)]
    print(f"{len(runs)} runs, {len(missing)} of them to do", flush=True)
    carry_out(
        missing,
        path=path,
        cache=arguments.cache,
        jobs=arguments.jobs,
        limit=arguments.limit,
        known=known.values(),
    )
    finished = read(path)
    rows = [finished[run.key] for run in runs if run.key in finished]
    if not rows:
        raise SystemExit(f"{path} has no results of these: leave out --report")
    print(report.write(rows, _optima(memory, finished.values()), arguments.out, command))
    print(f"written: {arguments.out}/quality.md, quality.svg, runs.csv")
    return 1 if any(row.has_failed for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description="How good optimizers' points are."
    )
    parser.add_argument(
        "--algorithms",
        nargs="+",
        default=ALGORITHMS,
        metavar="NAME",
        help="names of the table, with options if need be: skopt/rf:n_points=500,acq_func=PI; random*4 has 4 budgets",
    )
    parser.add_argument("--drivers", nargs="+", choices=[OURS, ALONE], default=[OURS, ALONE])
    parser.add_argument("--problems", nargs="+", metavar="NAME")
    parser.add_argument("--block", choices=["synthetic", "real"], help="only these problems")
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="to tune on other instances than those of the report")
    parser.add_argument("--budget", type=int, default=50, help="evaluations a run")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a run has failed")
    parser.add_argument("--again", nargs="*", metavar="NAME", help="run these anew, or all, though they are known")
    parser.add_argument("--report", action="store_true", help="run nothing; write the report of what is known")
    parser.add_argument("--enumerate", action="store_true", help="only evaluate every point of the real problems")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "gridtune-quality" / "losses.sqlite"
    )
    return parser


def _problems(arguments: argparse.Namespace, memory: Memory) -> list[str]:
    families = problems(memory)
    if unknown := set(arguments.problems or ()) - set(families):
        raise SystemExit(f"there is no problem {', '.join(sorted(unknown))}; there are: {', '.join(families)}")
    chosen = arguments.problems or families
    return [name for name in chosen if arguments.block in (None, families[name].block)]


def _chosen(arguments: argparse.Namespace, names: Sequence[str]) -> list[Run]:
    """All runs, seed by seed, so that a part of them is a smaller benchmark."""
    contenders = [
        contender
        for text in dict.fromkeys([YARDSTICK, *arguments.algorithms])
        for driver in (OURS, ALONE)
        for contender in [_contender(text, driver)]
        if _takes_part(contender, arguments.drivers)
    ]
    return [
        Run(contender=contender, problem=problem, mode=mode, seed=seed, budget=arguments.budget)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        for problem in names
        for mode in arguments.modes
        for contender in contenders
    ]


def _contender(text: str, driver: str) -> Contender:
    contender = Contender.parse(text, driver)
    try:
        optimizers.load(contender.algorithm)
    except (InvalidDocument, MissingExtra) as error:
        raise SystemExit(f"{text}: {error}") from error
    return contender


def _takes_part(contender: Contender, drivers: Sequence[str]) -> bool:
    if contender.driver == ALONE:
        return ALONE in drivers and not contender.options and can_be_alone(contender.algorithm)
    return OURS in drivers or not can_be_alone(contender.algorithm)


def _is_to_do(run: Run, known: Mapping[str, Row], again: Sequence[str] | None) -> bool:
    is_wanted_again = again is not None and (not again or run.contender.label in again)
    return is_wanted_again or run.key not in known or known[run.key].has_failed


def _optima(memory: Memory, rows: Iterable[Row]) -> dict[str, float]:
    """The best losses that anybody ever found."""
    optima: dict[str, float] = {}
    for row in rows:
        optima[row.problem] = min(row.best, optima.get(row.problem, row.best))
    for name in optima:
        _, best = memory.known(name)
        optima[name] = min(optima[name], optima[name] if best is None else best)
    return optima


def _enumerate(memory: Memory, names: Sequence[str]) -> None:
    for name, family in problems(memory).items():
        if name in names and family.block == REAL:
            instance = family.instance(0)
            losses = [instance.loss(point) for point in every_point(instance.space)]
            print(f"{name}: {len(losses)} points, the best has a loss of {min(losses):.6g}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its processes end with it
    sys.exit(main())
