"""The options that say which service to call, and the client made from them."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from gridtune_common.cli import output
from gridtune_common.settings import Connection, Settings

if TYPE_CHECKING:
    from gridtune_common.client import Client

#: Seconds for which a command goes on trying to reach the service.
RETRY_FOR: Final = 5.0

_FLAGS: Final = ("server", "token_file", "profile", "config", "ca", "data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the service and the caller."""
    group = parser.add_argument_group(
        "service",
        "Flags come before environment variables, which come before the configuration file.\n"
        "When nothing names a server, one that runs on this machine is used.",
    )
    group.add_argument("--server", metavar="URL", help="base URL of the service (GRIDTUNE_SERVER)")
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help="file with the token (GRIDTUNE_TOKEN_FILE; or GRIDTUNE_TOKEN: the token)",
    )
    group.add_argument("--profile", metavar="NAME", help="section of the configuration file (GRIDTUNE_PROFILE)")
    group.add_argument("--config", metavar="FILE", help="instead of ~/.config/gridtune/config.ini (GRIDTUNE_CONFIG)")
    group.add_argument("--ca", metavar="FILE", help="certificate authorities to trust (GRIDTUNE_CA)")
    group.add_argument(
        "--data",
        metavar="DIR",
        help="data folder of a service on this machine (GRIDTUNE_DATA; gridtune-data)",
    )


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a task."""
    parser.add_argument("task", metavar="TASK", help="id of a task, or its name (your newest of that name)")


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Read the settings, and pass on what they warn of."""
    flags = {name: getattr(arguments, name, None) for name in _FLAGS}
    settings = Settings.read(flags, os.environ)
    for warning in settings.warnings:
        output.warn(warning)
    return settings


@contextlib.contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Client]:
    """A client of the service that the arguments name; a task among them goes by its id from then on."""
    with connected(settings_of(arguments).connection()) as client:
        if getattr(arguments, "task", None):
            arguments.task = client.task_id(arguments.task)
        yield client


@contextlib.contextmanager
def connected(connection: Connection, *, retry_for: float | None = None) -> Iterator[Client]:
    """A client of a service."""
    from gridtune_common.client import Client

    seconds = RETRY_FOR if retry_for is None else retry_for
    client = Client(connection.server, connection.token.reveal(), retry_for=seconds, verify=connection.ca)
    try:
        yield client
    finally:
        client.close()
