"""Exit codes: one table from error to code, and the one place that prints errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from gridtune_common.cli import output
from gridtune_common.cli.loading import InvalidFile
from gridtune_common.errors import (
    ConfigurationError,
    GridtuneError,
    InvalidDocument,
    MachineUnfit,
    MissingExtra,
    Refused,
    ServiceError,
    Unreachable,
)


class ExitCode(IntEnum):
    """What a command tells the shell. Values are only ever added."""

    OK = 0
    UNSUCCESSFUL = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    UNAUTHORISED = 5
    UNFIT = 6
    INTERRUPTED = 130
    PIPE = 141


MEANINGS: Final = {
    ExitCode.OK: "all went well",
    ExitCode.UNSUCCESSFUL: "the task ended without a done point, was cancelled or had to be paused; or workers died",
    ExitCode.USAGE: "wrong usage, an invalid document or configuration, or a missing extra",
    ExitCode.UNREACHABLE: "the service cannot be reached, or did not start",
    ExitCode.REFUSED: "the service refused",
    ExitCode.UNAUTHORISED: "no valid token, or not allowed",
    ExitCode.UNFIT: "this machine does not fit the task: see its resources",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.PIPE: "the reader of the output went away",
}

#: The first row whose class fits, decides.
_CODES: Final = (
    (InvalidDocument, ExitCode.USAGE),
    (ConfigurationError, ExitCode.USAGE),
    (MissingExtra, ExitCode.USAGE),
    (MachineUnfit, ExitCode.UNFIT),
    (Unreachable, ExitCode.UNREACHABLE),
    (ServiceError, ExitCode.REFUSED),
    (GridtuneError, ExitCode.UNSUCCESSFUL),
)

_SIGN_IN_HINT: Final = "give a token by GRIDTUNE_TOKEN, --token-file or a profile; see gridtune whoami --help"


def exit_code(error: GridtuneError) -> ExitCode:
    """The exit code for an error.

    >>> exit_code(Refused(403, {})).name, exit_code(Refused(404, {})).name
    ('UNAUTHORISED', 'REFUSED')
    """
    if isinstance(error, Refused) and error.status in (401, 403):
        return ExitCode.UNAUTHORISED
    return next(code for kind, code in _CODES if isinstance(error, kind))


def guarded(action: Callable[[], int]) -> int:
    """Run *action* and turn what it raises into an exit code, with the error on stderr."""
    try:
        code = action()
        output.flush()
    except SystemExit as leaving:  # argparse has said why
        return leaving.code if isinstance(leaving.code, int) else ExitCode.OK
    except KeyboardInterrupt:
        output.note("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.PIPE
    except GridtuneError as error:
        output.complain(describe(error))
        return exit_code(error)
    return code


def describe(error: GridtuneError) -> str:
    """An error for people: a document's flaws as a list, a hint where there is one."""
    first, *rest = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, InvalidFile):
        first, rest = f"{error.path} cannot be used:", [first, *rest]
    elif isinstance(error, InvalidDocument) and rest:
        first, rest = f"{len(error.flaws)} flaws:", [first, *rest]
    lines = [first, *(f"  - {line}" for line in rest)] if isinstance(error, _LISTED) else [first, *rest]
    if isinstance(error, Refused) and error.status == 401:
        lines.append(_SIGN_IN_HINT)
    return "\n".join(lines)


_LISTED: Final = (InvalidDocument, Refused)


def _drop_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not complain about it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
