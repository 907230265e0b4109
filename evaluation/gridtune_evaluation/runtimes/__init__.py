"""How payloads are started: a table of runtimes by name, loaded on use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final, cast

from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.port import Runtime

#: Name → where; each class is made with the agent's `OrphanGuard` as its one argument.
RUNTIMES: Final[Mapping[str, str]] = {
    "process": "gridtune_evaluation.runtimes.process:Process",
}


def load(name: str, guard: OrphanGuard) -> Runtime:
    """Make the runtime called *name*, one for all slots of an agent."""
    module, _, attribute = RUNTIMES[name].partition(":")
    return cast(Runtime, getattr(importlib.import_module(module), attribute)(guard))
