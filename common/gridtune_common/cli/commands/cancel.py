"""End a task; running evaluations are told to stop. What was found is kept."""

from __future__ import annotations

import argparse

from gridtune_common.cli import change
from gridtune_common.protocol import TaskAction

add_arguments = change.add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Cancel a task."""
    task = change.change(arguments, TaskAction.CANCEL)
    return change.tell(arguments, task, "is cancelled; what was found is kept")
