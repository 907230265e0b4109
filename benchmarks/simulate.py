"""An experiment of many tasks and workers over hours, simulated on one machine: its cost, what gets old, what grows.

The service's own functions run on a real database. Events come from a heap: agents ask, say that they live, report,
tell, fail, leave, vanish without a word; users submit tasks and cancel some; a herd of workers comes within a minute, a
site goes away and comes back. When a task has ended, its user submits another, and its agents move on.

What is real: all that `services` does for requests, with the tokens' check; the database as it comes, with commits on
disk (unless --commits later, for machines whose disk is busy); optimizer hosts with live optimizers, and all that their
threads do each second; the rules of queues, seats and retries on the web side, and those of agents; processor times,
also those of the database's server.

What is simulated: time. Each web process and each optimizer host is a server of its own. What a request computes keeps
its web process busy, and its answer comes after what it took on the wall, waiting for the database included: other
requests go on meanwhile, as in threads. A host thinks in one thread: it is busy for as long as its round took on the
wall, and for what its other threads compute. So queues grow if somebody cannot keep up. A ring takes 2 ms, a message
10 ms.

What is not there: trainings, files, checkpoints and logs, people who look at pages, the limit of requests from one
token. HTTP (gunicorn's parser, Flask, JSON) is a constant for each request (--http-ms) that keeps its process busy; the
0.6 ms by default are what a heartbeat and an ask in vain were measured to cost more as requests than as calls. The
database is never busy with two calls at a time, so look at how many cores it needs: near the number of its cores it
would be slower. Whatever else the machine does at the time makes everything slower, too.

The exit code is 1 if something is not as it must be: see the first table of the report.

    python -m benchmarks.simulate [--tasks 40] [--workers 200] [--hours 0.5] [--web 2] [--hosts 2]
        [--database postgresql] [--seed 1] [--slots 4] [--training-minutes 10] [--points 20] [--lease-seconds 60]
        [--commits durable] [--algorithms random hyperopt/tpe …] [--out benchmarks/results]

An experiment of 1,000 tasks and 5,000 workers: --tasks 1000 --workers 5000 --hours 2 --web 4 --hosts 4.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # as in an optimizer host
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from benchmarks.scale.databases import KINDS, postgres_server
from benchmarks.scale.measured import today
from benchmarks.scale.processes import machine
from benchmarks.simulation.checks import find_flaws
from benchmarks.simulation.experiment import Experiment, experiment
from benchmarks.simulation.plan import Plan
from benchmarks.simulation.report import report

from servers.postgres import Postgres

#: Whether PostgreSQL has a transaction on disk when it says so, or within a second.
COMMITS = ("durable", "later")


def main() -> int:
    """Print the report, and write it; 1 if a promise was not kept."""
    arguments, where = _parser().parse_args(), machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgres_server()) if arguments.database == "postgresql" else None
        url, pid = (_new_database(server, arguments.commits), server.pid) if server is not None else ("", None)
        world = stack.enter_context(experiment(_plan(arguments), folder, url, pid))
        world.run()
        flaws = find_flaws(world)
        text = "\n".join([*_head(world, arguments, where), *report(world, flaws)])
    print("\n" + text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "simulate.md").write_text(text + "\n")
    return int(any(flaws.values()))


def _parser() -> argparse.ArgumentParser:
    usual = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tasks", "workers", "slots", "web", "hosts", "points", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(usual, name))
    parser.add_argument("--hours", type=float, default=usual.hours, help="of the simulation")
    parser.add_argument("--training-minutes", type=float, default=usual.training / 60, help="the mean")
    parser.add_argument("--lease-seconds", type=float, default=usual.lease, help="four signs of life in each")
    parser.add_argument("--reports", type=float, default=usual.reports, help="of each training, in the mean")
    parser.add_argument("--herd", type=float, default=usual.herd, help="the share of workers that come in one minute")
    parser.add_argument("--http-ms", type=float, default=1000 * usual.http)
    parser.add_argument("--algorithms", nargs="+", default=list(usual.algorithms))
    parser.add_argument("--database", choices=KINDS, default="postgresql")
    parser.add_argument("--commits", choices=COMMITS, default=COMMITS[0])
    parser.add_argument("--out", type=Path)
    return parser


def _new_database(server: Postgres, commits: str) -> str:
    url = server.new_database()
    if commits == "later":
        server.query(f'ALTER DATABASE "{url.rpartition("/")[2]}" SET synchronous_commit = off')
    return url


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        tasks=arguments.tasks,
        workers=arguments.workers,
        slots=arguments.slots,
        hours=arguments.hours,
        hosts=arguments.hosts,
        web=arguments.web,
        lease=arguments.lease_seconds,
        training=60 * arguments.training_minutes,
        points=arguments.points,
        reports=arguments.reports,
        herd=arguments.herd,
        http=arguments.http_ms / 1000,
        algorithms=tuple(arguments.algorithms),
        seed=arguments.seed,
    )


def _head(world: Experiment, arguments: argparse.Namespace, where: str) -> list[str]:
    plan, database = world.plan, arguments.database
    if arguments.commits == "later":
        database += " (commits not waited for)"
    flags = " ".join(map(shlex.quote, sys.argv[1:]))
    words = (
        f"{plan.tasks} tasks ({', '.join(plan.algorithms)}; {plan.points} points in the mean) and {plan.workers} "
        f"workers in agents of {plan.slots} for {plan.hours:g} hours on {database}; trainings of "
        f"{plan.training / 60:g} minutes in the mean, leases of {plan.lease:g} s. {plan.web} web process(es), "
        f"{plan.hosts} optimizer host(s), "
        f"{1000 * plan.http:g} ms for HTTP. {world.agenda.n_done} events in {world.wall_seconds / 60:.1f} minutes, "
        f"{today()}, {where}."
    )
    return ["# A simulated experiment", "", f"`{f'python -m benchmarks.simulate {flags}'.strip()}`", "", words]


if __name__ == "__main__":
    sys.exit(main())
