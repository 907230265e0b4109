"""Follow a task until it ends: progress, best value so far, running points, last failures.

On a terminal the view redraws in place; otherwise every change is one line. The exit code tells whether the
task ended with at least one done point. A task that the service had to pause is followed no further.
"""

from __future__ import annotations

import argparse

from gridtune_common.cli import connection, follow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Follow a task."""
    with connection.opened(arguments) as client:
        task = client.task(arguments.task)
        return follow.watched(client, task.summary.id)
