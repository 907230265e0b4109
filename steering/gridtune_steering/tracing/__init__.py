"""Traces for OpenTelemetry, if the settings ask for them: where the time of a request or of a host's round goes.

Without the setting a span is nothing and no library is loaded. Whoever begins a span chooses what it holds, and no span
may hold a secret, a query string or what users wrote. So errors are told by their kinds, never by their words.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

from gridtune_common.errors import ConfigurationError
from gridtune_steering.settings import Settings

Facts = Mapping[str, str | int | float]
_LIBRARIES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
#: Names are no secrets if they are as short as ours; tokens are longer.
_ID = re.compile(r"[0-9a-z]{1,16}")


class Span:
    """What is told of one piece of work. This one is told to nobody."""

    def note(self, facts: Facts) -> None:
        """Add what has become known."""

    def fail(self, kind: str) -> None:
        """Say that it failed, and in which way."""


class Traces(Protocol):
    """Where spans go."""

    def span(
        self, name: str, facts: Facts, *, parent: str | None, is_request: bool, began: int | None
    ) -> AbstractContextManager[Span]:
        """See the function of that name."""

    def close(self) -> None:
        """Send what was not sent yet, if that does not take long."""


_UNTRACED: Final = nullcontext(Span())
_traces: Traces | None = None


def check(settings: Settings) -> None:
    """See that what the settings ask for can be done.

    Raises:
        ConfigurationError: The libraries are not installed.
    """
    if settings.traces and not all(map(_is_installed, _LIBRARIES)):
        raise ConfigurationError(
            "GRIDTUNE_STEERING_TRACES needs OpenTelemetry, which is not installed here: "
            "pip install 'gridtune[opentelemetry]', or take the setting away"
        )


def set_up(settings: Settings, role: str, engine: Any) -> None:
    """Begin to trace if the settings ask for it, statements to an SQLAlchemy engine too. To be called after any fork.

    Raises:
        ConfigurationError: The libraries are not installed.
    """
    global _traces
    if not settings.traces:
        return
    check(settings)
    from gridtune_steering.tracing.opentelemetry import OpenTelemetry

    traces = OpenTelemetry(settings.traces, role)
    traces.watch_statements(engine)
    _traces = traces


def reaches(address: str) -> bool:
    """Whether a collector takes what is sent there."""
    from gridtune_steering.tracing.opentelemetry import send_nothing

    return send_nothing(address)


def shut_down() -> None:
    """Send what was not sent yet; nothing is traced after that."""
    global _traces
    traces, _traces = _traces, None
    if traces is not None:
        traces.close()


def span(
    name: str, facts: Facts, *, parent: str | None = None, is_request: bool = False, began: int | None = None
) -> AbstractContextManager[Span]:
    """A piece of work, which the block does; spans that this thread begins in the block are parts of it.

    Args:
        name: One of few; no ids are in it.
        facts: What is known of it now.
        parent: The header ``traceparent`` of whoever wants it done.
        is_request: Whether somebody else waits for it.
        began: When it began, if that was before the block (`time.time_ns`).
    """
    if _traces is None:
        return _UNTRACED
    return _traces.span(name, facts, parent=parent, is_request=is_request, began=began)


def round_of(task: str, algorithm: str, *, learnt: int, made: int, began: int) -> AbstractContextManager[Span]:
    """What a host has done for a task since a moment, and writes down in the block: results learnt, points made."""
    counts = {"gridtune.learnt": learnt, "gridtune.made": made}
    return span("round", {**ids(task=task), "gridtune.algorithm": algorithm, **counts}, began=began)


def nothing() -> AbstractContextManager[Span]:
    """A piece of work that is not traced; its parts are not either, unless it is part of one that is."""
    return _UNTRACED


def ids(**words: str | None) -> dict[str, str | int | float]:
    """Facts of those words that look like ids: in a path there may be anything."""
    return {f"gridtune.{name}": word for name, word in words.items() if word and _ID.fullmatch(word)}


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:
        return False
