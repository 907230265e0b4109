"""Save a task: everything as JSON, its points as CSV, or a report as one HTML file that works off line."""

from __future__ import annotations

import argparse
from pathlib import Path

from gridtune_common.cli import connection, output
from gridtune_common.errors import ConfigurationError

FORMATS = ("json", "csv", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    parser.add_argument("--format", choices=FORMATS, help="json, unless the name of the output says otherwise")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write; stdout if not given")
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Save a task."""
    with connection.opened(arguments) as client:
        content = client.export(arguments.task, arguments.format or _form(arguments.output))
    if arguments.output is None:
        output.emit_bytes(content)
        return 0
    save(arguments.output, content)
    output.say(f"wrote {arguments.output}")
    return 0


def save(path: Path, content: bytes, *, make_folder: bool = False) -> None:
    """Write a file, into a folder that is there unless *make_folder* says otherwise.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def _form(path: Path | None) -> str:
    suffix = path.suffix[1:].lower() if path else ""
    return suffix if suffix in FORMATS else "json"
