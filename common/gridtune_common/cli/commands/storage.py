"""Show what is stored of your tasks: checkpoints and logs. Operators see all tasks.

Doomed is what will be deleted when its time of grace is over: superseded checkpoints, those of points that have ended,
everything of deleted tasks.
"""

from __future__ import annotations

import argparse
import sys

from gridtune_common import protocol
from gridtune_common.cli import connection, output, text
from gridtune_common.units import show_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show what is stored."""
    with connection.opened(arguments) as client:
        storage = client.storage()
    if arguments.json:
        output.emit(storage)
        return 0
    for line in lines(storage, output.width_of(sys.stdout), output.style_of(sys.stdout)):
        output.say(line)
    return 0


def lines(storage: protocol.Storage, width: int | None = None, style: output.Style | None = None) -> list[str]:
    """A table of tasks, the sum below it, and the quotas."""
    header = ["task", "name", "objects", "stored", "pending", "doomed", "owner"]
    rows = [
        [
            item.task,
            text.one_line(item.name) or "(deleted)",
            str(item.n_objects),
            show_bytes(item.committed_bytes),
            show_bytes(item.pending_bytes),
            show_bytes(item.doomed_bytes),
            text.one_line(item.owner),
        ]
        for item in storage.items
    ]
    total = sum(item.committed_bytes + item.pending_bytes for item in storage.items)
    quotas = [
        f"{show_bytes(quota)} for each {whose}"
        for whose, quota in (("task", storage.task_quota_bytes), ("user", storage.user_quota_bytes))
        if quota is not None
    ]
    limit = f"; quota: {', '.join(quotas)}" if quotas else ""
    return [*(text.table(header, rows, width=width, style=style) if rows else []), f"{show_bytes(total)} in all{limit}"]
