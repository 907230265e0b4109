"""How payloads are started: a table of runtimes by name, loaded on use, and which one a task gets."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final, cast

from gridtune_evaluation.cache import Cache
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.port import Image, Runtime, RuntimeUnavailable

#: Name → where; each class is made with the agent's `OrphanGuard` and its `Cache`, for images that it fetches itself.
RUNTIMES: Final[Mapping[str, str]] = {
    "process": "gridtune_evaluation.runtimes.process:Process",
    "docker": "gridtune_evaluation.runtimes.docker:Docker",
    "podman": "gridtune_evaluation.runtimes.docker:Podman",
    "apptainer": "gridtune_evaluation.runtimes.apptainer:Apptainer",
    "charliecloud": "gridtune_evaluation.runtimes.charliecloud:Charliecloud",
}
#: Those that run images, the best first.
CONTAINERS: Final = tuple(name for name in RUNTIMES if name != "process")
#: The agent's or the task's choice is left to what there is.
AUTO: Final = "auto"


def load(name: str, guard: OrphanGuard, cache: Cache) -> Runtime:
    """Make the runtime called *name*, one for all slots of an agent.

    Raises:
        RuntimeUnavailable: This node does not have it.
    """
    module, _, attribute = RUNTIMES[name].partition(":")
    return cast(Runtime, getattr(importlib.import_module(module), attribute)(guard, cache))


def choose(agents: str, tasks: str, image: Image | None, guard: OrphanGuard, cache: Cache) -> Runtime:
    """The runtime for a task: the agent's choice, else the task's, else the first that this node has.

    Args:
        agents: What the agent was told; ``auto`` for no wish.
        tasks: What the task says, likewise.
        image: What the task runs in.
        guard: For the runtime.
        cache: Likewise.

    Raises:
        RuntimeUnavailable: This node has none that can do it; says why for each.
    """
    name = agents if agents != AUTO else tasks
    if name == AUTO and image is None:
        name = "process"
    if name != AUTO:
        return load(name, guard, cache)
    reasons = []
    for name in CONTAINERS:
        try:
            return load(name, guard, cache)
        except RuntimeUnavailable as error:
            reasons.append(f"{name}: {error}")
    raise RuntimeUnavailable(
        f"the task runs in the image {image.name if image else ''}, and this node has nothing that runs images "
        f"({'; '.join(reasons)}); --runtime process runs its command without the image"
    )
