"""Reads the parameters of a search space from a document.

Each parameter is an object (``{type: float, low: 0.1, high: 1}``) or, for a categorical, its list of choices
(``[adam, sgd]``). Numbers may be written as text: YAML 1.1 readers take ``1e-5``, without a point, for text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Optional

from gridtune_common.space.base import check_name
from gridtune_common.space.parameters import KINDS, Categorical, Parameter
from gridtune_common.space.reading import (
    LARGEST_WHOLE,
    Flaws,
    check_number,
    check_whole,
    did_you_mean,
    join,
    read_mapping,
    show,
)

#: The keys of each kind of parameter.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "float": ("type", "low", "high", "scale", "step", "when"),
    "int": ("type", "low", "high", "scale", "step", "when"),
    "normal": ("type", "mean", "std", "low", "high", "step", "when"),
    "lognormal": ("type", "mean", "std", "low", "high", "step", "when"),
    "categorical": ("type", "choices", "when"),
    "ordinal": ("type", "choices", "when"),
}
SCALES: Final = ("linear", "log")

#: What other programs call the keys and kinds, and what to write here.
_KEY_HINTS: Final = {
    "log": "scale: log",
    "min": "low",
    "max": "high",
    "lower": "low",
    "upper": "high",
    "q": "step",
    "mu": "mean",
    "loc": "mean",
    "sigma": "std",
    "sd": "std",
    "stddev": "std",
    "values": "choices",
    "options": "choices",
    "categories": "choices",
    "if": "when",
    "condition": "when",
    "conditions": "when",
}
_KIND_HINTS: Final = {
    "real": "float",
    "double": "float",
    "uniform": "float",
    "loguniform": "float with scale: log",
    "integer": "int",
    "randint": "int",
    "gaussian": "normal",
    "gauss": "normal",
    "randn": "normal",
    "truncnorm": "normal with low and high",
    "qnormal": "normal with a step",
    "qlognormal": "lognormal with a step",
    "choice": "categorical",
    "enum": "categorical",
    "bool": "categorical with choices: [true, false]",
    "boolean": "categorical with choices: [true, false]",
}
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[-+]?\.?(inf|infinity|nan)", re.IGNORECASE)
_EXAMPLE: Final = "{width: {type: int, low: 16, high: 512}}"


def parse_parameters(document: Any, path: str, flaws: Flaws) -> dict[str, Optional[Parameter]]:
    """Read all parameters of a space.

    Args:
        document: What is written at *path*.
        path: Where, for the flaws.
        flaws: Takes what is wrong.

    Returns:
        The parameters by name in the order of writing; None for one that cannot be used.
    """
    if document is None or document == {}:
        flaws.add(path, f"is empty; name at least one parameter, such as {_EXAMPLE}")
        return {}
    if not isinstance(document, Mapping):
        flaws.add(path, f"{show(document)} is no mapping of names to parameters; write it as {_EXAMPLE}")
        return {}
    return {name: _parse_parameter(name, body, join(path, str(name)), flaws) for name, body in document.items()}


def _parse_parameter(name: Any, document: Any, path: str, flaws: Flaws) -> Optional[Parameter]:
    if isinstance(document, (list, tuple)):
        return flaws.build(path, Categorical, name=name, choices=document)
    flaws_of_name = list(check_name(name))
    flaws.adopt(path, flaws_of_name)
    if not isinstance(document, Mapping):
        flaws.add(path, _explain_no_parameter(name, document))
        return None
    kind = _parse_kind(document.get("type"), path, flaws)
    if kind is None:
        return None
    before = len(flaws)
    body = read_mapping(document, path, KEYS[kind], flaws, _hints(kind))
    fields = _parse_fields(kind, body or {}, path, flaws)
    if not set(_required(kind)) <= set(fields):
        return None
    # an unusable name was noted already: a stand-in lets the rest be checked
    parameter = flaws.build(path, KINDS[kind], name="_" if flaws_of_name else name, **fields)
    return parameter if len(flaws) == before and not flaws_of_name else None


def _explain_no_parameter(name: Any, document: Any) -> str:
    constant = f"constants: {{{name}: {show(document)}}}"
    return f"{show(document)} is no parameter; write [a, b] or {{type: …}}, or {constant} for a fixed value"


def _parse_kind(kind: Any, path: str, flaws: Flaws) -> Optional[str]:
    where = join(path, "type")
    if kind is None:
        flaws.add(where, f"is missing; write one of {', '.join(KEYS)}")
    elif not isinstance(kind, str):
        flaws.add(where, f"{show(kind)} is no type; write one of {', '.join(KEYS)}")
    elif kind not in KEYS:
        hint = _KIND_HINTS.get(kind.lower().replace("_", ""))
        flaws.add(where, f"{show(kind)} is no type; {f'write {hint}' if hint else did_you_mean(kind, KEYS)}")
    else:
        return kind
    return None


def _hints(kind: str) -> dict[str, str]:
    """What to do about the keys that a kind of parameter does not have."""
    elsewhere = {key for keys in KEYS.values() for key in keys}
    hints = {key: f"{_article(kind)} takes {', '.join(KEYS[kind])}" for key in elsewhere}
    for key, ours in _KEY_HINTS.items():
        if ours.split(":")[0] in KEYS[kind]:
            hints[key] = f"write {ours}"
    if "std" in KEYS[kind]:
        scale = "write type: lognormal" if kind == "normal" else "leave it out: a lognormal is logarithmic already"
        hints.update(log=scale, scale=scale)
    return hints


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'io' else 'a'} {kind}"


def _parse_fields(kind: str, body: dict[str, Any], path: str, flaws: Flaws) -> dict[str, Any]:
    """The constructor's arguments for what is written; what cannot be read is left out and noted."""
    fields: dict[str, Any] = {key: body[key] for key in ("choices", "when") if key in body}
    for key in _required(kind):
        if key not in body:
            flaws.add(join(path, key), f"is missing; {_article(kind)} needs {' and '.join(_required(kind))}")
    for key in ("mean", "std", "low", "high", "step"):
        if key in body:
            _parse_number(kind, key, body[key], join(path, key), fields, flaws)
    if "scale" in body:
        _parse_scale(body["scale"], join(path, "scale"), fields, flaws)
    return fields


def _required(kind: str) -> tuple[str, ...]:
    return next(keys for keys in (("choices",), ("mean", "std"), ("low", "high")) if set(keys) <= set(KEYS[kind]))


def _parse_number(kind: str, key: str, value: Any, path: str, fields: dict[str, Any], flaws: Flaws) -> None:
    number = as_number(value)
    if kind == "int" and isinstance(number, float) and number.is_integer():
        number = int(number)
    check = check_whole(path, number, -LARGEST_WHOLE) if kind == "int" else check_number(path, number)
    found = list(check)
    flaws.adopt("", found)
    if not found:
        fields[key] = number


def as_number(value: Any) -> Any:
    """The number that a text stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    if not _NUMBER.fullmatch(text):
        return value
    try:
        return int(text)
    except ValueError:
        return float(text)


def _parse_scale(scale: Any, path: str, fields: dict[str, Any], flaws: Flaws) -> None:
    if scale in SCALES:
        fields["log"] = scale == "log"
    else:
        flaws.add(path, f"{show(scale)} is no scale; {did_you_mean(scale, SCALES, 'write one of')}")
