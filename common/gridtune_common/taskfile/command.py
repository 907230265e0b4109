"""The payload's command line and the places in it where values go.

``{learning_rate}`` is replaced by the value of that parameter or constant, quoted for the shell, so it
should stand outside quotes of its own. Everything else in braces is left to the shell and the program:
``${HOME}``, ``{1..3}``, ``'{"a": 1}'``. Where the text ``{word}`` itself is meant, it is written
``{{word}}``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

_BRACES: Final = re.compile(
    r"\$\{"  # begins a shell variable
    r"|\{\{(?P<literal>[A-Za-z_][A-Za-z0-9_]*)\}\}"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}"
)


def placeholders(command: str) -> set[str]:
    """The names in a command that stand for values.

    >>> sorted(placeholders("train {lr} --out ${DIR} '{{x}}' --config '{0: {layers}}'"))
    ['layers', 'lr']
    """
    return {match["name"] for match in _BRACES.finditer(command) if match["name"]}


def fill(command: str, values: Mapping[str, Any], known: Collection[str]) -> str:
    """Put values into a command.

    Args:
        command: The command with its placeholders.
        values: The values of the active parameters and the constants.
        known: The names of all parameters: one without a value is inactive and becomes an empty text.

    Returns:
        The command for ``/bin/sh``; placeholders that are neither in *values* nor in *known* stay as they are.

    >>> fill("train --lr={lr} --tag={tag} --momentum={momentum}", {"lr": 0.1, "tag": "a b"}, {"momentum"})
    "train --lr=0.1 --tag='a b' --momentum="
    """

    def replacement(match: re.Match[str]) -> str:
        name = match["name"]
        if match["literal"]:
            return f"{{{match['literal']}}}"
        if name in values:
            return shlex.quote(as_text(values[name]))
        return "" if name in known else match[0]

    return _BRACES.sub(replacement, command)


def as_text(value: Any) -> str:
    """A value as a command line or an environment variable carries it: JSON, but texts without quotes.

    >>> as_text(True), as_text(1e-5), as_text("adam"), as_text(None), as_text([1, 2])
    ('true', '1e-05', 'adam', 'null', '[1, 2]')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def join_arguments(arguments: Sequence[str]) -> str:
    """Write a list of arguments as a command; the shell will see each as it is, with values in place.

    >>> join_arguments(["python", "my train.py", "--lr={lr}"])
    "python 'my train.py' --lr={lr}"
    """
    return " ".join(_quote(argument) for argument in arguments)


def _quote(argument: str) -> str:
    """Quote all but the placeholders, for their values are quoted when they are put in."""
    pieces: list[str] = []
    start = 0
    for match in _BRACES.finditer(argument):
        if match["name"]:
            pieces += [argument[start : match.start()], match[0]]
            start = match.end()
    pieces.append(argument[start:])
    if len(pieces) == 1:
        return shlex.quote(argument)
    return "".join(piece if index % 2 else shlex.quote(piece) for index, piece in enumerate(pieces) if piece)
