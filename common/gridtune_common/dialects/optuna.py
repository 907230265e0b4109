"""Optuna's distributions, as ``distribution_to_json`` writes them and as studies store them.

``{"lr": {"name": "FloatDistribution", "attributes": {"low": 1e-5, "high": 0.1, "log": true, "step": null}}}``,
where each distribution may also be the JSON text of such an object; names of before Optuna 3 included.
Steps count from the lower bound, as ours do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Optional

from gridtune_common.dialects.conversion import Conversion, Converted
from gridtune_common.space.reading import did_you_mean, join, show


class _Kind(NamedTuple):
    """What a distribution of numbers is here; ``log`` None: its attribute says so."""

    kind: str
    log: Optional[bool]
    step: Optional[str]


DISTRIBUTIONS: Final[Mapping[str, _Kind]] = {
    "FloatDistribution": _Kind("float", None, "step"),
    "IntDistribution": _Kind("int", None, "step"),
    "CategoricalDistribution": _Kind("categorical", False, None),
    "UniformDistribution": _Kind("float", False, None),
    "LogUniformDistribution": _Kind("float", True, None),
    "DiscreteUniformDistribution": _Kind("float", False, "q"),
    "IntUniformDistribution": _Kind("int", False, "step"),
    "IntLogUniformDistribution": _Kind("int", True, "step"),
}


class Optuna:
    """The dialect of Optuna."""

    def recognises(self, space: Any) -> bool:
        """Whether at least one parameter is a distribution with a name and attributes."""
        return isinstance(space, Mapping) and any(_is_parameter(body) for body in space.values())

    def convert(self, space: Mapping[str, Any], path: str) -> Converted:
        """Convert a space that stands at *path*.

        Raises:
            InvalidDocument: It cannot be converted; names every flaw.
        """
        conversion = Conversion()
        for name, body in space.items():
            _convert(name, _unpacked(body), join(path, str(name)), conversion)
        return conversion.finish()


def _is_parameter(body: Any) -> bool:
    body = _unpacked(body)
    return isinstance(body, Mapping) and "attributes" in body and str(body.get("name")).endswith("Distribution")


def _unpacked(body: Any) -> Any:
    """The object that a JSON text stands for; anything else as it is."""
    if not isinstance(body, str) or not body.lstrip().startswith("{"):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _convert(name: Any, body: Any, path: str, conversion: Conversion) -> None:
    fields = conversion.read(body, path, ("name", "attributes"))
    if fields is None:
        return
    written = fields["name"]
    if not isinstance(written, str) or written not in DISTRIBUTIONS:
        fix = did_you_mean(written, DISTRIBUTIONS)
        conversion.flaws.add(join(path, "name"), f"{show(written)} is no distribution; {fix}")
        return
    below = join(path, "attributes")
    kind = DISTRIBUTIONS[written]
    if kind.kind == "categorical":
        attributes = conversion.read(fields["attributes"], below, ("choices",))
        if attributes is not None:
            conversion.choices(name, attributes["choices"], path, "attributes.choices")
        return
    optional = [key for key in ("log", kind.step) if key]
    attributes = conversion.read(fields["attributes"], below, ("low", "high"), optional)
    if attributes is not None:
        _convert_number(name, kind, attributes, path, conversion)


def _convert_number(name: Any, kind: _Kind, attributes: Mapping[str, Any], path: str, conversion: Conversion) -> None:
    keys = [key for key in ("low", "high", kind.step) if key and key in attributes]
    numbers = conversion.numbers(attributes, join(path, "attributes"), keys)
    log = attributes.get("log", False) if kind.log is None else kind.log
    if not isinstance(log, bool):
        conversion.flaws.add(join(path, "attributes.log"), f"{show(log)} is no boolean; write true or false")
    elif numbers is not None:
        places = {"low": "attributes.low", "high": "attributes.high", "step": f"attributes.{kind.step}"}
        step = numbers.get(kind.step or "")
        low, high = numbers["low"], numbers["high"]
        conversion.number(name, path, low, high, kind=kind.kind, log=log, step=step, places=places)
