"""What one suggestion costs after n observations, for every optimizer in the table.

Points are told without having been asked for, so that an optimizer that grows slow is measured all the same.
Milliseconds on one core, medians of a few suggestions: read them as ratios. The space has eight parameters of all
kinds; for grid, it is a finite one.

    python benchmarks/ask_cost.py [--observations 10 100 1000] [--suggestions 5]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gridtune_common.space import SearchSpace
from gridtune_steering import optimizers
from gridtune_steering.optimizers.port import Problem
from service_bench import document, loss_of

FINITE = {name: {"type": "int", "low": 1, "high": 10} for name in "abcdef"}


def main() -> None:
    """Print a row for each optimizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, nargs="+", default=[10, 100, 500, 1000])
    parser.add_argument("--suggestions", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{'ms per ask':14}" + "".join(f"{n:>10}" for n in arguments.observations))
    for name in optimizers.OPTIMIZERS:
        costs = [cost(name, n, arguments.suggestions) for n in arguments.observations]
        print(f"{name:14}" + "".join(f"{1000 * seconds:10.2f}" for seconds in costs))


def cost(name: str, n: int, suggestions: int) -> float:
    """Seconds for one suggestion after *n* observations, the median of some."""
    is_finite = optimizers.load(name).finite_spaces_only
    space = SearchSpace.parse(FINITE if is_finite else document()["space"])
    optimizer = optimizers.create(name, Problem(space=space, seed=1), {})
    rng = random.Random(n)
    for number in range(n):
        point = space.sample(rng)
        optimizer.pend(number, point)
        optimizer.observe(number, [rng.random() if is_finite else loss_of(point)])
    times = []
    for seed in range(suggestions):
        started = time.perf_counter()
        optimizer.suggest(n, seed)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
