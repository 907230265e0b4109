"""Delete an ended task with all its points, archived or not; its audit events stay in the database."""

from __future__ import annotations

import argparse

from gridtune_common.cli import change, connection, output
from gridtune_common.client import Client
from gridtune_common.errors import Refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Delete a task."""
    with connection.opened(arguments) as client:
        name = _name(client, arguments.task)
        client.delete_task(arguments.task)
    output.say(f"{name} is deleted")
    return 0


def _name(client: Client, task: str) -> str:
    try:
        return change.name(client.task(task))
    except Refused as refusal:
        if refusal.kind != "TaskArchived":
            raise
        return task
