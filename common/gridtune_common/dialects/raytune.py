"""Ray Tune's calls as text: ``"loguniform(1e-4, 3e-2)"``, with or without ``tune.`` before it.

Bounds are as Ray documents them: ``randint`` and ``lograndint`` leave their upper bound out; quantized
functions include it, and give multiples of ``q``. A space may mix such texts with parameters of our form.
The text is never run: it is parsed, and its arguments must be literals.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Optional

from gridtune_common.dialects.conversion import Conversion, Converted
from gridtune_common.space.reading import did_you_mean, join, show

#: What looks like a call.
CALL: Final = r"\s*(?:ray\.)?(?:tune\.)?[A-Za-z_][A-Za-z0-9_]*\s*\(.*\)\s*"

_CALL: Final = re.compile(CALL, re.DOTALL)
_MAX_LENGTH: Final = 100_000


class _Function(NamedTuple):
    """The arguments of a function of Ray Tune; ``n_required`` first ones cannot be left out."""

    arguments: tuple[str, ...]
    n_required: int


FUNCTIONS: Final[Mapping[str, _Function]] = {
    "uniform": _Function(("lower", "upper"), 2),
    "quniform": _Function(("lower", "upper", "q"), 3),
    "loguniform": _Function(("lower", "upper", "base"), 2),
    "qloguniform": _Function(("lower", "upper", "q", "base"), 3),
    "randint": _Function(("lower", "upper"), 2),
    "qrandint": _Function(("lower", "upper", "q"), 2),
    "lograndint": _Function(("lower", "upper", "base"), 2),
    "qlograndint": _Function(("lower", "upper", "q", "base"), 3),
    "choice": _Function(("categories",), 1),
    "grid_search": _Function(("values",), 1),
    "randn": _Function(("mean", "sd"), 0),
    "qrandn": _Function(("mean", "sd", "q"), 3),
}


class RayTune:
    """The dialect of Ray Tune."""

    def recognises(self, space: Any) -> bool:
        """Whether at least one parameter is a text that looks like a call."""
        return isinstance(space, Mapping) and any(_is_call(body) for body in space.values())

    def convert(self, space: Mapping[str, Any], path: str) -> Converted:
        """Convert a space that stands at *path*; parameters that are no calls stay as they are.

        Raises:
            InvalidDocument: It cannot be converted; names every flaw.
        """
        conversion = Conversion()
        for name, body in space.items():
            if _is_call(body):
                _convert(name, body, join(path, str(name)), conversion)
            else:
                conversion.keep(name, body)
        return conversion.finish()


def _is_call(body: Any) -> bool:
    return isinstance(body, str) and _CALL.fullmatch(body) is not None


def _convert(name: Any, text: str, path: str, conversion: Conversion) -> None:
    function, arguments = _parse(text, path, conversion)
    if arguments is None:
        return
    if "categories" in arguments:
        conversion.choices(name, arguments["categories"], path)
    elif "values" in arguments:
        conversion.note(f"{name}: grid_search becomes a categorical: not each point tries all values")
        conversion.choices(name, arguments["values"], path)
    elif "randn" in function:
        _convert_normal(name, arguments, path, conversion)
    else:
        _convert_range(name, function, arguments, path, conversion)


def _parse(text: str, path: str, conversion: Conversion) -> tuple[str, Optional[dict[str, Any]]]:
    """The function's name and its arguments by name; None, with a flaw, if they cannot be used."""
    name = text.split("(", 1)[0].strip().rsplit(".", 1)[-1]
    if name not in FUNCTIONS:
        fix = did_you_mean(name, FUNCTIONS)
        conversion.flaws.add(path, f"{name} is no function of Ray Tune that is known here; {fix}")
        return name, None
    try:
        positional, named = _literals(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        fix = f"write {_usage(name)}, with numbers, texts and lists as they are"
        conversion.flaws.add(path, f"{show(text)} cannot be read; {fix}")
        return name, None
    return name, _bind(name, positional, named, path, conversion)


def _literals(text: str) -> tuple[list[Any], list[tuple[str, Any]]]:
    """The arguments of a call, by place and by name.

    Raises:
        SyntaxError, ValueError, TypeError, MemoryError, RecursionError: It is no call with literals alone.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError("too long")
    call = ast.parse(text.strip(), mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, (ast.Name, ast.Attribute)):
        raise ValueError("no call")
    positional = [ast.literal_eval(node) for node in call.args]
    return positional, [(keyword.arg or "**", ast.literal_eval(keyword.value)) for keyword in call.keywords]


def _bind(
    name: str, positional: list[Any], named: list[tuple[str, Any]], path: str, conversion: Conversion
) -> Optional[dict[str, Any]]:
    function = FUNCTIONS[name]
    bound = dict(zip(function.arguments, positional))
    before = len(conversion.flaws)
    if len(positional) > len(function.arguments):
        conversion.flaws.add(path, f"{name} takes no {len(positional)} arguments; write {_usage(name)}")
    for key, value in named:
        if key not in function.arguments:
            conversion.flaws.add(path, f"{name} has no argument {key}; write {_usage(name)}")
        elif key in bound:
            conversion.flaws.add(path, f"{key} is given twice; keep one")
        bound[key] = value
    missing = [key for key in function.arguments[: function.n_required] if key not in bound]
    if missing and len(conversion.flaws) == before:
        conversion.flaws.add(path, f"{' and '.join(missing)} of {name} is missing; write {_usage(name)}")
    return bound if len(conversion.flaws) == before else None


def _usage(name: str) -> str:
    return f"{name}({', '.join(FUNCTIONS[name].arguments[: max(FUNCTIONS[name].n_required, 1)])})"


def _convert_range(name: Any, function: str, arguments: Mapping[str, Any], path: str, conversion: Conversion) -> None:
    arguments = {**({"q": 1} if function == "qrandint" else {}), **arguments}
    numbers = _numbers(arguments, path, conversion)
    if numbers is None:
        return
    if "base" in numbers:
        conversion.note(f"{name}: base is ignored; the bounds are the values themselves, whatever the base")
    low, high, log = numbers["lower"], numbers["upper"], "log" in function
    if "randint" in function and not _are_whole(numbers, path, conversion):
        return
    if "q" in numbers and "randint" in function:
        conversion.multiples(name, path, low, high, numbers["q"], log=log)
    elif "q" in numbers:
        conversion.multiples(name, path, float(low), float(high), numbers["q"], log=log)
    elif "randint" in function:
        _convert_exclusive(name, low, high, log, path, conversion)
    else:
        conversion.number(name, path, low, high, log=log)


def _numbers(arguments: Mapping[str, Any], path: str, conversion: Conversion) -> Optional[dict[str, Any]]:
    """The arguments as finite numbers; flaws stand at the parameter itself, for there is nothing below it."""
    checked = Conversion()
    numbers = checked.numbers(arguments, "", tuple(arguments))
    for flaw in checked.flaws:
        conversion.flaws.add(path, f"{flaw.path}: {flaw.message}")
    return numbers


def _are_whole(numbers: Mapping[str, Any], path: str, conversion: Conversion) -> bool:
    broken = [value for key, value in numbers.items() if key != "base" and not isinstance(value, int)]
    for value in broken:
        conversion.flaws.add(path, f"{show(value)} is no whole number; write one, or uniform in place of randint")
    return not broken


def _convert_exclusive(name: Any, low: int, high: int, log: bool, path: str, conversion: Conversion) -> None:
    if high <= low:
        fix = f"the upper bound is left out, so write one above {low}"
        conversion.flaws.add(path, f"no whole number is from {low} to below {high}; {fix}")
    else:
        conversion.number(name, path, low, high - 1, kind="int", log=log)


def _convert_normal(name: Any, arguments: Mapping[str, Any], path: str, conversion: Conversion) -> None:
    numbers = _numbers({"mean": 0, "sd": 1, **arguments}, path, conversion)
    if numbers is not None:
        conversion.normal(name, path, numbers["mean"], numbers["sd"], step=numbers.get("q"))
