"""Run optimizer hosts of a service whose database is elsewhere, kept running until Ctrl-C.

For a service on several machines, all with the same settings and a copy of the same service.key in their data folders.
Hosts share the tasks among them; they can be started and stopped at any time, and need no port that others can reach.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gridtune_steering.commands import processes
from gridtune_steering.commands.joining import join


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: gridtune-data)")
    parser.add_argument("--processes", type=processes.count, default=1, metavar="N", help="how many (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Work until SIGTERM or Ctrl-C."""
    settings = join(arguments.data)
    processes.run(processes.supervisor_of(processes.optimizer_hosts(settings, arguments.processes)))
    return 0
