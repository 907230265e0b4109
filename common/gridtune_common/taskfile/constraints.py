"""Constraints as a task file writes them: ``width * layers <= 4096``. They are evaluated by the steering service."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import Any, Final

from gridtune_common.errors import Flaw
from gridtune_common.space.reading import did_you_mean, show

#: What an expression can call.
FUNCTIONS: Final = (
    "abs", "ceil", "exp", "floor", "log", "log2", "log10", "max", "min", "round", "sqrt",
)  # fmt: skip
_EXAMPLE: Final = "width * layers <= 4096"
_MAX_LENGTH: Final = 1000


def check_constraints(path: str, constraints: Any, parameters: Collection[str]) -> Iterator[Flaw]:
    """A list of expressions over the parameters is expected."""
    if not isinstance(constraints, (list, tuple)):
        yield Flaw(path, f"{show(constraints)} is no list of expressions; write one, such as ['{_EXAMPLE}']")
        return
    for index, text in enumerate(constraints):
        yield from _check_constraint(f"{path}[{index}]", text, parameters)


def _check_constraint(path: str, text: Any, parameters: Collection[str]) -> Iterator[Flaw]:
    if not isinstance(text, str) or not text.strip():
        yield Flaw(path, f"{show(text)} is no expression; write one, such as '{_EXAMPLE}'")
        return
    if len(text) > _MAX_LENGTH:
        yield Flaw(path, f"has {len(text)} characters; the most is {_MAX_LENGTH}")
        return
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or str(error)
        yield Flaw(path, f"{show(text)} is no expression ({reason}); write one, such as '{_EXAMPLE}'")
        return
    names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - set(FUNCTIONS))
    for name in names:
        if name not in parameters:
            yield Flaw(path, f"{name} is no parameter of the space; {did_you_mean(name, parameters)}")
    if not set(names) & set(parameters) and not any(name not in parameters for name in names):
        yield Flaw(path, f"{show(text)} speaks of no parameter; write one, such as '{_EXAMPLE}'")
