"""What one suggestion costs after n observations, and what rebuilding an optimizer from its history costs.

Points are told without having been asked for, so that an optimizer that grows slow is measured all the same.
Milliseconds on one core, medians of a few suggestions: read them as ratios. The space has eight parameters of all
kinds; for grid, it is a finite one. A rebuild tells the history again, or, where asking matters, asks for every point
again, as a host does that takes a task over without a snapshot; the table gives the seconds for as many points as the
last two columns say.

    python benchmarks/ask_cost.py [--observations 10 100 1000] [--suggestions 5] [--rebuilds 1000 5000] [--out FOLDER]
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # as in an optimizer host

import argparse
import random
import statistics
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gridtune_common.errors import MissingExtra
from gridtune_common.space import SearchSpace
from gridtune_steering import optimizers
from gridtune_steering.optimizers.port import Optimizer, Problem
from optimizer_rows import names
from service_bench import document, loss_of

FINITE = {name: {"type": "int", "low": 1, "high": 10} for name in "abcdef"}
#: A rebuild that takes longer is given up, in seconds.
_PATIENCE = 120


def main() -> None:
    """Print a row for each optimizer, and write table and plot if a folder is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, nargs="+", default=[10, 100, 500, 1000, 5000])
    parser.add_argument("--suggestions", type=int, default=9)
    parser.add_argument("--rebuilds", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--algorithms", nargs="+", default=names())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    head = [*(f"{n}" for n in arguments.observations), *(f"rebuild {n}" for n in arguments.rebuilds)]
    lines = [f"| {'algorithm':30} |" + "".join(f" {each:>12} |" for each in head)]
    lines.append(f"|{'-' * 32}|" + (f"{'-' * 13}:|" * len(head)))
    print("\n".join(lines), flush=True)
    costs = {}
    for name in arguments.algorithms:
        try:
            costs[name] = [1000 * cost(name, n, arguments.suggestions) for n in arguments.observations]
        except MissingExtra as missing:
            print(f"{name}: {missing}", file=sys.stderr)
            continue
        cells = [f"{milliseconds:.2f}" for milliseconds in costs[name]]
        cells += [rebuild(name, n) for n in arguments.rebuilds]
        lines.append(f"| {name:30} |" + "".join(f" {cell:>12} |" for cell in cells))
        print(lines[-1], flush=True)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write(arguments.out, lines, arguments.observations, costs)


def cost(name: str, n: int, suggestions: int) -> float:
    """Seconds for one suggestion after *n* observations, the median of some."""
    optimizer = make(name)
    tell(optimizer, name, n)
    times = []
    for turn in range(suggestions):
        started = time.perf_counter()
        optimizer.suggest(n + turn, turn)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def rebuild(name: str, n: int) -> str:
    """Seconds for going through *n* points again."""
    optimizer = make(name)
    started = time.perf_counter()
    if not optimizer.asking_matters:
        tell(optimizer, name, n)
        return f"{time.perf_counter() - started:.2f} s"
    for number in range(n):
        point = optimizer.suggest(number, number)
        optimizer.pend(number, point)
        optimizer.observe(number, [loss_of(point)])
        if time.perf_counter() - started > _PATIENCE:
            return f"> {_PATIENCE} s"
    return f"{time.perf_counter() - started:.2f} s"


def make(name: str) -> Optimizer:
    """The optimizer on its space, at its defaults."""
    return optimizers.create(name, Problem(space=space_of(name), seed=1, budget=100), {})


def space_of(name: str) -> SearchSpace:
    """The space of eight kinds, or a finite one."""
    return SearchSpace.parse(FINITE if optimizers.load(name).finite_spaces_only else document()["space"])


def tell(optimizer: Optimizer, name: str, n: int) -> None:
    """Let it learn *n* random points."""
    rng, space = random.Random(n), space_of(name)
    for number in range(n):
        point = space.sample(rng)
        optimizer.pend(number, point)
        optimizer.observe(number, [loss_of(point) if "layers" in point else rng.random()])


def write(folder: Path, lines: list[str], observations: list[int], costs: dict[str, list[float]]) -> None:
    """The table as text, and the plot as a page of its own."""
    import plotly.graph_objects as go

    versions = {k: v for name in costs for k, v in optimizers.library_versions(name).items()}
    text = [f"Milliseconds for a suggestion after n observations, {os.cpu_count()} cores, one thread.", "", *lines, ""]
    text.append(", ".join(f"{library} {version}" for library, version in sorted(versions.items())))
    (folder / "ask_cost.md").write_text("\n".join(text) + "\n")
    figure = go.Figure(
        [go.Scatter(x=observations, y=costs[name], name=name, mode="lines+markers") for name in costs],
        go.Layout(
            xaxis={"type": "log", "title": "observations"},
            yaxis={"type": "log", "title": "milliseconds a suggestion"},
            title="Cost of a suggestion",
        ),
    )
    figure.write_html(folder / "ask_cost.html", include_plotlyjs=True)


if __name__ == "__main__":
    main()
