"""List a task's points by number, or show one with its evaluations, reports and the end of its output."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone

from gridtune_common import protocol
from gridtune_common.cli import arguments as kinds
from gridtune_common.cli import connection, equipment, metrics, output, text

_PROPOSER = {
    protocol.PointOrigin.INITIAL: "the task file",
    protocol.PointOrigin.USER: "the user",
    protocol.PointOrigin.ALGORITHM: "the algorithm",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_task(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--state", choices=[state.value for state in protocol.PointState], help="only these")
    which.add_argument("--number", type=kinds.number, metavar="N", help="show point N with all that is known of it")
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """List points, or show one."""
    now = datetime.now(timezone.utc)
    hidden = ""
    with connection.opened(arguments) as client:
        message: protocol.PointPage | protocol.PointDetail
        if arguments.number is None:
            message = protocol.PointPage(list(client.all_points(arguments.task, state=arguments.state)))
        else:
            message = client.point(arguments.task, arguments.number)
        if arguments.json:
            output.emit(message)
            return 0
        if isinstance(message, protocol.PointDetail):
            shown = detail(message, now)
        else:
            summary = client.task(arguments.task).summary
            shown = listing(message, summary, now)
            hidden = metrics.left_out(metrics.names(message.items, summary), summary)
    for line in shown:
        output.say(line)
    if hidden:
        output.note(hidden)
    return 0


def listing(page: protocol.PointPage, summary: protocol.TaskSummary, now: datetime) -> list[str]:
    """Points, a line each, with their metrics."""
    if not page.items:
        return ["no points"]
    columns = metrics.shown(metrics.names(page.items, summary), summary)
    header = ["point", "state", *map(text.one_line, columns), "failures", "time", "parameters"]
    rows = [_row(point, metrics.cells(point, columns, summary), now) for point in page.items]
    return text.table(header, rows, width=output.width_of(sys.stdout), style=output.style_of(sys.stdout))


def _row(point: protocol.Point, values: list[str], now: datetime) -> list[str]:
    what = text.pairs(point.parameters)
    if point.state is protocol.PointState.FAILED and point.message:
        what = f"{text.one_line(point.message)} | {what}"
    if point.origin is not protocol.PointOrigin.ALGORITHM:
        what = f"[{point.origin.value}] {what}"
    return [
        str(point.number),
        point.state.value,
        *values,
        str(point.attempts),
        text.duration(text.seconds_between(point.started_at, point.ended_at, now)),
        what,
    ]


def detail(found: protocol.PointDetail, now: datetime) -> list[str]:
    """A point with everything that is known of it."""
    point, style = found.point, output.style_of(sys.stdout)
    state = style.paint(point.state.value, text.STATE_COLOURS.get(point.state.value, ""))
    lines = text.facts(
        [
            ("point", str(point.number)),
            ("state", state + (f" ({text.one_line(point.message)})" if point.message else "")),
            ("parameters", text.pairs(point.parameters)),
            ("metrics", text.pairs(point.metrics)),
            ("failures", str(point.attempts)),
            ("created", text.local(point.created_at)),
            ("started", text.local(point.started_at) if point.started_at else ""),
            ("ended", text.local(point.ended_at) if point.ended_at else ""),
            ("informed by", f"{point.informed_by} results"),
            ("proposed by", _PROPOSER[point.origin]),
        ]
    )
    if found.evaluations:
        lines += ["", "evaluations", *_evaluations(found.evaluations, now)]
        lines += _section("workers", *_workers(found.evaluations))
        lines += _section("used", *equipment.used(found.evaluations))
    if found.reports:
        lines += ["", "reports", *_reports(found.reports)]
    return [*lines, *_output(found.evaluations)]


def _evaluations(evaluations: list[protocol.Evaluation], now: datetime) -> list[str]:
    header = ["try", "state", "worker", "site", "time", "exit", "why"]
    rows = [
        [
            str(evaluation.attempt),
            evaluation.state.value,
            text.one_line(evaluation.worker),
            text.one_line(evaluation.site) or "-",
            text.duration(text.seconds_between(evaluation.started_at, evaluation.ended_at, now)),
            text.value(evaluation.exit_code),
            text.one_line(": ".join(filter(None, [evaluation.cause, evaluation.message]))),
        ]
        for evaluation in evaluations
    ]
    return text.table(header, rows, width=output.width_of(sys.stdout), style=output.style_of(sys.stdout))


def _workers(evaluations: list[protocol.Evaluation]) -> tuple[list[str], list[list[str]]]:
    told = [(evaluation, equipment.in_words(evaluation.resources)) for evaluation in evaluations]
    rows = [[str(evaluation.attempt), text.one_line(evaluation.host) or "-", has] for evaluation, has in told if has]
    return ["try", "host", "has"], rows


def _section(title: str, header: list[str], rows: list[list[str]]) -> list[str]:
    """A table under its title; nothing without rows."""
    return ["", title, *text.table(header, rows, width=output.width_of(sys.stdout))] if rows else []


def _reports(reports: list[protocol.StoredReport]) -> list[str]:
    rows = [[str(report.step), text.pairs(report.metrics)] for report in reports]
    return text.table(["step", "metrics"], rows, width=output.width_of(sys.stdout))


def _output(evaluations: list[protocol.Evaluation]) -> list[str]:
    """The end of the newest output, for it says best what happened."""
    tails = [evaluation for evaluation in evaluations if evaluation.output_tail.strip()]
    if not tails:
        return []
    newest = tails[-1]
    return ["", f"end of the output of try {newest.attempt}", *tail(newest.output_tail)]


def tail(content: str) -> list[str]:
    """The end of a training's output, safe for a terminal."""
    return [f"  {line}" for line in text.plain(content).splitlines()]
