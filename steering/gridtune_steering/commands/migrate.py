"""Make the service's database, or bring it up to date with this version of gridtune.

Run it before the first process of a new version starts; those of the version before go on meanwhile. What only the new
version can live with is changed by 'gridtune migrate --finish', when no process of the old one runs any more. On the
first run the service's key (service.key) and the operator's token (operator.token) are made in the data folder.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from gridtune_common.cli import output
from gridtune_steering import logs
from gridtune_steering.assembly import assemble
from gridtune_steering.services import founding
from gridtune_steering.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: gridtune-data)")
    parser.add_argument("--finish", action="store_true", help="also what older versions cannot live with")


def run(arguments: argparse.Namespace) -> int:
    """Migrate, and say what was done."""
    settings = Settings.from_environment(data=arguments.data)
    logs.set_up(settings)
    os.umask(0o077)
    settings.data.mkdir(parents=True, exist_ok=True)
    steering, bell = assemble(settings)
    done = founding.found(steering, finish=arguments.finish)
    steering.database.close()
    bell.close()
    output.say(f"applied: {', '.join(done)}" if done else "the database was up to date")
    if left := founding.left_to_finish(settings):
        output.say(
            f"when no process of the version before runs any more: gridtune migrate --finish ({', '.join(left)})"
        )
    return 0
