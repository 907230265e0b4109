"""What short walltimes cost: the same points, trained without interruption and by workers that live for seconds.

For each walltime a service of its own, and agents one after the other, each with that walltime, until the task has
ended. A step that was trained more than once is wasted; the results must be the same to the bit.

    python benchmarks/walltime.py [--walltimes 10 20 40] [--points 3] [--epochs 300] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gridtune_common.protocol import Export, TaskState
from gridtune_common.taskfile import load_task
from real_service import RealService

EXAMPLE = Path(__file__).parents[1] / "examples" / "long_training"
#: Longer than anything here, in seconds.
FOREVER = 86_400.0


@dataclass(frozen=True)
class Cost:
    """What one walltime came to.

    Attributes:
        stretches: Evaluations.
        steps: Trained in all, some of them more than once.
        wasted: Steps that had been trained before.
        seconds: From the first agent's start to the end of the task.
        results: The checksum of each point's final weights.
    """

    stretches: int
    steps: int
    wasted: int
    seconds: float
    results: dict[int, float | None]


def main() -> int:
    """Print a row for each walltime; the exit code is 1 if any result differs from the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walltimes", type=float, nargs="+", default=[10.0, 20.0, 40.0], help="seconds")
    parser.add_argument("--points", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    lines = [
        "| walltime | stretches | steps | trained twice | wasted | seconds | same bits |",
        "|---------:|----------:|------:|--------------:|-------:|--------:|-----------|",
    ]
    print("\n".join(lines), flush=True)
    whole = run(FOREVER, arguments.points, arguments.epochs)
    is_same = True
    for walltime in [FOREVER, *arguments.walltimes]:
        cost = whole if walltime == FOREVER else run(walltime, arguments.points, arguments.epochs)
        same = cost.results == whole.results
        is_same = is_same and same
        name = "none" if walltime == FOREVER else f"{walltime:g} s"
        share = f"{100 * cost.wasted / cost.steps:.1f} %"
        numbers = f"{cost.stretches:9} | {cost.steps:5} | {cost.wasted:13} | {share:>6} | {cost.seconds:7.0f}"
        lines.append(f"| {name:>8} | {numbers} | {'yes' if same else 'NO':9} |")
        print(lines[-1], flush=True)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "walltime.md").write_text("\n".join(lines) + "\n")
    return 0 if is_same else 1


def run(walltime: float, points: int, epochs: int) -> Cost:
    """Tune the example with agents of this walltime, one at a time."""
    document = load_task(EXAMPLE / "task.yaml").task.to_json()
    document |= {"constants": {"epochs": epochs}, "stop": {"points": points}}
    document["algorithm"] = {"name": "random", "seed": 7, "options": {}}  # the same points, whoever trains them
    with tempfile.TemporaryDirectory() as folder:
        service = RealService(Path(folder))
        service.start()
        try:
            task = service.submit(document, train_py=(EXAMPLE / "train.py").read_text())
            started = time.monotonic()
            with service.client() as client:
                while client.task(task).summary.state is TaskState.RUNNING:
                    service.start_agent(task, "--walltime", f"{walltime:g}").wait()
            return _cost(service.export(task), time.monotonic() - started)
        finally:
            service.end()


def _cost(exported: Export, seconds: float) -> Cost:
    point_of = {evaluation.id: evaluation.point for evaluation in exported.evaluations}
    trained = Counter((point_of[report.evaluation], report.step) for report in exported.reports)
    return Cost(
        stretches=len(exported.evaluations),
        steps=sum(trained.values()),
        wasted=sum(trained.values()) - len(trained),
        seconds=seconds,
        results={point.number: point.metrics.get("checksum") for point in exported.points},
    )


if __name__ == "__main__":
    sys.exit(main())
