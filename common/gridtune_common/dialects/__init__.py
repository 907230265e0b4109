"""Search spaces in the formats of other programs, converted to ours.

A task file says ``dialect: hpogrid``, or nothing: then the space is looked at. A dialect is only recognised by
what could not be a parameter of ours, so a space in our form is never taken for anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, Optional, Protocol, cast

from gridtune_common.dialects.conversion import Converted
from gridtune_common.errors import Flaw, InvalidDocument
from gridtune_common.space.parameters import KINDS
from gridtune_common.space.reading import did_you_mean, show

__all__ = ["DIALECTS", "Converted", "Dialect", "Translation", "is_bare_space", "load", "recognise", "translate"]

#: Every dialect by its name, in the order in which they are tried; loaded on use.
DIALECTS: Final[Mapping[str, str]] = {
    "hpogrid": "gridtune_common.dialects.hpogrid:Hpogrid",
    "idds": "gridtune_common.dialects.idds:Idds",
    "optuna": "gridtune_common.dialects.optuna:Optuna",
    "raytune": "gridtune_common.dialects.raytune:RayTune",
    "bayes_opt": "gridtune_common.dialects.bayes_opt:BayesOpt",
}


class Dialect(Protocol):
    """A format of search spaces. Has no state; pure."""

    def recognises(self, space: Any) -> bool:
        """Whether this is meant to be such a space, be it right in every detail or not; takes any value."""

    def convert(self, space: Mapping[str, Any], path: str) -> Converted:
        """Convert a space.

        Args:
            space: What is written at *path*.
            path: Where, for the flaws.

        Raises:
            InvalidDocument: It cannot be converted; names every flaw, with the path and what to write.
        """


@dataclass(frozen=True)
class Translation:
    """A task document whose space is in our form.

    Attributes:
        document: The document, without the key ``dialect``; it may still be wrong in other ways.
        dialect: What its space was written in; None for our own form.
        notes: What the conversion changed or left out, for people.
    """

    document: Any
    dialect: Optional[str] = None
    notes: tuple[str, ...] = ()


def load(name: str) -> Dialect:
    """The dialect called *name*, which is in the table."""
    module, attribute = DIALECTS[name].split(":")
    return cast(Dialect, getattr(import_module(module), attribute)())


def recognise(space: Any) -> Optional[str]:
    """The name of the dialect that a space is written in; None for our own form and for anything unknown."""
    return next((name for name in DIALECTS if load(name).recognises(space)), None)


def translate(document: Any) -> Translation:
    """Bring the space of a task document into our form; what was fixed in it joins the constants.

    Raises:
        InvalidDocument: The space or the name of its dialect cannot be used.
    """
    if not isinstance(document, Mapping):
        return Translation(document)
    rest = {key: value for key, value in document.items() if key != "dialect"}
    space = rest.get("space")
    name = _named(document["dialect"]) if document.get("dialect") is not None else recognise(space)
    if name is None or not isinstance(space, Mapping) or not space:
        return Translation(rest)
    converted = load(name).convert(space, "space")
    merged = {**rest, "space": converted.space}
    if converted.constants:
        merged["constants"] = _merged(converted.constants, rest.get("constants"))
    return Translation(merged, name, tuple(converted.notes))


def is_bare_space(document: Any) -> bool:
    """Whether a document that should be a task is a search space by itself, in our form or a dialect."""
    if not isinstance(document, Mapping) or not document or "space" in document:
        return False
    return all(_is_parameter(body) for body in document.values())


def _is_parameter(body: Any) -> bool:
    is_ours = isinstance(body, Mapping) and isinstance(body.get("type"), str) and body["type"] in KINDS
    return is_ours or recognise({"_": body}) is not None


def _named(name: Any) -> str:
    if isinstance(name, str) and name in DIALECTS:
        return name
    message = f"{show(name)} is no dialect; {did_you_mean(name, DIALECTS)}"
    raise InvalidDocument([Flaw("dialect", message)])


def _merged(fixed: Mapping[str, Any], constants: Any) -> Any:
    """The constants of the space and of the document together; what is no mapping is left to be refused."""
    if constants is None:
        return dict(fixed)
    if not isinstance(constants, Mapping):
        return constants
    clashes = [name for name in fixed if name in constants]
    if clashes:
        message = "is also fixed in the space; remove one of the two"
        raise InvalidDocument([Flaw(f"constants.{name}", message) for name in clashes])
    return {**constants, **fixed}
