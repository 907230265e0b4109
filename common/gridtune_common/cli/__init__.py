"""The command line ``gridtune``: finds the command in a table, loads it and nothing else, and runs it.

A command is a module with two functions, ``add_arguments(parser)`` and ``run(arguments)``, and a docstring
that is its help. Start-up is kept free of everything heavier than argparse, which a test holds.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from gridtune_common import __version__
from gridtune_common.cli import exits, output
from gridtune_common.cli.commands import COMMANDS, GROUPS, Command
from gridtune_common.errors import ConfigurationError, MissingExtra


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    output.prepare()
    return exits.guarded(lambda: _dispatch(words))


def _dispatch(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        output.say(overview())
        return exits.ExitCode.OK if words else exits.ExitCode.USAGE
    if words[0] in ("--version", "version"):
        output.say(f"gridtune {__version__}")
        return exits.ExitCode.OK
    name = _known(words[0])
    module = load(name)
    return int(module.run(parser_of(name, module).parse_args(words[1:])))


def _known(name: str) -> str:
    if name in COMMANDS:
        return name
    if name.startswith("-"):
        raise ConfigurationError(f"{name} comes before the command; write 'gridtune COMMAND {name} …'")
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{close[0]}'?" if close else "see gridtune --help"
    raise ConfigurationError(f"there is no command {name!r}; {hint}")


def load(name: str) -> Any:
    """Import the module of a command.

    Raises:
        MissingExtra: The command belongs to a part that is not installed.
    """
    command = COMMANDS[name]
    try:
        return importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if command.extra is None or (error.name or "").split(".")[0] == __package__.split(".")[0]:
            raise
        raise MissingExtra(f"gridtune {name}", command.extra) from error


def parser_of(name: str, module: Any) -> argparse.ArgumentParser:
    """The parser of a command, with the module's docstring as help."""
    parser = _Parser(
        prog=f"gridtune {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints look like all others."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and leave."""
        output.note(f"error: {message}; see {self.prog} --help")
        raise SystemExit(exits.ExitCode.USAGE)


def overview() -> str:
    """The text of ``gridtune --help``."""
    lines = ["usage: gridtune COMMAND [options]", "", _SUMMARY]
    for group in GROUPS:
        lines += ["", f"{group}:"]
        lines += [_row(name, command) for name, command in COMMANDS.items() if command.group == group]
    lines += ["", "'gridtune COMMAND --help' explains a command; 'gridtune --version' tells the version.", ""]
    lines += ["exit codes:", *(f"  {code.value:>3}  {meaning}" for code, meaning in exits.MEANINGS.items())]
    return "\n".join(lines)


def _row(name: str, command: Command) -> str:
    return f"  {name:<10} {command.help}"


_SUMMARY = "Hyperparameter optimisation as a service: one file, one command, one task."
