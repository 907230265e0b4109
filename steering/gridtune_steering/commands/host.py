"""Run optimizer hosts of a service whose database is elsewhere, kept running until Ctrl-C.

For a service on several machines, all with the same settings and a copy of the same service.key in their data folders.
Hosts share the tasks among them; they can be started and stopped at any time, and need no port that others can reach.
With --metrics-port they tell Prometheus what they count, which no web process of another machine knows.
With --check it runs nothing and tells, by its exit code, whether all hosts are at work that run on this machine.
"""

from __future__ import annotations

import argparse
import logging
import socket
from contextlib import ExitStack
from pathlib import Path

from gridtune_common.cli import output
from gridtune_steering.assembly import assemble
from gridtune_steering.commands import processes
from gridtune_steering.commands.joining import join
from gridtune_steering.metrics import files, serving
from gridtune_steering.services import owning
from gridtune_steering.settings import Settings

_log = logging.getLogger("gridtune.serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: gridtune-data)")
    parser.add_argument("--processes", type=processes.count, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument(
        "--metrics-port",
        type=processes.port,
        metavar="PORT",
        help="port for the metrics of these processes, 0 for any free one (default: none)",
    )
    parser.add_argument(
        "--metrics-bind",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="IP address for it; others than %(default)s need GRIDTUNE_STEERING_METRICS_TOKEN",
    )
    parser.add_argument("--check", action="store_true", help="only tell whether so many are at work on this machine")


def run(arguments: argparse.Namespace) -> int:
    """Work until SIGTERM or Ctrl-C."""
    if arguments.check:
        return _check(Settings.from_environment(data=arguments.data), arguments.processes)
    settings = join(arguments.data)
    with ExitStack() as stack:
        if arguments.metrics_port is not None:
            shared = files.shared_folder(settings.data)
            where = (arguments.metrics_bind, arguments.metrics_port, settings.metrics_token)
            url = stack.enter_context(serving.served(shared, *where))
            _log.info("metrics on %s", url, extra={"action": "serving_metrics"})
        processes.run(processes.supervisor_of(processes.optimizer_hosts(settings, arguments.processes)))
    return 0


def _check(settings: Settings, wanted: int) -> int:
    steering, bell = assemble(settings)
    n = owning.n_at_work(steering, socket.gethostname())
    steering.database.close()
    bell.close()
    output.say(f"optimizer hosts at work on this machine: {n}")
    return 0 if n >= wanted else 1
