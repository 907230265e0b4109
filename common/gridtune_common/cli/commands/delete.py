"""Delete an ended task with all its points; its audit events stay in the database."""

from __future__ import annotations

import argparse

from gridtune_common.cli import change, connection, output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Delete a task."""
    with connection.opened(arguments) as client:
        task = client.task(arguments.task)
        client.delete_task(task.summary.id)
    output.say(f"{change.name(task)} is deleted")
    return 0
