"""Whether a worker fits a task. Values in, values out: no clock, no database.

How many CPUs and how much memory it has, and how it can run payloads, is not held against a worker that does not say
it. GPUs, and all that ``resources.requires`` names, have to be stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gridtune_common.protocol import WorkerResources
from gridtune_common.taskfile import Facts, Requirement, Resources, parse_resources
from gridtune_common.taskfile.requirements import SIZES
from gridtune_common.taskfile.values import write_bytes
from gridtune_common.units import n_bytes, show_bytes

#: How requirements are put that are no comparison of amounts.
_WORDS: Final[Mapping[str, str]] = {"=": "", "!=": "anything but ", "~": "something with ", "in": "one of "}
#: Characters shown of what a worker says.
_MOST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a task needs of its workers."""

    resources: Resources
    runtime: str = "auto"

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Needs:
        """Read them from a task's document."""
        payload = document.get("payload") or {}
        return cls(
            resources=parse_resources(document.get("resources") or {}),
            runtime=payload.get("runtime", "auto"),
        )


def misfits(needs: Needs, worker: WorkerResources, *, site: str, host: str) -> list[str]:
    """Why a worker does not fit a task, each reason in words; empty if it does."""
    facts = facts_of(worker, site, host)
    held = [*(it for it in _amounts(needs) if facts[it.name]), *needs.resources.requires]
    reasons = [_in_words(requirement, facts) for requirement in held if not requirement.holds(facts)]
    return reasons


def facts_of(worker: WorkerResources, site: str, host: str) -> Facts:
    """What a worker says of itself, by the names that requirements use; no label hides one of them."""
    stated = {
        "site": site,
        "host": host,
        "arch": worker.arch,
        "cpus": worker.cpus,
        "memory": worker.memory_bytes,
        "gpus": worker.gpus,
        "gpu.memory": worker.gpu_memory_bytes,
        "gpu.model": worker.gpu_model,
    }
    single = {name: () if fact is None or fact == "" else (fact,) for name, fact in {**worker.labels, **stated}.items()}
    return {**single, "runtime": tuple(worker.runtimes)}


def _amounts(needs: Needs) -> Iterator[Requirement]:
    """The sections' own fields as requirements."""
    resources = needs.resources
    yield Requirement("cpus", ">=", (str(resources.cpus),))
    yield Requirement("gpus", ">=", (str(resources.gpus),))
    if resources.memory_bytes is not None:
        yield Requirement("memory", ">=", (write_bytes(resources.memory_bytes),))
    if needs.runtime != "auto":
        yield Requirement("runtime", "=", (needs.runtime,))


def _in_words(requirement: Requirement, facts: Facts) -> str:
    known = ", ".join(_shown(requirement, fact) for fact in facts.get(requirement.name, ()))
    words = _WORDS.get(requirement.operator, f"{requirement.operator} ") + ", ".join(requirement.values)
    return f"{requirement.name} is {known or 'not known'}, the task requires {words}"


def _shown(requirement: Requirement, fact: str | int | float) -> str:
    """What a worker has."""
    if requirement.name in SIZES and isinstance(fact, int):
        return _size(requirement, fact)
    text = str(fact)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _size(requirement: Requirement, size: int) -> str:
    """A size, rounded unless it would then look as if it were enough."""
    rounded = show_bytes(size).replace(" ", "")
    try:
        is_misleading = requirement.holds({requirement.name: (n_bytes(rounded),)})
    except ValueError:  # nothing, or less
        is_misleading = True
    return f"{size}B" if is_misleading else rounded
