"""What pause, resume, cancel and extend share: one call, one line about what is now true."""

from __future__ import annotations

import argparse

from gridtune_common.cli import connection, output, text
from gridtune_common.client import new_request_id
from gridtune_common.protocol import ChangeTask, Task, TaskAction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that all of them have."""
    connection.add_task(parser)
    connection.add_json(parser)
    connection.add_arguments(parser)


def change(arguments: argparse.Namespace, action: TaskAction, points: int = 0) -> Task:
    """Change a task, and return it as it is then."""
    message = ChangeTask(new_request_id(), action, points)
    with connection.opened(arguments) as client:
        return client.change_task(arguments.task, message)


def tell(arguments: argparse.Namespace, task: Task, truth: str) -> int:
    """Print the task as JSON, or *truth* about it."""
    if arguments.json:
        output.emit(task)
    else:
        output.say(f"{name(task)} {truth}")
    return 0


def name(task: Task) -> str:
    """A task's name with its id."""
    return f"{text.one_line(task.summary.name)} ({task.summary.id})"
