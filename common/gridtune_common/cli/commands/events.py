"""Print a task's audit log, oldest first: who did what, and when.

With --follow it goes on until the task has ended; with --follow --json every event is one line of JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from gridtune_common import protocol
from gridtune_common.cli import connection, output, text
from gridtune_common.client import Client

_PAGE = 500
_POLL_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    parser.add_argument("--kind", help="only events of this kind")
    parser.add_argument("--follow", action="store_true", help="go on with new events until the task ends")
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print events."""
    with connection.opened(arguments) as client:
        pages = _pages(client, arguments.task, arguments.kind, follow=arguments.follow)
        if arguments.json and not arguments.follow:
            items = [event for page in pages for event in page.items]
            output.emit(protocol.EventPage(items))
            return 0
        for page in pages:
            for event in page.items:
                if arguments.json:
                    output.emit_line(event)
                else:
                    output.say(line(event))
            output.flush()
    return 0


def _pages(client: Client, task: str, kind: str | None, *, follow: bool) -> Iterator[protocol.EventPage]:
    after: str | None = None
    last_look = False
    while True:
        page = client.events(task, kind=kind, after=after, limit=_PAGE)
        yield page
        after = page.next or after
        if page.items and page.next is not None:
            continue
        if not follow or last_look:
            return
        last_look = client.task(task).summary.state in (
            protocol.TaskState.FINISHED,
            protocol.TaskState.CANCELLED,
        )
        if not last_look:
            time.sleep(_POLL_SECONDS)


def line(event: protocol.Event) -> str:
    """An event on one line."""
    point = "" if event.point is None else f" point {event.point}"
    details = f"  {text.pairs(event.details)}" if event.details else ""
    actor = text.one_line(event.actor)
    return f"{text.local(event.at)}  {text.one_line(event.kind)}{point}  by {actor}{details}"
