"""The table of asks and tells, and whether the targets were met."""

from __future__ import annotations

import argparse
import platform
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata

from servers import postgres

from . import services
from .measured import Case, Measured, today

_LIBRARIES = ("flask", "gunicorn", "sqlalchemy", "psycopg", "hyperopt", "optuna", "grpcio")
_HEAD = (
    "who", "database", "algorithm", "workers", "observations", "tasks", "reports", "seconds",
    "pairs/s", "/ Optuna RDB", "/ pgbench", "/ empty route",
    "ask p50", "p95", "p99", "tell p50", "p95", "p99", "report p50", "p95", "p99",
    "cores: clients", "service", "database", "errors",
)  # fmt: skip
_READING = """\
A pair is an ask and a tell; of pgbench and of commits it is a transaction, and of the empty route it is two requests.
Times are in milliseconds; of fewer than a hundred calls, p99 is the longest. The ratios are of pairs a second, to the
peer with as many workers (and to Optuna with as many observations). Where evaluations take no time (seconds), all
workers push as hard as they can. Optuna computes its points in its clients: their cores are a part of what it needs,
while gridtune's clients do nothing but HTTP. On a machine of few cores both share these with the servers."""
#: What is aimed at: as many times the pairs of Optuna, as little a part of its p99, of that at 0, and of pgbench.
_FASTER, _SHORTER, _GROWTH, _SHARE = 50.0, 1 / 50, 1.5, 1 / 5


def report(measured: Sequence[Measured], arguments: argparse.Namespace, flags: str, where: str) -> str:
    """The whole page."""
    rows = [_row(each, measured) for each in measured]
    return "\n".join(
        [
            "# Asks and tells per second",
            "",
            f"`python -m benchmarks.asktell {flags}`".replace(" `", "`"),
            "",
            *_circumstances(arguments, where),
            "",
            _READING,
            "",
            *_table(_HEAD, rows),
            "",
            "## Targets",
            "",
            *_table(("target", "found", "met"), list(targets(measured))),
            "",
        ]
    )


def _circumstances(arguments: argparse.Namespace, where: str) -> list[str]:
    versions = [f"Python {platform.python_version()}", *_versions()]
    if (program := postgres.program("postgres")) is not None and "postgresql" in arguments.databases:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        versions.append(f"PostgreSQL {said.split()[2]} with fsync on")
    lasting = f"{arguments.seconds:g} s each after {arguments.warm:g} s of warm-up"
    return [f"{today()}, {where}; {services.described(arguments)}; {lasting}. {', '.join(versions)}."]


def _versions() -> Iterator[str]:
    for name in _LIBRARIES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue


def _row(each: Measured, measured: Sequence[Measured]) -> list[str]:
    case, cpu = each.case, each.tally.cpu
    quantiles = [each.quantile(kind, share) for kind in ("ask", "tell", "report") for share in (0.5, 0.95, 0.99)]
    times = [_number(value) for value in quantiles]
    cores = [_number(cpu.get(name), 2) for name in ("clients", "service", "database")]
    numbers = [f"{n:g}" for n in (case.workers, case.observations, case.tasks, case.reports, case.seconds)]
    ratios = [_ratio(each, peer(each, who, measured)) for who in ("Optuna, RDB", "pgbench", "empty route")]
    names = [each.who, each.database, case.algorithm]
    return [*names, *numbers, f"{each.pairs:.1f}", *ratios, *times, *cores, str(each.tally.errors)]


def peer(each: Measured, who: str, measured: Iterable[Measured]) -> Measured | None:
    """Whom to compare with: as many workers and, if it has any, as many observations; limits have no peers."""
    fitting = (
        other
        for other in measured
        if other.who == who
        and other.case.workers == each.case.workers
        and (not other.case.algorithm or other.case.observations == each.case.observations)
        and (not other.case.algorithm or other.case.seconds == each.case.seconds)
        and (each.database == "postgresql" or who == "empty route")
    )
    return None if each.who == who or not each.case.algorithm else next(fitting, None)


def targets(measured: Sequence[Measured]) -> Iterator[list[str]]:
    """What is aimed at, as far as it was measured; what was found, and whether that is enough."""
    ours = [each for each in measured if each.who == "gridtune" and each.database == "postgresql"]
    for each in ours:
        case = each.case
        optuna = peer(each, "Optuna, RDB", measured)
        if "tpe" in case.algorithm and (case.workers, case.observations, case.tasks) == (16, 500, 1) and optuna:
            ratio = each.pairs / optuna.pairs if optuna.pairs else float("inf")
            if not case.seconds:
                aim = f"≥ {_FASTER:g} times the pairs/s of Optuna's RDB storage"
                yield _verdict(f"{_name(case)}: {aim}", ratio, ratio >= _FASTER)
            part = _part(each, optuna)
            yield _verdict(f"{_name(case)}: ask p99 ≤ 1/50 of Optuna's", part, part <= _SHORTER)
    for each in ours:
        before = next((other for other in ours if other.case == _emptied(each.case)), None)
        if each.case.observations == 10_000 and before is not None:
            growth = _part(each, before)
            yield _verdict(f"{_name(each.case)}: ask p99 ≤ {_GROWTH:g} times that at 0", growth, growth <= _GROWTH)
    for each in ours:
        floor = peer(each, "pgbench", measured)
        if each.case.algorithm == "random" and not each.case.observations and not each.case.reports and floor:
            share = each.pairs / floor.pairs
            yield _verdict(f"{_name(each.case)}: pairs/s ≥ 1/5 of pgbench's rate", share, share >= _SHARE)


def _part(each: Measured, other: Measured) -> float:
    ours, theirs = each.quantile("ask", 0.99), other.quantile("ask", 0.99)
    return ours / theirs if ours is not None and theirs else float("nan")


def _emptied(case: Case) -> Case:
    return Case(case.algorithm, case.workers, 0, case.tasks, case.reports)


def _name(case: Case) -> str:
    tasks = "one hot task" if case.tasks == 1 else f"{case.tasks} tasks"
    pace = f", evaluations of {case.seconds:g} s" if case.seconds else ""
    return f"{case.algorithm}, {case.workers} workers, {case.observations} observations, {tasks}{pace}"


def _verdict(target: str, found: float, is_met: bool) -> list[str]:
    return [target, f"{found:.3g}", "yes" if is_met else "**no**"]


def _ratio(each: Measured, other: Measured | None) -> str:
    return f"{each.pairs / other.pairs:.3g}" if other is not None and other.pairs else "-"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cell or '-' for cell in row)} |" for row in rows),
    ]
