"""List the tasks that you may see, newest first."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone

from gridtune_common import protocol
from gridtune_common.cli import arguments as kinds
from gridtune_common.cli import connection, metrics, output, text
from gridtune_common.client import Client

_PAGE = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--state", choices=[state.value for state in protocol.TaskState], help="only these")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--limit", type=kinds.positive, default=20, metavar="N", help="at most N tasks (%(default)s)")
    amount.add_argument("--all", action="store_true", help="all tasks")
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """List tasks."""
    with connection.opened(arguments) as client:
        page = _collect(client, arguments.state, None if arguments.all else arguments.limit)
    if arguments.json:
        output.emit(page)
        return 0
    for line in _lines(page, datetime.now(timezone.utc)):
        output.say(line)
    if page.next is not None:
        output.note("there are more: --all")
    return 0


def _collect(client: Client, state: str | None, limit: int | None) -> protocol.TaskPage:
    items: list[protocol.TaskSummary] = []
    after: str | None = None
    while True:
        wanted = _PAGE if limit is None else min(_PAGE, limit - len(items))
        page = client.tasks(state=state, after=after, limit=wanted)
        items += page.items
        after = page.next
        if after is None or (limit is not None and len(items) >= limit):
            return protocol.TaskPage(items, after)


def _lines(page: protocol.TaskPage, now: datetime) -> list[str]:
    if not page.items:
        return ["no tasks"]
    header = ["id", "name", "state", "done", "failed", "best", "objective", "age", "owner"]
    rows = [_row(task, now) for task in page.items]
    return text.table(header, rows, width=output.width_of(sys.stdout), style=output.style_of(sys.stdout))


def _row(task: protocol.TaskSummary, now: datetime) -> list[str]:
    counts = task.counts
    return [
        task.id,
        text.one_line(task.name),
        "archived" if task.archived_at else task.state.value,
        f"{counts.done}/{task.points}" if task.points else str(counts.done),
        str(counts.failed),
        text.value(task.best),
        metrics.in_words(task) + (f" (front of {task.n_front})" if task.n_front else ""),
        text.duration(text.seconds_between(task.created_at, None, now)),
        text.one_line(task.owner),
    ]
