"""Asks and tells per second of the real service, against the limits of this machine in the same run.

Starts ``gridtune serve`` on a fresh folder and drives it with the agents' own HTTP client. Beside it, in the same run:

* the rate of a route that does nothing (``/healthz``), which is what the web server and the client allow at most;
* the rate of the smallest durable SQLite transaction on the same disk, which is what the database allows at most:
  a pair of ask and tell needs three (ask, tell, and the host's new point).

Read ratios, not seconds: `python benchmarks/asktell.py [--seconds 5] [--workers 1 4 16]`.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gridtune_common.client import Client, NothingYet, TaskEnded, new_request_id
from gridtune_common.protocol import Ask, Tell
from real_service import RealService
from service_bench import document, loss_of


def main() -> None:
    """Print one line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--algorithms", nargs="+", default=["random", "hyperopt/tpe"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = RealService(Path(folder))
        service.start()
        try:
            measure(service, arguments)
        finally:
            service.end()


def measure(service: RealService, arguments: argparse.Namespace) -> None:
    """All measurements, the limits first."""
    commits = sqlite_commits(service.folder, arguments.seconds)
    print(f"limit: {commits:7.0f} durable SQLite transactions/s (one writer)")
    for workers in arguments.workers:
        print(f"limit: {empty_routes(service, workers, arguments.seconds):7.0f} empty routes/s with {workers} clients")
    print(
        f"\n{'algorithm':14}{'workers':>8}{'pairs/s':>9}{'of limit':>9}  ask p50, p95, p99 ms     tell p50, p95, p99 ms"
    )
    for algorithm in arguments.algorithms:
        for workers in arguments.workers:
            pairs, asks, tells = ask_tell(service, algorithm, workers, arguments.seconds)
            share = pairs / (commits / 3)
            print(f"{algorithm:14}{workers:8}{pairs:9.1f}{share:9.0%}  {spread(asks)}     {spread(tells)}")


def sqlite_commits(folder: Path, seconds: float) -> float:
    """Durable one-row transactions a second."""
    with contextlib.closing(sqlite3.connect(folder / "limit.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (n INTEGER)")
        started, n = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t VALUES (?)", (n,))
            connection.execute("COMMIT")
            n += 1
        return n / seconds


def empty_routes(service: RealService, workers: int, seconds: float) -> float:
    """Requests a second to a route that does nothing."""
    counts = [0] * workers

    def work(index: int, ends: float) -> None:
        with contextlib.closing(Client(service.url, "")) as client:
            while time.perf_counter() < ends:
                client.alive()
                counts[index] += 1

    in_threads(work, workers, seconds)
    return sum(counts) / seconds


def ask_tell(
    service: RealService, algorithm: str, workers: int, seconds: float
) -> tuple[float, list[float], list[float]]:
    """Pairs a second on one fresh task, and how long each ask and tell took, in seconds."""
    task = service.submit(document(points=10**6, algorithm=algorithm))
    asks: list[float] = []
    tells: list[float] = []

    def work(index: int, ends: float) -> None:
        with contextlib.closing(Client(service.url, service.token)) as client:
            while time.perf_counter() < ends:
                started = time.perf_counter()
                lease = client.ask(task, Ask(new_request_id(), f"w{index}", wait=5))
                if isinstance(lease, (NothingYet, TaskEnded)):
                    continue
                between = time.perf_counter()
                loss = loss_of(lease.parameters)
                client.tell(lease.evaluation, Tell(new_request_id(), lease.epoch, {"loss": loss}))
                asks.append(between - started)
                tells.append(time.perf_counter() - between)

    in_threads(work, workers, seconds)
    return len(tells) / seconds, asks, tells


def in_threads(work: Callable[[int, float], None], n: int, seconds: float) -> None:
    """Run *work* n times at once, each with its number and the time at which to end."""
    ends = time.perf_counter() + seconds
    threads = [threading.Thread(target=work, args=(index, ends)) for index in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def spread(times: list[float]) -> str:
    """Median, 95th and 99th percentile in milliseconds."""
    cuts = statistics.quantiles(times, n=100)
    return ", ".join(f"{cuts[index] * 1000:6.1f}" for index in (49, 94, 98))


if __name__ == "__main__":
    main()
