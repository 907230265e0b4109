"""Hand out no more points of a task; running evaluations go on to their end."""

from __future__ import annotations

import argparse

from gridtune_common.cli import change
from gridtune_common.protocol import TaskAction

add_arguments = change.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Pause a task."""
    task = change.change(arguments, TaskAction.PAUSE)
    return change.tell(arguments, task, "is paused; running evaluations go on to their end")
