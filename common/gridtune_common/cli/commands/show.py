"""Show a task: what it searches, how far it is, and what is needed to repeat it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from gridtune_common import protocol
from gridtune_common.cli import connection, metrics, output, space, text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--source", action="store_true", help="print the task file as it was submitted")
    connection.add_json(form)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show a task."""
    with connection.opened(arguments) as client:
        task = client.task(arguments.task)
    if arguments.json:
        output.emit(task)
    elif arguments.source:
        output.emit_bytes(task.source.encode())
    else:
        for line in lines(task, datetime.now(timezone.utc), output.style_of(sys.stdout)):
            output.say(line)
    return 0


def lines(task: protocol.Task, now: datetime, style: output.Style) -> list[str]:
    """A task for people."""
    summary = task.summary
    state = summary.state.value
    reason = f" ({text.one_line(summary.reason)})" if summary.reason else ""
    taken = text.duration(text.seconds_between(summary.created_at, summary.ended_at, now))
    ended = f"{text.local(summary.ended_at)} (after {taken})" if summary.ended_at else ""
    return [
        *text.facts(
            [
                ("name", style.paint(text.one_line(summary.name), "bold")),
                ("id", summary.id),
                ("state", style.paint(state, text.STATE_COLOURS.get(state, "")) + reason),
                ("owner", text.one_line(summary.owner)),
                ("objective", metrics.in_words(summary)),
                ("algorithm", f"{text.one_line(summary.algorithm)}, seed {task.seed}"),
                ("scheduler", _scheduler(task.document)),
                ("points", _points(summary)),
                ("wished", f"{task.wished} of your own points wait" if task.wished else ""),
                ("known", f"{task.known} results from elsewhere" if task.known else ""),
                ("unfit", style.paint(text.one_line(task.unfit), "yellow") if task.unfit else ""),
                ("best", best(summary)),
                ("front", front(summary)),
                ("created", text.local(summary.created_at)),
                ("ended", ended),
                ("versions", text.pairs(task.versions)),
            ]
        ),
        "",
        *space.lines(task.document),
    ]


def best(summary: protocol.TaskSummary) -> str:
    """The best value of a task in words; empty while there is none."""
    if summary.best is None:
        return ""
    return f"{text.one_line(summary.objective)} {text.value(summary.best)} at point {summary.best_point}"


def front(summary: protocol.TaskSummary) -> str:
    """How large the front of a task with several objectives is, in words; empty while there is none."""
    if not summary.n_front:
        return ""
    return "1 point" if summary.n_front == 1 else f"{summary.n_front} points"


def _points(summary: protocol.TaskSummary) -> str:
    counts = [(name, number) for name, number in vars(summary.counts).items() if number or name == "done"]
    counts.sort(key=lambda entry: entry[0] != "done")
    budget = f" of {summary.points}" if summary.points else ""
    (_, done), *others = counts
    return ", ".join([f"{done}{budget} done", *(f"{number} {name}" for name, number in others)])


def _scheduler(document: Mapping[str, Any]) -> str:
    scheduler = document.get("scheduler")
    name = scheduler.get("name", "") if isinstance(scheduler, Mapping) else scheduler or ""
    return "" if name == "none" else text.one_line(str(name))
