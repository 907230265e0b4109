"""Times on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def iso(time: datetime) -> str: ...
@overload
def iso(time: None) -> None: ...
def iso(time: datetime | None) -> str | None:
    """Write a time as ISO 8601 in UTC, with milliseconds."""
    return None if time is None else time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
