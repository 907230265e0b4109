"""List the machines that workers run on, what they have, how evaluations end there, which are set aside (operators).

A machine that fails one point after the other gets no points for a while. --forgive gives it points again.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone

from gridtune_common import protocol
from gridtune_common.cli import connection, equipment, output, text
from gridtune_common.client import Client, new_request_id
from gridtune_common.errors import ConfigurationError

_PAGE = 500
#: A host works on one task most often; beyond a few their number says enough.
_MOST_TASKS = 3
#: Workers of a host are alike most often.
_MOST_KINDS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="also those that were not seen in the last hour")
    what.add_argument("--forgive", metavar="HOST", help="forget the failures of a host, so that it gets points again")
    parser.add_argument("--site", metavar="SITE", help="with --forgive: where that host is, if others have its name")
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """List hosts, or forgive one."""
    if arguments.site is not None and arguments.forgive is None:
        raise ConfigurationError("--site belongs to --forgive HOST")
    with connection.opened(arguments) as client:
        if arguments.forgive is None:
            found = _collect(client, everything=arguments.all)
        else:
            found = client.forgive_host(protocol.ForgiveHost(new_request_id(), arguments.forgive, site=arguments.site))
    if arguments.json:
        output.emit(found)
        return 0
    for line in lines(found, datetime.now(timezone.utc)) if arguments.forgive is None else _forgiven(found):
        output.say(line)
    return 0


def _collect(client: Client, *, everything: bool) -> protocol.WorkerHosts:
    items: list[protocol.WorkerHost] = []
    after: str | None = None
    while True:
        page = client.workers(everything=everything, after=after, limit=_PAGE)
        items += page.items
        after = page.next
        if after is None:
            return protocol.WorkerHosts(items)


def lines(found: protocol.WorkerHosts, now: datetime) -> list[str]:
    """Hosts, a line each."""
    if not found.items:
        return ["no workers"]
    header = ["site", "host", "workers", "done", "failed", "lost", "in a row", "seen", "tasks", "has", "set aside"]
    rows = [_row(host, now) for host in found.items]
    return text.table(header, rows, width=output.width_of(sys.stdout), style=output.style_of(sys.stdout))


def _row(host: protocol.WorkerHost, now: datetime) -> list[str]:
    return [
        text.one_line(host.site) or "-",
        text.one_line(host.host),
        str(host.workers),
        str(host.done),
        str(host.failed),
        str(host.lost),
        str(host.failures_in_a_row),
        f"{text.duration(text.seconds_between(host.last_seen_at, None, now))} ago",
        _tasks(host.tasks),
        _has(host.resources),
        f"until {text.local(host.set_aside_until)}: {text.one_line(host.reason)}" if host.set_aside_until else "-",
    ]


def _tasks(tasks: list[str]) -> str:
    if len(tasks) > _MOST_TASKS:
        return f"{len(tasks)} tasks"
    return " ".join(map(text.one_line, tasks)) or "-"


def _has(resources: list[protocol.WorkerResources]) -> str:
    kinds = list(filter(None, map(equipment.in_words, resources)))
    rest = [f"and {len(kinds) - _MOST_KINDS} more"] if len(kinds) > _MOST_KINDS else []
    return " | ".join([*kinds[:_MOST_KINDS], *rest]) or "-"


def _forgiven(found: protocol.WorkerHosts) -> list[str]:
    return [
        f"{text.one_line(host.host)}{f' at {text.one_line(host.site)}' if host.site else ''} gets points again"
        for host in found.items
    ]
