"""Print what the evaluations of a point have printed, oldest first; with --follow, also what is printed right now.

A running evaluation is asked to send its output when it says the next time that it is alive, so the first lines may
take some seconds to come. Whole logs are stored when an evaluation has ended; of a long one the middle is left out.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import error as zlib_error

from gridtune_common import protocol
from gridtune_common.cli import connection, output, text
from gridtune_common.client import Client
from gridtune_common.errors import ConfigurationError
from gridtune_common.protocol import EvaluationState, ObjectKind

_POLL_SECONDS = 1.0
#: Shorter ends of outputs are whole outputs, in bytes.
_WHOLE = 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    parser.add_argument("point", metavar="POINT", type=int, help="number of the point")
    parser.add_argument("--last", action="store_true", help="only of the newest evaluation")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is printed until the point ends")
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print logs."""
    with connection.opened(arguments) as client:
        detail = client.point(arguments.task, arguments.point)
        ended = [each for each in detail.evaluations if each.state is not EvaluationState.RUNNING]
        is_running = len(ended) < len(detail.evaluations)
        if not detail.evaluations:
            output.note(f"point {arguments.point} was not tried yet")
        if arguments.last:
            ended = [] if is_running else ended[-1:]
        _print_stored(client, arguments.task, detail, ended, {})
        if arguments.follow:
            _follow(client, arguments.task, arguments.point, {each.id for each in ended})
        elif is_running:
            _print_live(client, arguments.task, arguments.point)
    return 0


def _print_stored(
    client: Client,
    task: str,
    detail: protocol.PointDetail,
    evaluations: Sequence[protocol.Evaluation],
    seen: Mapping[str, int],
) -> None:
    """Print logs of evaluations that have ended, each from where it was *seen* up to while it ran."""
    logs = {each.evaluation: each for each in detail.objects if each.kind is ObjectKind.LOG and each.committed_at}
    for evaluation in evaluations:
        if evaluation.id not in seen:
            _head(evaluation.id, evaluation.attempt, evaluation.worker, evaluation.state.value, evaluation.message)
        stored, skipped = logs.get(evaluation.id), seen.get(evaluation.id, 0)
        if stored is None:
            content = evaluation.output_tail.encode()
            if len(content) >= _WHOLE:
                output.note("only the end of it: the whole log is not stored (yet)")
            _write(content[skipped if len(content) < _WHOLE else 0 :].decode("utf-8", "replace"))
            continue
        for piece in _unpacked(client, task, stored):
            output.emit_bytes(piece[skipped:])
            skipped = max(skipped - len(piece), 0)
        output.flush()


def _unpacked(client: Client, task: str, stored: protocol.StoredObject) -> Iterator[bytes]:
    import gzip

    content = client.content(client.object(task, stored.id))
    try:
        with gzip.open(io.BytesIO(content)) as log:
            while piece := log.read(2**20):
                yield piece
    except (OSError, EOFError, zlib_error) as error:
        raise ConfigurationError(f"the stored log of evaluation {stored.evaluation} is damaged: {error}") from error


def _print_live(client: Client, task: str, point: int) -> None:
    """What is known at once of a running evaluation."""
    live = client.live_output(task, point)
    if live.state is EvaluationState.RUNNING:
        _head(live.evaluation, live.attempt, "", "running", "")
        _write(live.text)
        if not live.text:
            output.note("its output is on the way; look again in some seconds, or watch it with --follow")


def _follow(client: Client, task: str, point: int, shown: set[str]) -> None:
    """Print what comes until the point has ended."""
    seen: dict[str, int] = {}
    while True:
        live = client.live_output(task, point)
        is_new = live.evaluation not in seen
        if live.state is not EvaluationState.RUNNING or is_new:
            if _catch_up(client, task, point, shown, seen):
                output.note(f"point {point} has ended")
                return
        if live.state is EvaluationState.RUNNING:
            if is_new:
                _head(live.evaluation, live.attempt, "", "running", "")
            seen[live.evaluation] = _print_new(live, seen.get(live.evaluation, 0))
        time.sleep(_POLL_SECONDS)


def _catch_up(client: Client, task: str, point: int, shown: set[str], seen: dict[str, int]) -> bool:
    """Print the rest of what has ended meanwhile; whether the point has ended, too."""
    detail = client.point(task, point)
    ended = [each for each in detail.evaluations if each.state is not EvaluationState.RUNNING]
    fresh = [each for each in ended if each.id not in shown]
    _print_stored(client, task, detail, fresh, seen)
    shown |= {each.id for each in fresh}
    return detail.point.ended_at is not None


def _print_new(live: protocol.LiveOutput, seen: int) -> int:
    """Print what was not printed before; returns how far the output has been seen."""
    if live.end <= seen:
        return seen
    content = live.text.encode()
    if live.start > seen:
        output.note(f"[{live.start - seen} bytes before this were not kept]")
    _write(content[max(seen - live.start, 0) :].decode("utf-8", "replace"), whole_lines=False)
    return live.end


def _head(evaluation: str, attempt: int, worker: str, state: str, message: str) -> None:
    """A line about the evaluation, beside the output."""
    by = f" by {text.one_line(worker)}" if worker else ""
    why = f": {text.one_line(message)}" if message else ""
    output.note(f"--- evaluation {evaluation}, attempt {attempt}{by}, {state}{why}")


def _write(content: Any, *, whole_lines: bool = True) -> None:
    if content:
        output.emit_bytes(content.encode() + (b"\n" if whole_lines and not content.endswith("\n") else b""))
        output.flush()
