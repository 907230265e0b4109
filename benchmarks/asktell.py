"""Asks and tells per second of the real service, beside its peers and the limits of this machine in the same run.

Starts ``gridtune serve`` on a fresh database and drives it with the agents' own HTTP client from other processes, as
fast as it goes: workers that need no time for their evaluations; one case has evaluations of some seconds, so that
calls wait for nobody but the service. An ask counts until there is a point, however often it
has to be repeated. Beside it, with as many workers in as many processes, on the same server:

* Optuna's ``study.ask`` (with all its suggestions) and ``study.tell`` on ``RDBStorage``, and through its gRPC proxy,
  with ``TPESampler`` as it comes;
* OSS Vizier's service with random search, on SQLite, if an interpreter that has it is named;
* pgbench's simple update, which is what the database allows at most;
* a route that does nothing behind gunicorn set up like the service's, two requests for a pair, which is what the web
  server and the clients allow at most.

Read ratios, not seconds.

    python -m benchmarks.asktell [--seconds 10] [--databases postgresql sqlite] [--out benchmarks/results]
        [--grid --workers 1 16 64 256 --observations 0 1000 10000 --algorithms random hyperopt/tpe optuna/tpe auto
         --tasks 1 100] [--optuna-observations 0 500] [--vizier-python vizier/bin/python] [--web 1] [--hosts 1]

Without ``--grid`` it takes about a quarter of an hour on PostgreSQL, for a choice of cases that has the targets in it.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from benchmarks.scale import limits, peers, services
from benchmarks.scale.asktell_report import report
from benchmarks.scale.crowd import Crowd, work
from benchmarks.scale.databases import KINDS, postgres_server
from benchmarks.scale.measured import Case, Measured
from benchmarks.scale.processes import machine
from benchmarks.scale.tally import Tally, deal

from servers.postgres import Postgres

#: The case that the comparison with Optuna is about: workers and observations.
TARGET = (16, 500)
#: The mean of evaluations that leave both some rest, in seconds.
_CALM = 4.0
_ALGORITHMS = ["random", "hyperopt/tpe", "optuna/tpe", "auto"]


def main() -> None:
    """Measure, print and write."""
    arguments, where = _parser().parse_args(), machine()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = stack.enter_context(postgres_server()) if "postgresql" in arguments.databases else None
        measured = list(_shown(Measurement(arguments, server, Path(folder)).everything()))
    text = report(measured, arguments, " ".join(map(shlex.quote, sys.argv[1:])), where)
    print("\n" + text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "asktell.md").write_text(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each measurement")
    parser.add_argument("--warm", type=float, default=2.0, help="time before each measurement that does not count")
    parser.add_argument("--databases", nargs="+", choices=KINDS, default=["postgresql"])
    parser.add_argument("--grid", action="store_true", help="all combinations of the next four, instead of a choice")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--observations", type=int, nargs="+", default=[0, 1000, 10_000])
    parser.add_argument("--algorithms", nargs="+", default=_ALGORITHMS)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--optuna-observations", type=int, nargs="*", default=[0, TARGET[1]])
    parser.add_argument("--optuna-workers", type=int, nargs="*", default=[1, TARGET[0]])
    parser.add_argument("--vizier-python", help="an interpreter that has google-vizier (benchmarks/scale/vizier.py)")
    services.add_processes(parser)
    parser.add_argument("--out", type=Path)
    return parser


def chosen(arguments: argparse.Namespace) -> list[Case]:
    """The cases of the service, each once."""
    if arguments.grid:
        grid = itertools.product(arguments.algorithms, arguments.tasks, arguments.observations, arguments.workers)
        return [Case(algorithm, workers, n, tasks) for algorithm, tasks, n, workers in grid]
    workers, observations = TARGET
    return list(
        dict.fromkeys(
            [
                *(Case(algorithm, workers, observations) for algorithm in ("hyperopt/tpe", "optuna/tpe")),
                *(Case("random", n) for n in arguments.workers),
                *(Case("random", n, tasks=100) for n in arguments.workers if n > 1),
                *(Case(name, workers, n) for name in arguments.algorithms for n in arguments.observations),
                Case("hyperopt/tpe", 64, tasks=100),
                Case("random", workers, reports=1),
                Case("hyperopt/tpe", workers, observations, seconds=_CALM),
            ]
        )
    )


class Measurement:
    """One run: everything on the same machine, one after the other.

    Args:
        arguments: What was asked for.
        server: PostgreSQL, if it is among the databases.
        folder: For files.
    """

    def __init__(self, arguments: argparse.Namespace, server: Postgres | None, folder: Path) -> None:
        self._arguments = arguments
        self._server = server
        self._folder = folder

    def everything(self) -> Iterator[Measured]:
        """The limits, the peers, the service."""
        yield from self._limits()
        yield from self._peers()
        for kind in self._arguments.databases:
            for case in chosen(self._arguments):
                yield self._service(kind, case)

    def _limits(self) -> Iterator[Measured]:
        seconds = self._arguments.seconds
        if "sqlite" in self._arguments.databases:
            rate = limits.sqlite_rate(self._folder, seconds)
            yield Measured("sqlite", "commits", Case("", 1), Tally(seconds), rate)
        for workers in self._arguments.workers if self._server is not None else ():
            assert self._server is not None
            rate = limits.pgbench_rate(self._server, workers, seconds)
            yield Measured("postgresql", "pgbench", Case("", workers), Tally(seconds), rate)
        with limits.empty_server(self._arguments.web) as (url, pid):
            for workers in self._arguments.workers:
                tally = self._work("empty", {"url": url}, workers, {"service": pid})
                yield Measured("", "empty route", Case("", workers), tally)

    def _peers(self) -> Iterator[Measured]:
        pairs = itertools.product(self._arguments.optuna_workers, self._arguments.optuna_observations)
        for workers, observations in pairs if self._server is not None else ():
            yield self._optuna(Case("optuna/tpe", workers, observations))
            if (workers, observations) == TARGET:
                yield self._optuna(Case("optuna/tpe", workers, observations, seconds=_CALM))
                yield self._optuna_by_proxy(Case("optuna/tpe", workers, observations))
        if self._arguments.vizier_python:
            yield self._vizier(Case("random", TARGET[0]))

    def _optuna(self, case: Case) -> Measured:
        assert self._server is not None
        url = self._server.new_database()
        connections = max(deal(case.workers, self._arguments.processes))
        study = peers.optuna_study(url, case.observations)
        options = {**study, "connections": connections, "evaluation_seconds": case.seconds}
        tally = self._work("optuna", options, case.workers, {})
        self._server.drop(url)
        return Measured("postgresql", "Optuna, RDB", case, tally)

    def _optuna_by_proxy(self, case: Case) -> Measured:
        assert self._server is not None
        url = self._server.new_database()
        options = peers.optuna_study(url, case.observations)
        with peers.grpc_proxy(options["url"]) as (port, pid):
            tally = self._work("optuna", {"study": options["study"], "port": port}, case.workers, {"service": pid})
        self._server.drop(url)
        return Measured("postgresql", "Optuna, gRPC proxy", case, tally)

    def _vizier(self, case: Case) -> Measured:
        python = self._arguments.vizier_python
        with peers.vizier_service(python, self._folder) as (options, pid):
            tally = self._work("vizier", options, case.workers, {"service": pid}, python)
        return Measured("sqlite", "OSS Vizier", case, tally)

    def _service(self, kind: str, case: Case) -> Measured:
        url = self._server.new_database() if self._server is not None and kind == "postgresql" else ""
        with services.service(url, *services.serve_flags(self._arguments)) as served:
            tasks = services.submit(served, case.algorithm, case.tasks, case.observations)
            options = served.options(tasks, reports=case.reports, evaluation_seconds=case.seconds)
            tally = self._work("service", options, case.workers, {"service": served.pid})
        if self._server is not None and url:
            self._server.drop(url)
        return Measured(kind, "gridtune", case, tally)

    def _work(
        self, kind: str, options: dict[str, object], workers: int, watched: dict[str, int], python: str = sys.executable
    ) -> Tally:
        crowd = Crowd(kind=kind, options=options, workers=workers, processes=self._arguments.processes, python=python)
        if self._server is not None:
            watched = {**watched, "database": self._server.pid}
        return work(crowd, self._arguments.seconds, self._arguments.warm, watched)


def _shown(measured: Iterator[Measured]) -> Iterator[Measured]:
    """Say each thing as soon as it is known."""
    for each in measured:
        print(each.line(), flush=True)
        yield each


if __name__ == "__main__":
    main()
