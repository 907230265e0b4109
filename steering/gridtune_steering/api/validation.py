"""Requests from bytes to messages, through pydantic on the protocol's own dataclasses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gridtune_common.errors import Flaw
from gridtune_steering.services.errors import Unusable

#: Beyond this, integers stop being exact in JSON (RFC 8259, section 6), and in some databases at all.
_LARGEST_INTEGER = 2**53 - 1
#: The shortest and longest texts allowed in a message's fields of these names.
TEXT_LIMITS: Mapping[str, tuple[int, int]] = {
    "request_id": (1, 128),
    "worker": (1, 255),
    "site": (0, 255),
    "host": (0, 255),
    "agent_version": (0, 255),
    "user": (0, 100),
    "name": (0, 255),
}


@cache
def adapter(kind: type) -> TypeAdapter[Any]:
    """The validator of a message class."""
    return TypeAdapter(kind)


def read_body(kind: type, body: bytes) -> Any:
    """Parse a JSON body.

    Raises:
        Unusable: It is no JSON, or not what the route takes; with every flaw.
    """
    try:
        message = adapter(kind).validate_json(body or b"null", strict=True)
    except ValidationError as error:
        raise _translated(error, "the request's body cannot be used") from error
    flaws = list(_excesses(message, ""))
    if flaws:
        raise Unusable("the request's body cannot be used", flaws)
    return message


def read_query(kind: type, arguments: Mapping[str, str]) -> Any:
    """Parse a query string.

    Raises:
        Unusable: A parameter is unknown, missing or out of range.
    """
    known = {f.name for f in dataclasses.fields(kind)}
    flaws = [
        Flaw(name, f"unknown parameter; there are: {', '.join(sorted(known))}")
        for name in arguments
        if name not in known
    ]
    if flaws:
        raise Unusable("the query string cannot be used", flaws)
    try:
        message = adapter(kind).validate_python(dict(arguments))
    except ValidationError as error:
        raise _translated(error, "the query string cannot be used") from error
    flaws = list(_excesses(message, ""))
    if flaws:
        raise Unusable("the query string cannot be used", flaws)
    return message


def _translated(error: ValidationError, detail: str) -> Unusable:
    flaws = [
        Flaw(".".join(str(part) for part in item["loc"]), item["msg"])
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return Unusable(detail, flaws)


def _excesses(value: Any, path: str) -> Iterator[Flaw]:
    """What types cannot say: numbers not finite or beyond what databases hold, names too long, the character NUL."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from _excesses(getattr(value, f.name), f"{path}.{f.name}".lstrip("."))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _excesses(key, path)
            yield from _excesses(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _excesses(item, f"{path}[{index}]")
    elif isinstance(value, int) and not -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        yield Flaw(path, f"is beyond ±{_LARGEST_INTEGER}, where JSON stops being exact")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Flaw(path, "is not a finite number; send null for a metric that has none")
    elif isinstance(value, str):
        yield from _text_excesses(value, path)


def _text_excesses(value: str, path: str) -> Iterator[Flaw]:
    if "\0" in value:
        yield Flaw(path, "contains the character NUL")
    low, high = TEXT_LIMITS.get(path, (0, None))
    if len(value) < low or (high is not None and len(value) > high):
        yield Flaw(path, f"must have {low} to {high} characters")
