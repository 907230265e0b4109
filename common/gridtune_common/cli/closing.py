"""The end of a run on this machine: what was found, what failed, and the files written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gridtune_common import protocol
from gridtune_common.cli import text
from gridtune_common.cli.commands import best as best_command
from gridtune_common.cli.commands.export import save
from gridtune_common.cli.commands.points import tail
from gridtune_common.cli.output import Style
from gridtune_common.client import Client
from gridtune_common.errors import GridtuneError

#: The files of a run's results, and the format that the service exports for each.
FILES: Final = {"points.csv": "csv", "task.json": "json", "report.html": "html"}
#: Of a front so many points are told; the files have all.
_MOST_OF_FRONT: Final = 10


def lines(client: Client, summary: protocol.TaskSummary, folder: Path, style: Style) -> list[str]:
    """Save the results to *folder* and say what was found."""
    saved = [_saved(client, summary.id, folder / name, form) for name, form in FILES.items()]
    return ["", *_outcome(client, summary, style), *_failures(client, summary), "", "results:", *saved]


def _saved(client: Client, task: str, path: Path, form: str) -> str:
    """Save one file; one that cannot be had is told in its place, and does not take the others with it."""
    try:
        save(path, client.export(task, form), make_folder=True)
    except GridtuneError as error:
        return f"  no {path}: {error}"
    return f"  {path}"


def _outcome(client: Client, summary: protocol.TaskSummary, style: Style) -> list[str]:
    if not summary.counts.done:
        return [style.paint("no point is done", "red")]
    first, *others = best_command.lines(client.best(summary.id), most=_MOST_OF_FRONT)
    return [style.paint(first, "bold"), *others]


def _failures(client: Client, summary: protocol.TaskSummary) -> list[str]:
    if not summary.counts.failed:
        return []
    first = client.points(summary.id, state="failed", limit=1).items
    if not first:
        return []
    point = first[0]
    why = text.one_line(point.message) or "no message"
    shown = ["", f"{summary.counts.failed} of {_made(summary)} points failed; point {point.number}: {why}"]
    return shown if summary.counts.done else [*shown, *_output(client, summary.id, point.number)]


def _made(summary: protocol.TaskSummary) -> int:
    return sum(vars(summary.counts).values())


def _output(client: Client, task: str, number: int) -> list[str]:
    """With no point done, the end of what the first failed training printed says most."""
    tails = [evaluation.output_tail for evaluation in client.point(task, number).evaluations]
    printed = next((content for content in reversed(tails) if content.strip()), "")
    return ["the end of its output:", *tail(printed)] if printed else ["it printed nothing"]
