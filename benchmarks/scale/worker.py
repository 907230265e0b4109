"""``python -m benchmarks.scale.worker``: some workers of a crowd, as threads of one process.

Reads its job from standard input, says that it is ready, starts at the next line, and writes what it saw as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from typing import Any

from benchmarks.scale import seats
from benchmarks.scale.seats import Notes


def main() -> None:
    """Do one job."""
    job = json.loads(sys.stdin.readline())
    numbers = range(job["first"], job["first"] + job["workers"])
    taken = [seats.take(job["kind"], job["options"], number) for number in numbers]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(work(taken, job["warm"], job["seconds"])), flush=True)
    for seat in taken:
        seat.close()


def work(taken: list[seats.Seat], warm: float, seconds: float) -> dict[str, Any]:
    """Let all workers work; times are seconds since the measurement began, after the warm-up."""
    notes = Notes()
    begins = time.perf_counter() + warm
    ends = begins + seconds

    def lead(seat: seats.Seat) -> None:
        while time.perf_counter() < ends:
            seat.pair(notes)

    threads = [threading.Thread(target=lead, args=(seat,)) for seat in taken]
    for thread in threads:
        thread.start()
    time.sleep(warm)
    cpu = -_cpu()
    time.sleep(max(0.0, ends - time.perf_counter()))
    cpu += _cpu()
    for thread in threads:
        thread.join()
    calls = {
        kind: [(begun - begins, ended - begins) for begun, ended in times if ended >= begins]
        for kind, times in notes.calls.items()
    }
    return {"calls": calls, "counts": notes.counts, "cpu": cpu}


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
