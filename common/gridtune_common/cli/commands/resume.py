"""Hand out points of a paused task again."""

from __future__ import annotations

import argparse

from gridtune_common.cli import change
from gridtune_common.protocol import TaskAction

add_arguments = change.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Resume a task."""
    task = change.change(arguments, TaskAction.RESUME)
    return change.tell(arguments, task, "hands out points again")
