"""Run web processes of a service whose database is elsewhere, kept running until Ctrl-C.

For a service on several machines, all with the same settings (GRIDTUNE_STEERING_DATABASE and _OBJECT_STORE above all)
and a copy of the same service.key in their data folders. 'gridtune migrate' makes the database first; a proxy with TLS
goes in front. Web processes can be started and stopped at any time.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from gridtune_steering.commands import processes
from gridtune_steering.commands.joining import join

_log = logging.getLogger("gridtune.serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: gridtune-data)")
    processes.add_address(parser)
    parser.add_argument("--processes", type=processes.count, default=1, metavar="N", help="how many (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    settings = join(arguments.data)
    with processes.listening(arguments.host, arguments.port) as listener:
        supervisor = processes.supervisor_of(processes.web_processes(settings, listener, arguments.processes))
        _log.info("serving on %s", processes.url_of(listener), extra={"action": "serving"})
        processes.run(supervisor)
    return 0
