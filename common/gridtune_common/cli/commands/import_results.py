"""Give a task's algorithm results from elsewhere to learn, from a CSV or JSON file.

    gridtune import digits results.csv --source "grid scan of March"

A CSV file has a column for each parameter and each metric; an empty cell stands for an inactive parameter. A
JSON file is a list of {"parameters": {…}, "metrics": {…}}. What 'gridtune export' writes is taken as it is.

The algorithm learns from these results and proposes none of them again. They count for no stop rule, and are
never the task's best.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from gridtune_common import protocol
from gridtune_common.cli import change, connection, output, text
from gridtune_common.cli.loading import InvalidFile
from gridtune_common.client import Client, new_request_id
from gridtune_common.errors import Flaw, Refused

if TYPE_CHECKING:
    from gridtune_common.cli.foreign import Found

#: As many as the service takes in one message.
_PORTION = 10_000
_PLACE = re.compile(r"^results\[(\d+)\](?:\.parameters)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="results, *.csv or *.json")
    parser.add_argument("--source", metavar="TEXT", help="where they come from; the file's name if not given")
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import results."""
    from gridtune_common.cli import foreign  # with the search space, only when there are results to read

    with connection.opened(arguments) as client:
        task = client.task(arguments.task)
        found = foreign.read_results(arguments.file, foreign.Wanted.by(task.document))
        if found.ignored:
            output.note(f"ignored, for the task has no such parameter or objective: {', '.join(found.ignored)}")
        source = arguments.source if arguments.source is not None else arguments.file.name
        imported = _sent(client, arguments.task, arguments.file, found, source)
    if arguments.json:
        output.emit(imported)
        return 0
    for line in lines(task, imported):
        output.say(line)
    return 0


def _sent(client: Client, task: str, file: Path, found: Found, source: str) -> protocol.ImportedResults:
    taken, skipped = 0, Counter({"without a result": found.n_unfinished} if found.n_unfinished else {})
    for start in range(0, len(found.results), _PORTION):
        portion = found.results[start : start + _PORTION]
        try:
            answer = client.import_results(task, protocol.ImportResults(new_request_id(), portion, source))
        except Refused as refused:
            if start:
                output.note(f"the first {start} results were sent; once the rest is mended, send all again")
            raise _placed(refused, file, found.places[start:]) from refused
        taken += answer.taken
        skipped.update(answer.skipped)
    return protocol.ImportedResults(taken, dict(skipped))


def _placed(refused: Refused, file: Path, places: list[str]) -> Refused | InvalidFile:
    """What the service finds wrong with results, by their places in the file."""
    errors = [
        (str(error.get("path", "")), str(error.get("message", ""))) for error in refused.problem.get("errors", [])
    ]
    if not errors or not all(_PLACE.match(path) for path, _ in errors):
        return refused
    return InvalidFile(
        file, [Flaw(_PLACE.sub(lambda match: places[int(match[1])], path), message) for path, message in errors]
    )


def lines(task: protocol.Task, imported: protocol.ImportedResults) -> list[str]:
    """What became of the results."""
    n_skipped = sum(imported.skipped.values())
    plural = "" if imported.taken == 1 else "s"
    first = f"{change.name(task)} knows {imported.taken} more result{plural}"
    return [
        first + (f"; {n_skipped} skipped:" if n_skipped else ""),
        *(f"  {number} {text.one_line(reason)}" for reason, number in imported.skipped.items()),
    ]
