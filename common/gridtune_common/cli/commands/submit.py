"""Give a task file to the service, and print how to start workers for it.

With --wait it goes on to follow the task until it ends, as 'gridtune watch' does.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridtune_common import protocol
from gridtune_common.cli import connection, follow, loading, output, text
from gridtune_common.client import Client, new_request_id


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a task file, YAML or JSON")
    parser.add_argument("--wait", action="store_true", help="follow the task until it ends")
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Submit a task."""
    loaded = loading.load(arguments.file)
    for note in loading.notes(loaded):
        output.note(note)
    message = protocol.SubmitTask(new_request_id(), loaded.document, loaded.source, loaded.files)
    with connection.opened(arguments) as client:
        task = client.submit(message)
        if not arguments.json:
            for line in [*warm_start(client, task), *lines(client.server, task.summary)]:
                output.say(line)
            output.flush()
        code = 0
        if arguments.wait:
            code = follow.watched(client, task.summary.id, follow.silent() if arguments.json else None)
        if arguments.json:
            output.emit(client.task(task.summary.id) if arguments.wait else task)
    return code


def warm_start(client: Client, task: protocol.Task) -> list[str]:
    """What was taken over from each of the tasks to start warm from."""
    if not task.document.get("warm_start"):
        return []
    imports = client.events(task.summary.id, kind="results.imported").items
    return [_account(event.details) for event in imports if event.details.get("source", "").startswith("task ")]


def _account(details: Mapping[str, Any]) -> str:
    skipped = f", {details.get('skipped')} skipped ({details.get('why', '')})" if details.get("skipped") else ""
    return text.one_line(f"warm start: {details.get('taken')} results of {details.get('source')} taken{skipped}")


def lines(server: str, summary: protocol.TaskSummary) -> list[str]:
    """What was submitted, and how workers get at it."""
    return [
        f"task {text.one_line(summary.name)}, id {summary.id}",
        f"{server}/api/v1/tasks/{summary.id}",
        "",
        "start workers, here or on any machine that reaches the service:",
        f"  export GRIDTUNE_TOKEN=$(gridtune token create --task {summary.id})",
        f"  gridtune agent --server {shlex.quote(server)} --task {summary.id}",
    ]
