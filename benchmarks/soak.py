"""Many workers on many tasks for some time: whether calls fail, leases get lost, asks become slow or memory grows.

Evaluations take a random time (exponentially distributed) and report while they run, so that the service has spare time
if the machine is up to it. Failed calls are repeated, as agents do, and each failure is counted.

    python -m benchmarks.soak [--minutes 10] [--workers 256] [--tasks 100] [--algorithm random]
        [--evaluation-seconds 20] [--reports 2] [--database postgresql] [--web 1] [--hosts 1] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

import sqlalchemy as sa
from benchmarks.scale import services
from benchmarks.scale.crowd import Crowd, work
from benchmarks.scale.databases import KINDS, served_databases
from benchmarks.scale.measured import quantile, today
from benchmarks.scale.processes import machine, memory_by_command
from benchmarks.scale.services import Served
from benchmarks.scale.tally import Tally

from gridtune_steering.bookkeeping import schema
from gridtune_steering.bookkeeping.database import Database

#: Into how many parts the time is cut.
_PARTS = 10


class Memory:
    """Looks at the memory of the service's processes at the start, in the middle and at the end."""

    def __init__(self, pid: int, seconds: float) -> None:
        self.looks: list[tuple[str, dict[str, float]]] = []
        self._pid = pid
        self._due = [(0.0, "start"), (seconds / 2, "middle")]

    def look(self, passed: float) -> None:
        """Look if it is time."""
        if self._due and passed >= self._due[0][0]:
            self.take(self._due.pop(0)[1])

    def take(self, name: str) -> None:
        """Look now."""
        self.looks.append((name, memory_by_command(self._pid)))


def main() -> None:
    """Print what happened, and write it."""
    arguments, where = _parser().parse_args(), machine()
    with ExitStack() as stack:
        urls = stack.enter_context(served_databases([arguments.database]))
        served = stack.enter_context(services.service(urls[arguments.database](), *services.serve_flags(arguments)))
        tasks = services.submit(served, arguments.algorithm, arguments.tasks)
        memory = Memory(served.pid, 60 * arguments.minutes)
        tally = _work(served, tasks, memory, arguments)
        memory.take("end")
        n_lost = _n_events(served, "evaluation.lost")
    text = "\n".join(
        [*_head(arguments, where), *_what_happened(tally, n_lost), "", *_asks(tally), "", *_memory(memory)]
    )
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "soak.md").write_text(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--algorithm", default="random")
    parser.add_argument("--evaluation-seconds", type=float, default=20.0, help="the mean")
    parser.add_argument("--reports", type=int, default=2, help="of each evaluation")
    parser.add_argument("--database", choices=KINDS, default="postgresql")
    services.add_processes(parser)
    parser.add_argument("--out", type=Path)
    return parser


def _work(served: Served, tasks: list[str], memory: Memory, arguments: argparse.Namespace) -> Tally:
    options = served.options(tasks, evaluation_seconds=arguments.evaluation_seconds, reports=arguments.reports)
    crowd = Crowd(kind="service", options=options, workers=arguments.workers, processes=arguments.processes)
    return work(crowd, 60 * arguments.minutes, 0.0, {"service": served.pid}, memory.look)


def _n_events(served: Served, kind: str) -> int:
    database = Database(served.database)
    query = sa.select(sa.func.count()).where(schema.events.c.kind == kind)
    with database.read() as connection:
        found = connection.execute(query).scalar_one()
    database.close()
    return found


def _head(arguments: argparse.Namespace, where: str) -> list[str]:
    flags = " ".join(map(shlex.quote, sys.argv[1:]))
    words = (
        f"{arguments.workers} workers on {arguments.tasks} tasks ({arguments.algorithm}) for {arguments.minutes:g} "
        f"minutes on {arguments.database}; evaluations of {arguments.evaluation_seconds:g} s in the mean with "
        f"{arguments.reports} reports each. {services.described(arguments)}. {today()}, {where}."
    )
    return ["# A soak", "", f"`{f'python -m benchmarks.soak {flags}'.strip()}`", "", words, ""]


def _what_happened(tally: Tally, n_lost: int) -> list[str]:
    cores = ", ".join(f"{who} {cores:.2f}" for who, cores in tally.cpu.items())
    return [
        f"* {len(tally.calls.get('tell', []))} points, {tally.pairs:.1f} a second; cores busy: {cores}",
        f"* failed calls: {tally.errors}; leases lost: {n_lost}",
        *(f"* {name}: {n}" for name, n in sorted(tally.counts.items())),
    ]


def _asks(tally: Tally) -> list[str]:
    """How calls became faster or slower; all workers ask at once in the beginning."""
    lines = ["| from minute | asks | ask p50 ms | p99 | tell p99 | report p99 |", "|---:|---:|---:|---:|---:|---:|"]
    length = tally.seconds / _PARTS
    for part in range(_PARTS):
        since, until = part * length, (part + 1) * length
        asks = tally.times("ask", since, until)
        shares = [("ask", 0.5), ("ask", 0.99), ("tell", 0.99), ("report", 0.99)]
        found = [_milliseconds(tally.times(kind, since, until), share) for kind, share in shares]
        lines.append(f"| {since / 60:.1f} | {len(asks)} | {' | '.join(found)} |")
    return lines


def _milliseconds(times: list[float], share: float) -> str:
    return f"{1000 * quantile(times, share):.0f}" if times else "-"


def _memory(memory: Memory) -> list[str]:
    names = sorted({name for _, found in memory.looks for name in found})
    whens = [when for when, _ in memory.looks]
    lines = [f"| MiB of process | {' | '.join(whens)} |", f"|---|{'---:|' * len(whens)}"]
    for name in names:
        cells = (f"{found[name]:.0f}" if name in found else "-" for _, found in memory.looks)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
