"""What calls did, and the report of it: times, statements and functions."""

from __future__ import annotations

import cProfile
import io
import pstats
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: The calls, in the order of a point's life.
KINDS: Final = ("ask", "heartbeat", "report", "tell", "host round", "ask in vain")
#: Whose function it is, by what its file's path contains; the first that fits.
_LAYERS: Final = {
    "gridtune": ("/gridtune_steering/", "/gridtune_common/"),
    "gunicorn": ("/gunicorn/",),
    "flask, werkzeug": ("/flask/", "/werkzeug/", "/blinker/"),
    "pydantic": ("/pydantic",),
    "sqlalchemy": ("/sqlalchemy/",),
    "driver": ("/psycopg", "sqlite3"),
    "optimizer library": ("/hyperopt/", "/optuna/", "/sklearn/", "/scipy/", "/numpy/", "/skopt/", "/nevergrad/"),
}


@dataclass
class Call:
    """One call, in seconds."""

    total: float = 0.0
    statements: list[tuple[str, float]] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    thinking: float = 0.0

    @property
    def database(self) -> float:
        """Spent in the driver and beyond."""
        return sum(seconds for _, seconds in self.statements) + sum(self.commits)


def table(seen: Mapping[str, list[Call]]) -> list[str]:
    """A row for each kind of call."""
    lines = [
        "Milliseconds; `database` is all time in the driver and beyond, `commit` a part of it, `thinking` the",
        "campaign with its optimizer, `rest` everything else. Means, if not stated.",
        "",
        "| call | p50 | p99 | mean | statements | commits | database | commit | thinking | rest |",
        "|------|----:|----:|-----:|-----------:|--------:|---------:|-------:|---------:|-----:|",
    ]
    for kind in KINDS:
        calls = seen[kind]
        cuts = statistics.quantiles([call.total for call in calls], n=100)
        mean = statistics.fmean(call.total for call in calls)
        database = statistics.fmean(call.database for call in calls)
        commit = statistics.fmean(sum(call.commits) for call in calls)
        thinking = statistics.fmean(call.thinking for call in calls)
        counts = [statistics.fmean(len(part) for part in parts) for parts in _parts(calls)]
        times = [cuts[49], cuts[98], mean]
        rest = [database, commit, thinking, mean - database - thinking]
        cells = [*_milliseconds(times), *(f"{count:.1f}" for count in counts), *_milliseconds(rest)]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return [*lines, ""]


def _parts(calls: list[Call]) -> tuple[list[list[Any]], list[list[Any]]]:
    return [list(call.statements) for call in calls], [list(call.commits) for call in calls]


def _milliseconds(times: list[float]) -> list[str]:
    return [f"{1000 * seconds:.2f}" for seconds in times]


def details(kind: str, calls: list[Call], profile: cProfile.Profile, n_functions: int) -> list[str]:
    """The statements of a kind of call, and its functions."""
    return [f"## {kind}", "", *_statements(calls), "", *_layers(profile), "", *_top(profile, n_functions)]


def _statements(calls: list[Call]) -> list[str]:
    """Each statement in the order of its first appearance: how often a call, how long."""
    found: dict[str, list[float]] = defaultdict(list)
    for call in calls:
        for text, seconds in call.statements:
            found[" ".join(text.split())].append(seconds)
    lines = ["  a call  ms a call  statement"]
    for text, times in found.items():
        lines.append(f"{len(times) / len(calls):8.2f} {1000 * sum(times) / len(calls):10.3f}  {_shown(text)}")
    return lines


def _shown(statement: str, longest: int = 230) -> str:
    """A statement without its columns."""
    head, select, tail = statement.partition(" FROM ")
    if select and head.startswith("SELECT") and len(head) > 60:
        statement = f"{head[:50]} …{select}{tail}"
    return statement if len(statement) <= longest else f"{statement[: longest - 1]}…"


def _layers(profile: cProfile.Profile) -> list[str]:
    """Own time of all functions by whose they are; what Python itself does is its caller's."""
    own: dict[str, float] = defaultdict(float)
    for (path, _, _), (_, _, seconds, _, callers) in _stats(profile).items():
        if path != "~":
            own[_layer(path)] += seconds
            continue
        for (caller, _, _), (_, _, part, _) in callers.items():
            own[_layer(caller)] += part
    total = sum(own.values())
    parts = [f"{layer} {seconds / total:.0%}" for layer, seconds in sorted(own.items(), key=lambda item: -item[1])]
    return [f"own time under cProfile, with the built-in functions called: {', '.join(parts)}"]


def _layer(path: str) -> str:
    found = (layer for layer, marks in _LAYERS.items() if any(mark in path for mark in marks))
    return next(found, "Python and others")


def _stats(profile: cProfile.Profile) -> dict[tuple[str, int, str], tuple[int, int, float, float, Any]]:
    return pstats.Stats(profile).stats  # type: ignore[attr-defined, no-any-return]  # not in the stubs


def _top(profile: cProfile.Profile, n_functions: int) -> list[str]:
    lines = []
    for title, order, which in (
        ("ours, with all that they call:", "cumulative", ("gridtune_",)),
        ("all, with all that they call:", "cumulative", ()),
        ("all, alone:", "tottime", ()),
    ):
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats(order).print_stats(*which, n_functions)
        table = text.getvalue().partition("ncalls")[2].splitlines()
        lines += [title, "   ncalls" + table[0], *(_short(line) for line in table[1:] if line), ""]
    return lines


def _short(line: str) -> str:
    for mark in ("site-packages/", "steering/", "common/", "lib/python3"):
        head, found, tail = line.partition(mark)
        if found:
            return head[: head.rfind(" ") + 1] + (tail if mark != "lib/python3" else tail.partition("/")[2])
    return line
