"""Grant a task more points; one that has finished goes on."""

from __future__ import annotations

import argparse

from gridtune_common.cli import arguments as kinds
from gridtune_common.cli import change
from gridtune_common.protocol import TaskAction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    change.add_arguments(parser)
    parser.add_argument("points", type=kinds.positive, metavar="N", help="how many more points")


def run(arguments: argparse.Namespace) -> int:
    """Extend a task."""
    task = change.change(arguments, TaskAction.EXTEND, arguments.points)
    summary = task.summary
    return change.tell(arguments, task, f"is {summary.state.value} and may make {summary.points} points in all")
