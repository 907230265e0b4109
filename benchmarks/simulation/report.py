"""What a simulation came to, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from benchmarks.scale.measured import quantile

from .experiment import Experiment
from .growth import Look
from .journal import PARTS, Journal, Times, Work

#: Work of the web side that no request brings.
_NO_REQUESTS = frozenset({"presence", "look again, called", "look again, unasked"})
_MOST_STATEMENTS = 15
_STATEMENT_SHOWN = 110
_HOUR = 3600.0
_MIB = 2**20


def report(world: Experiment, flaws: Mapping[str, Sequence[str]]) -> list[str]:
    """All tables."""
    sections = {
        "What must be true": _promises(flaws),
        "What an hour costs": [*_cores(world), "", _COSTS],
        "How it went": [*_course(world), "", _COURSE],
        "Calls and rounds": _works(world),
        "Statements": [*_statements(world), "", _STATEMENTS],
        "What grows": [*_rows(world), "", _ROWS],
        "Seen besides": _counts(world.journal),
    }
    return [line for title, lines in sections.items() for line in ("", f"## {title}", "", *lines)]


_COSTS = """\
Processor time for an hour of the simulation, and as cores: in the mean, and in the busiest tenth of the time. The web
side's includes the constant for HTTP. Of the database's server: the processes that serve the web side, those that
serve the hosts, and all the others of it (checkpoints, write-ahead log, autovacuum, the looks of the benchmark)."""
_COURSE = """\
`ask` is the time from a free worker's first ask to a point that nobody had before (when a task's budget is used up,
workers wait for points that may come back for as long as somebody has them), `learnt` the time from a result's commit
to that of the round in which its optimizer learnt it, both in milliseconds. `web queue` and `hosts' queue` are how long
requests and rings wait before anything is done with them, p99 in milliseconds. `MiB` is the process in which all of the
service and the simulation are."""
_STATEMENTS = """\
The dearest ones: how often, what they took together for an hour of the simulation, and one in the mean in the first
and in the second half of the time, until the driver has the answer."""
_ROWS = """\
`an hour` is what the second half added, for an hour. `requests` are forgotten after a day
(`GRIDTUNE_STEERING_REQUEST_MEMORY_SECONDS`), `askers` after an hour; the rest stays until its task is deleted or
archived."""


def _promises(flaws: Mapping[str, Sequence[str]]) -> list[str]:
    rows = [[promise, "yes" if not found else f"**no**, {len(found)} times"] for promise, found in flaws.items()]
    examples = [f"* {flaw}" for found in flaws.values() for flaw in found[:5]]
    return [*_table(["promise", "kept"], rows), *([""] if examples else []), *examples]


# --- processor time


def _web_cpu(world: Experiment) -> list[float]:
    """Of each part."""
    return [
        sum(
            work.cpu[part] + (0.0 if kind in _NO_REQUESTS else world.plan.http * len(work.wall.of_part(part)))
            for (who, kind), work in world.journal.works.items()
            if who == "web"
        )
        for part in range(PARTS)
    ]


def _hosts_cpu(world: Experiment) -> list[float]:
    works = [work for (who, _), work in world.journal.works.items() if who == "hosts"]
    return [sum(work.cpu[part] for work in works) for part in range(PARTS)]


def _server_cpu(looks: Sequence[Look], who: str) -> list[float]:
    def of(look: Look) -> float:
        total = look.server or 0.0
        return total - sum(look.backends.values()) if who == "others" else look.backends.get(who, 0.0)

    return [of(after) - of(before) for before, after in pairwise(looks)]


def _cores(world: Experiment) -> list[str]:
    plan, looks = world.plan, world.growth.looks
    spent = {f"web side ({plan.web})": _web_cpu(world), f"optimizer hosts ({plan.hosts})": _hosts_cpu(world)}
    if looks[0].server is not None:
        spent["database, for the web side"] = _server_cpu(looks, "web")
        spent["database, for the hosts"] = _server_cpu(looks, "hosts")
        spent["database, all else"] = _server_cpu(looks, "others")
    length = plan.seconds / PARTS
    rows = [
        [who, f"{sum(each) / plan.hours:.0f}", f"{sum(each) / plan.seconds:.2f}", f"{max(each) / length:.2f}"]
        for who, each in spent.items()
    ]
    return _table(["who", "seconds an hour", "cores", "at most"], rows)


# --- what was seen


def _course(world: Experiment) -> list[str]:
    journal, looks = world.journal, world.growth.looks
    length = world.plan.seconds / PARTS
    web, hosts = _web_cpu(world), _hosts_cpu(world)
    server = [sum(each) for each in zip(*(_server_cpu(looks, who) for who in ("web", "hosts", "others")), strict=True)]
    rows = [
        [
            f"{part * length / 60:.0f}",
            str(len(journal.asks.of_part(part))),
            _three(journal.asks.of_part(part)),
            str(len(journal.learning.of_part(part))),
            _three(journal.learning.of_part(part)),
            _p99(journal.queues["web"], part),
            _p99(journal.queues["hosts"], part),
            f"{web[part] / length:.2f}",
            f"{hosts[part] / length:.2f}",
            f"{server[part] / length:.2f}",
            f"{looks[part + 1].memory:.0f}",
            str(looks[part + 1].campaigns),
        ]
        for part in range(PARTS)
    ]
    names = ["asks", "ask p50, p99, max", "results", "learnt p50, p99, max", "web queue", "hosts' queue"]
    return _table(
        ["from minute", *names, "cores web", "hosts", "database", "MiB", "campaigns in memory"],
        [*rows, ["all", *_of_all(world), *[""] * 5]],
    )


def _of_all(world: Experiment) -> list[str]:
    journal = world.journal
    found: list[str] = []
    for times in (journal.asks, journal.learning):
        found += [str(len(times.all)), _three(times.all)]
    return [*found, *(_milliseconds(journal.queues[where].all, 0.99) for where in ("web", "hosts"))]


def _works(world: Experiment) -> list[str]:
    def total(work: Work) -> float:
        return sum(work.cpu)

    rows = []
    for (who, kind), work in sorted(world.journal.works.items(), key=lambda entry: -total(entry[1])):
        times = work.wall.all
        each = [f"{1000 * total(work) / len(times):.2f}", *(_milliseconds(times, share) for share in (0.5, 0.99, 1.0))]
        hours = world.plan.hours
        rows.append([who, kind, f"{len(times) / hours:.0f}", f"{total(work) / hours:.1f}", *each])
    head = ["who", "what", "times an hour", "processor seconds an hour", "processor ms each", "ms p50", "p99", "max"]
    return _table(head, rows)


def _statements(world: Experiment) -> list[str]:
    known = sorted(world.journal.statements.items(), key=lambda entry: -sum(entry[1].seconds))
    rows = []
    for (who, statement), seen in known[:_MOST_STATEMENTS]:
        halves = [f"{1000 * seen.seconds[half] / seen.n[half]:.2f}" if seen.n[half] else "-" for half in (0, 1)]
        hours = world.plan.hours
        totals = [f"{sum(seen.n) / hours:.0f}", f"{sum(seen.seconds) / hours:.1f}"]
        rows.append([who, f"`{_short(statement)}`", *totals, *halves])
    return _table(["who", "statement", "times an hour", "seconds an hour", "ms, first half", "second half"], rows)


def _short(statement: str) -> str:
    words = " ".join(statement.split()).replace("|", "\\|").replace("`", "'")
    if words.startswith("SELECT ") and " FROM " in words[_STATEMENT_SHOWN // 3 :]:
        selected, _, rest = words.partition(" FROM ")
        words = f"{selected[: _STATEMENT_SHOWN // 3]} … FROM {rest}"
    return words[:_STATEMENT_SHOWN]


def _rows(world: Experiment) -> list[str]:
    looks = world.growth.looks
    first, middle, last = looks[0], looks[len(looks) // 2], looks[-1]
    hours = (last.seconds - middle.seconds) / _HOUR
    rows = []
    for table in sorted(last.rows, key=lambda name: -last.rows[name]):
        if last.rows[table] != first.rows[table] or middle.rows[table] != last.rows[table]:
            cells = [str(look.rows[table]) for look in (middle, last)]
            grown = f"{(last.rows[table] - middle.rows[table]) / hours:.0f}"
            sizes = _bytes(table, middle, last, hours)
            rows.append([table, *cells, grown, *sizes])
    total = [sum(look.sizes.values()) for look in (middle, last)]
    rows.append(["all", "", "", "", f"{total[1] / _MIB:.1f}", f"{(total[1] - total[0]) / _MIB / hours:.1f}"])
    return _table(["table", "rows in the middle", "at the end", "an hour", "MiB at the end", "an hour"], rows)


def _bytes(table: str, middle: Look, last: Look, hours: float) -> list[str]:
    if table not in last.sizes:
        return ["", ""]
    grown = last.sizes[table] - middle.sizes.get(table, 0)
    return [f"{last.sizes[table] / _MIB:.1f}", f"{grown / _MIB / hours:.1f}"]


def _counts(journal: Journal) -> list[str]:
    seen = {
        "results that were acknowledged": len(journal.acknowledged),
        "evaluations whose workers vanished": len(journal.vanished),
        "tasks that ended": len(journal.ended),
        **journal.counts,
    }
    longest = max(journal.overtime.all, default=0.0)
    return [
        *(f"* {name}: {n}" for name, n in seen.items()),
        f"* the longest that a worker went on after the end of its task: {longest:.1f} s",
    ]


# --- words and numbers


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _three(times: Sequence[float]) -> str:
    return ", ".join(_milliseconds(times, share) for share in (0.5, 0.99, 1.0))


def _p99(times: Times, part: int) -> str:
    return _milliseconds(times.of_part(part), 0.99)


def _milliseconds(times: Sequence[float], share: float) -> str:
    if not times:
        return "-"
    return f"{1000 * (max(times) if share == 1.0 else quantile(times, share)):.1f}"
