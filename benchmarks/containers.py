"""An evaluation in a container against ``docker run`` of the same command, image and limits.

Both in the same run, taking turns, on an engine of the benchmark's own. An evaluation lasts from its lease to its
result, by the service's audit log: HTTP, the working directory, the container from its creation to its removal, the
bookkeeping. ``docker run --rm`` lasts from the start of the program to its end.

    python benchmarks/containers.py [--points 40] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


from gridtune_common.protocol import Export, TaskState
from real_service import RealService, wait_for
from servers.docker import Docker
from servers.images import IMAGE
from service_bench import document

COMMAND = """echo '{"loss": 1}' > output.json"""
#: What the agent gives its containers, too.
LIMITS = ("--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--log-driver=none")
#: So many of each, then the others: the machine's moods meet both alike.
TURN = 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=40)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    alone, evaluated = measure(arguments.points)
    ratio = statistics.median(evaluated) / statistics.median(alone)
    lines = ["| milliseconds | p50 | p90 | longest |", "|--------------|----:|----:|--------:|"]
    for name, times in (("docker run", alone), ("evaluation", evaluated)):
        p90 = statistics.quantiles(times, n=10)[-1]
        lines.append(f"| {name} | {statistics.median(times):.0f} | {p90:.0f} | {max(times):.0f} |")
    lines += ["", f"Ratio of the medians: {ratio:.2f}"]
    print("\n".join(lines))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        head = f"{len(alone)} of each, of an empty payload; {os.cpu_count()} cores for all processes together.\n"
        (arguments.out / "containers.md").write_text("\n".join([head, *lines]) + "\n")


def measure(points: int) -> tuple[list[float], list[float]]:
    """Milliseconds of ``docker run``, and of evaluations."""
    alone: list[float] = []
    evaluated: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = Docker(Path(tempfile.mkdtemp(prefix="gridtune-benchmark-docker-")))
        service = RealService(Path(folder))
        try:
            engine.start()
            os.environ["DOCKER_HOST"] = engine.address
            service.start()
            _evaluations(service, 2)  # the first ones wake everything up
            while len(evaluated) < points:
                alone += [_docker_run(engine, Path(folder)) for _ in range(TURN)]
                evaluated += _evaluations(service, TURN)
        finally:
            service.end()
            engine.end()
    return alone, evaluated


def _docker_run(engine: Docker, folder: Path) -> float:
    work = Path(tempfile.mkdtemp(dir=folder))
    work.chmod(0o777)
    words = ["docker", "run", "--rm", *LIMITS, "--user=65534:65534", "--cpuset-cpus=0,1", "--workdir=/gridtune"]
    words += [f"--volume={work}:/gridtune", "--entrypoint=/bin/sh", IMAGE, "-c", COMMAND]
    started = time.perf_counter()
    subprocess.run(words, env={**os.environ, "DOCKER_HOST": engine.address}, check=True)
    return 1000 * (time.perf_counter() - started)


def _evaluations(service: RealService, points: int) -> list[float]:
    task = service.submit(document(points=points, payload={"command": COMMAND, "image": IMAGE, "pull": "never"}))
    agent = service.start_agent(task)
    with service.client() as client:
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED)
    agent.wait()
    return _durations(service.export(task))


def _durations(exported: Export) -> list[float]:
    failures = [evaluation.message for evaluation in exported.evaluations if evaluation.message]
    assert not failures, failures[0]
    started, done = (
        [1000 * datetime.fromisoformat(event.at).timestamp() for event in exported.events if event.kind == kind]
        for kind in ("evaluation.started", "point.done")
    )
    return [d - s for s, d in zip(started, done, strict=True)]


if __name__ == "__main__":
    main()
