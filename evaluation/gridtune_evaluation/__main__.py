"""``python -m gridtune_evaluation``: the agent without the rest of the command line."""

from __future__ import annotations

import argparse
import sys

from gridtune_common.cli import exits
from gridtune_evaluation import command


def main() -> int:
    """Read the command line and run an agent."""
    parser = argparse.ArgumentParser(
        prog="python -m gridtune_evaluation",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return exits.guarded(lambda: command.run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
