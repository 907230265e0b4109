"""Print the JSON Schema of task files, for editors and other tools."""

from __future__ import annotations

import argparse

from gridtune_common.cli import output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    from gridtune_common.taskfile import task_schema

    output.emit(task_schema())
    return 0
