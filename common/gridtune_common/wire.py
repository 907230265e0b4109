"""Messages to JSON and back, for the side that has the standard library alone.

Decoding trusts the service: it checks shapes far enough to give typed values, ignores unknown fields (the protocol is
additive) and raises `WireError` for the rest.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Optional, TypeVar

from gridtune_common.errors import ServiceError

T = TypeVar("T")
#: Values of these classes are JSON as they are.
_PLAIN = frozenset({str, int, bool, type(None)})


class WireError(ServiceError):
    """A message does not have the shape that the protocol gives it."""


def encode(message: Any) -> Any:
    """Turn a message into plain JSON values; numbers that are not finite become None."""
    kind: Any = type(message)
    if kind in _PLAIN:
        return message
    if (names := _names(kind)) is not None:
        return {name: encode(getattr(message, name)) for name in names}
    if isinstance(message, Enum):
        return message.value
    if isinstance(message, Mapping):
        return {str(key): encode(value) for key, value in message.items()}
    if isinstance(message, (list, tuple)):
        return [encode(value) for value in message]
    if isinstance(message, float) and not math.isfinite(message):
        return None
    return message


@cache
def _names(kind: type) -> Optional[tuple[str, ...]]:
    """The fields of a dataclass; None for any other class. All messages are coded, so this is on every way."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def dump(message: Any) -> str:
    """Write a message as JSON text."""
    return json.dumps(encode(message), ensure_ascii=False, allow_nan=False)


def decode(kind: type[T], data: Any) -> T:
    """Build a message of class *kind* from JSON values.

    Raises:
        WireError: A field is missing or has another shape.
    """
    return typing.cast(T, _decode(kind, data, kind.__name__))


def _decode(kind: Any, data: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin is typing.Union:
        return _decode_union(arguments, data, path)
    if origin is list:
        return [_decode(arguments[0], value, f"{path}[]") for value in _expect(list, data, path)]
    if origin is dict:
        return {key: _decode(arguments[1], value, f"{path}.{key}") for key, value in _expect(dict, data, path).items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, _expect(dict, data, path), path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError as error:
            raise WireError(f"{path}: {error}") from error
    if kind is float and type(data) is int:
        return float(data)
    return _expect(kind, data, path)


def _decode_union(kinds: Any, data: Any, path: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) == 1:
        return _decode(others[0], data, path)
    if type(data) in others:
        return data
    raise WireError(f"{path}: unexpected {type(data).__name__}")


def _decode_dataclass(kind: Any, data: Mapping[str, Any], path: str) -> Any:
    hints = _hints(kind)
    known = {name: _decode(hint, data[name], f"{path}.{name}") for name, hint in hints.items() if name in data}
    try:
        return kind(**known)
    except TypeError as error:
        raise WireError(f"{path}: {error}") from error


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _expect(kind: Any, data: Any, path: str) -> Any:
    if isinstance(data, kind) and not (isinstance(data, bool) and kind in (int, float)):
        return data
    raise WireError(f"{path}: expected {kind.__name__}, got {type(data).__name__}")
