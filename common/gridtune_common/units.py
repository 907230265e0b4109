"""Quantities with their units written out: ``5m``, ``6h``, ``4GiB``."""

from __future__ import annotations

import math
import re
from typing import Final

_SECONDS: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def seconds(text: str) -> float:
    """Read a duration such as ``90s``, ``5m``, ``1h30m`` or ``2d``.

    Returns:
        The duration in seconds, above zero.

    Raises:
        ValueError: The text is no duration; the message says how to write one.

    >>> seconds("1h30m")
    5400.0
    """
    compact = text.replace(" ", "")
    parts = _QUANTITY.findall(compact)
    known = all(unit in _SECONDS for _, unit in parts)
    if not parts or not known or "".join(number + unit for number, unit in parts) != compact:
        raise ValueError(f"{text!r} is no duration; write it with its unit, such as 30s, 5m, 1h30m or 2d")
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if total <= 0 or not math.isfinite(total):
        raise ValueError(f"{text!r} is not above zero")
    return total


def n_bytes(text: str) -> int:
    """Read a size such as ``512MiB`` or ``4GiB``.

    Returns:
        The size in bytes, above zero.

    Raises:
        ValueError: The text is no size; the message says how to write one.

    >>> n_bytes("4GiB")
    4294967296
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match.group(2) not in _BYTES:
        raise ValueError(f"{text!r} is no size; write it with its unit, such as 512MiB or 4GiB")
    size = int(float(match.group(1)) * _BYTES[match.group(2)])
    if size <= 0:
        raise ValueError(f"{text!r} is not above zero")
    return size


def show_seconds(duration: float) -> str:
    """Write a duration for people, in at most two units.

    >>> show_seconds(5400.0), show_seconds(42.4), show_seconds(0.25)
    ('1h30m', '42s', '0.2s')
    """
    if duration < 10:
        return f"{duration:.1f}s"
    whole = round(duration)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    units = [(days, "d"), (hours, "h"), (minutes, "m"), (secs, "s")]
    first = next(index for index, (amount, _) in enumerate(units) if amount or index == 3)
    return "".join(f"{amount}{unit}" for amount, unit in units[first : first + 2] if amount)


def show_bytes(size: int) -> str:
    """Write a size for people.

    >>> show_bytes(512), show_bytes(3 * 2**30), show_bytes(1_500_000)
    ('512 B', '3 GiB', '1.43 MiB')
    """
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"
