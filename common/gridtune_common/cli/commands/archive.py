"""Move ended tasks out of the service's database into its object store (operators).

They stay in the listing, as archived, and 'gridtune export' still reads them, with their files. Their points, log and
audit events are nowhere else then, their trainings' stored logs and checkpoints are deleted, and they cannot be
extended any more. The service can do this by itself: GRIDTUNE_STEERING_ARCHIVE_AFTER_SECONDS.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime, timezone

from gridtune_common import protocol
from gridtune_common.cli import arguments as kinds
from gridtune_common.cli import connection, output, text
from gridtune_common.client import Client
from gridtune_common.errors import ConfigurationError, Refused

_PAGE = 500
_ENDED = (protocol.TaskState.FINISHED, protocol.TaskState.CANCELLED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="ids of ended tasks, or their names")
    parser.add_argument(
        "--older-than", type=kinds.duration, metavar="AGE", help="all tasks that ended longer ago than this: 90d"
    )
    parser.add_argument("--dry-run", action="store_true", help="say which, and change nothing")
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Archive tasks, one after the other."""
    if bool(arguments.tasks) == (arguments.older_than is not None):
        raise ConfigurationError("name tasks, or give --older-than AGE")
    n_archived, n_refused = 0, 0
    with connection.opened(arguments) as client:
        for task, name in _chosen(client, arguments):
            try:
                if not arguments.dry_run:
                    client.archive_task(task)
            except Refused as refusal:
                if refusal.status != 409:  # it went on meanwhile, or changed; the others need not
                    raise
                n_refused += 1
                output.warn(f"{name}: {refusal}")
                continue
            n_archived += 1
            output.say(f"{name} {'would be' if arguments.dry_run else 'is'} archived")
    if not n_archived + n_refused:
        output.note("no task is that old")
    return 1 if n_refused else 0


def _chosen(client: Client, arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Ids of tasks, with what to call each."""
    if arguments.tasks:
        for reference in arguments.tasks:
            yield client.task_id(reference), reference
        return
    now = datetime.now(timezone.utc)
    # listed as a whole before anything moves
    for task in [task for state in _ENDED for task in _all(client, state)]:
        age = text.seconds_between(task.ended_at, None, now)
        if task.archived_at is None and age is not None and age > arguments.older_than:
            yield task.id, f"{text.one_line(task.name)} ({task.id}), {text.duration(age)} old,"


def _all(client: Client, state: protocol.TaskState) -> Iterator[protocol.TaskSummary]:
    after: str | None = None
    while True:
        page = client.tasks(state=state.value, after=after, limit=_PAGE)
        yield from page.items
        after = page.next
        if after is None:
            return
