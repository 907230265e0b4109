"""What an agent adds to each evaluation: from the lease to the command's beginning, and from its end to the result.

A real service and a real agent with one slot on this machine; the payload is a shell that notes when it begins and
ends. Times of the service are those of its audit log (when the lease was given, when the result was taken), so that all
that lies between is in: HTTP, the working directory, the process, the spool, the bookkeeping.

    python benchmarks/overhead.py [--points 200] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gridtune_common.protocol import Export, TaskState
from real_service import RealService, wait_for
from service_bench import document

#: Milliseconds since 1970, without starting more than one program each time.
_COMMAND = "date +%s%N >> {log}; echo '{{\"loss\": 1}}' > output.json; date +%s%N >> {log}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    before, after = measure(arguments.points)
    lines = ["| milliseconds | p50 | p99 | longest |", "|--------------|----:|----:|--------:|"]
    both = [b + a for b, a in zip(before, after, strict=True)]
    for name, times in (("lease to command", before), ("command to result", after), ("both", both)):
        lines.append(f"| {name} | {share(times, 0.5):.0f} | {share(times, 0.99):.0f} | {max(times):.0f} |")
    print("\n".join(lines))
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        head = (
            f"{arguments.points} evaluations of an empty payload; {os.cpu_count()} cores for all processes together.\n"
        )
        (arguments.out / "overhead.md").write_text("\n".join([head, *lines]) + "\n")


def measure(points: int) -> tuple[list[float], list[float]]:
    """Milliseconds before and after each payload, in order of the points."""
    with tempfile.TemporaryDirectory() as folder:
        service, log = RealService(Path(folder)), Path(folder) / "times"
        service.start()
        try:
            command = _COMMAND.format(log=log)
            task = service.submit(document(points=points, payload={"command": command}))
            with service.client() as client:
                service.start_agent(task).wait()
                wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED)
            return _differences(service.export(task), [int(line) / 1e6 for line in log.read_text().split()])
        finally:
            service.end()


def _differences(exported: Export, noted: list[float]) -> tuple[list[float], list[float]]:
    started, done = (
        [1000 * datetime.fromisoformat(event.at).timestamp() for event in exported.events if event.kind == kind]
        for kind in ("evaluation.started", "point.done")
    )
    begun, ended = noted[::2], noted[1::2]
    return (
        [b - s for s, b in zip(started, begun, strict=True)],
        [d - e for e, d in zip(ended, done, strict=True)],
    )


def share(times: list[float], part: float) -> float:
    """A quantile."""
    return sorted(times)[min(int(part * len(times)), len(times) - 1)]


if __name__ == "__main__":
    main()
