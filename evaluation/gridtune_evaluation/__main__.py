"""``python -m gridtune_evaluation``: the agent without the rest of the command line; also the agent in one file."""

from __future__ import annotations

import argparse
import sys

from gridtune_common import __version__
from gridtune_common.cli import exits
from gridtune_evaluation import command


def main(program: str = "python -m gridtune_evaluation") -> int:
    """Read the command line and run an agent."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gridtune {__version__}")
    command.add_arguments(parser)
    return exits.guarded(lambda: command.run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
