"""Tell who the service takes you for, and what your token may do.

The token comes from --token-file, GRIDTUNE_TOKEN, GRIDTUNE_TOKEN_FILE, or 'token = …' or 'token_file = …' in
the configuration file, ~/.config/gridtune/config.ini:

    [default]
    server = https://tune.example.org
    token_file = token
"""

from __future__ import annotations

import argparse

from gridtune_common.cli import connection, output, text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connection.add_json(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Tell who the caller is."""
    with connection.opened(arguments) as client:
        identity, server = client.whoami(), client.server
    if arguments.json:
        output.emit(identity)
        return 0
    entries = [
        ("server", server),
        ("user", text.one_line(identity.user)),
        ("scope", identity.scope.value),
        ("task", identity.task or ""),
        ("token", identity.token),
    ]
    for line in text.facts(entries):
        output.say(line)
    return 0
