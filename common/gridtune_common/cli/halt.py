"""A task that the service paused by itself: why, what was printed last, and how to go on."""

from __future__ import annotations

from typing import Optional

from gridtune_common import protocol
from gridtune_common.cli import text
from gridtune_common.cli.commands.points import tail
from gridtune_common.client import Client
from gridtune_common.errors import ServiceError


def is_halted(summary: protocol.TaskSummary) -> bool:
    """Whether the service paused the task, so that it does not go on before somebody has looked at it."""
    return summary.state is protocol.TaskState.PAUSED and bool(summary.stopped_by)


def reason(client: Client, summary: protocol.TaskSummary) -> list[str]:
    """Why a task is paused, with what was printed last."""
    return [
        f"the service paused task {summary.id}: {text.one_line(summary.reason)}",
        *_output(client, summary.id),
    ]


def ways_on(summary: protocol.TaskSummary) -> list[str]:
    """What can be done about it."""
    return [
        f"once the cause is gone, go on with: gridtune resume {summary.id}",
        f"if the task itself has to change: gridtune cancel {summary.id}, and submit it anew",
    ]


def _output(client: Client, task: str) -> list[str]:
    """The end of what the last failed training printed, as the event of the pause has it."""
    try:
        event = _last_pause(client, task)
    except ServiceError:
        return []  # it would have been good to know, but the reason says most of it
    printed = event.details.get("output_tail") if event is not None else None
    return ["the end of its output:", *tail(printed)] if isinstance(printed, str) and printed.strip() else []


def _last_pause(client: Client, task: str) -> Optional[protocol.Event]:
    after: Optional[str] = None
    last: Optional[protocol.Event] = None
    while True:
        page = client.events(task, kind="task.paused", after=after, limit=100)
        if not page.items:
            return last
        last, after = page.items[-1], page.next
