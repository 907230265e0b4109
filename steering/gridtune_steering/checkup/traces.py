"""The collector of traces: it is sent nothing, and takes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gridtune_common.errors import ConfigurationError
from gridtune_steering import tracing
from gridtune_steering.checkup.finding import Finding, ok, warning, wrong
from gridtune_steering.settings import Settings

_CHECK: Final = "traces"
_FIX: Final = "see Traces in docs/operating.md; the service works without its collector, and loses spans"


def examine(settings: Settings) -> Iterator[Finding]:
    """What to know of it, if the settings name one."""
    if not settings.traces:
        return
    try:
        tracing.check(settings)
    except ConfigurationError as error:
        yield wrong(_CHECK, str(error), "or the service does not start")
        return
    if tracing.reaches(settings.traces):
        yield ok(_CHECK, f"{settings.traces} takes them")
    else:
        yield warning(_CHECK, f"{settings.traces} does not take them", _FIX)
