"""Constraints: expressions over parameters that every point must fulfil.

They come from users, so they are evaluated by simpleeval, which walks the expression's syntax tree and knows numbers,
texts, comparisons and a few functions, and nothing of Python's objects.
"""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from gridtune_common.errors import Flaw, InvalidDocument
from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_common.taskfile.constraints import FUNCTIONS

#: Of so many points drawn at random, one at least must fulfil the constraints, or the search would not get going.
_DRAWS = 5_000

_FUNCTIONS = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "log2": math.log2,
    "log10": math.log10,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
}
assert set(_FUNCTIONS) == set(FUNCTIONS)  # noqa: S101 - a slip between two files of this project


class Constraints:
    """All of a task's constraints; none by default.

    A constraint that speaks of an inactive parameter does not apply to the point. One that cannot be computed for a
    point, since it divides by zero there or takes the logarithm of nothing, does not hold.

    >>> constraints = Constraints(["width * layers <= 100"])
    >>> constraints.hold({"width": 64, "layers": 2}), constraints.hold({"width": 64})
    (False, True)

    Args:
        expressions: As in the task file.

    Raises:
        InvalidDocument: An expression has no meaning.
    """

    def __init__(self, expressions: Sequence[str] = ()) -> None:
        self._expressions = tuple(expressions)
        self._compiled = [_Expression(text, f"constraints[{index}]") for index, text in enumerate(expressions)]

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def __reduce__(self) -> tuple[type[Constraints], tuple[Sequence[str]]]:
        return Constraints, (self._expressions,)

    def hold(self, point: Mapping[str, Any]) -> bool:
        """Whether the point fulfils them all.

        Raises:
            InvalidDocument: An expression compares what cannot be compared.
        """
        return all(expression.holds(point) for expression in self._compiled)

    def broken_by(self, point: Mapping[str, Any]) -> str:
        """The first constraint that the point does not fulfil; empty if there is none."""
        return next((expression.text for expression in self._compiled if not expression.holds(point)), "")

    def check(self, space: SearchSpace) -> None:
        """Refuse constraints that no point fulfils, or next to none.

        Raises:
            InvalidDocument: So many points were drawn in vain, or an expression compares what cannot be compared.
        """
        rng = random.Random(0)  # noqa: S311 - a sample, no secret
        if self and not any(self.hold(space.sample(rng)) for _ in range(_DRAWS)):
            message = f"of {_DRAWS} points drawn at random, none fulfils them; loosen them or narrow the space"
            raise InvalidDocument([Flaw("constraints", message)])

    def sample(self, space: SearchSpace, rng: random.Random) -> Parameters:
        """Draw a point that fulfils them; after so many draws in vain, one that does not."""
        point = space.sample(rng)
        for _ in range(_DRAWS if self else 0):
            if self.hold(point):
                break
            point = space.sample(rng)
        return point


class _Expression:
    """One constraint, parsed once."""

    def __init__(self, text: str, path: str) -> None:
        import simpleeval

        self.text = text
        self._path = path
        self._errors = simpleeval.InvalidExpression
        self._evaluator = simpleeval.EvalWithCompoundTypes(functions=_FUNCTIONS, names={})
        try:
            self._tree = self._evaluator.parse(text)
        except (SyntaxError, simpleeval.InvalidExpression) as error:
            raise InvalidDocument([Flaw(path, f"{text!r} is no expression: {error}")]) from error
        calls = [ast.unparse(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)]
        unknown = [call for call in calls if call not in _FUNCTIONS]
        if unknown:
            message = f"{unknown[0]} cannot be called; there are {', '.join(_FUNCTIONS)}"
            raise InvalidDocument([Flaw(path, message)])
        self._names = {node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)} - set(_FUNCTIONS)

    def holds(self, point: Mapping[str, Any]) -> bool:
        if not self._names <= point.keys():
            return True
        self._evaluator.names = dict(point)
        try:
            verdict = self._evaluator.eval(self.text, previously_parsed=self._tree)
        except (ArithmeticError, ValueError):
            return False
        except (TypeError, self._errors) as error:
            raise InvalidDocument([Flaw(self._path, f"{self.text!r} cannot be evaluated: {error}")]) from error
        if not isinstance(verdict, bool):
            message = f"{self.text!r} is {verdict!r}, which is neither true nor false; compare it with something"
            raise InvalidDocument([Flaw(self._path, message)])
        return verdict
