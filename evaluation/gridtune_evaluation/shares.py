"""How the slots of an agent share what it may use: each has CPUs and GPUs of its own, and a part of the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, TypeVar

from gridtune_common.protocol import WorkerResources
from gridtune_evaluation.hardware import Gpu, Hardware
from gridtune_evaluation.runtimes.port import Limits

T = TypeVar("T")


@dataclass(frozen=True)
class Needs:
    """What one evaluation of a task asks for."""

    cpus: int = 1
    gpus: int = 0
    memory_bytes: Optional[int] = None
    network: bool = False


@dataclass(frozen=True)
class Share:
    """What belongs to one slot.

    Attributes:
        cpus: Numbers of logical CPUs; if they are not its own, only how many they are counts.
        gpus: None where no GPU is known, so that programs see what there may be.
        memory_bytes: None if unknown.
    """

    cpus: tuple[int, ...]
    gpus: Optional[tuple[Gpu, ...]] = None
    memory_bytes: Optional[int] = None
    owns_cpus: bool = True

    @property
    def in_words(self) -> str:
        """What it is, for people."""
        cpus = f"CPU {self.cpus[0]}" if len(self.cpus) == 1 and self.owns_cpus else f"{len(self.cpus)} CPUs"
        return cpus + "".join(f", GPU {gpu.name}" for gpu in self.gpus or ())

    def limits(self, needs: Needs) -> Limits:
        """What a payload may use: all of the share, but of memory what its task asks for.

        A task that asks for no GPU is not hindered in using what it finds, as far as its runtime shows it any.
        """
        gpus = tuple(gpu.name for gpu in self.gpus or ()) if needs.gpus else None
        return Limits(
            cpus=self.cpus if self.owns_cpus else None,
            n_cpus=None if self.owns_cpus else len(self.cpus),
            gpus=gpus,
            memory_bytes=needs.memory_bytes,
            network=needs.network,
        )

    def resources(self, arch: str, runtimes: Sequence[str], labels: Mapping[str, str]) -> WorkerResources:
        """What the slot's worker says that it has."""
        gpus = self.gpus or ()
        memories = [gpu.memory_bytes for gpu in gpus if gpu.memory_bytes is not None]
        return WorkerResources(
            cpus=len(self.cpus),
            memory_bytes=self.memory_bytes,
            gpus=len(gpus),
            gpu_memory_bytes=min(memories, default=None),
            gpu_model=gpus[0].model if gpus else "",
            arch=arch,
            runtimes=list(runtimes),
            labels=dict(labels),
        )


def most_slots(hardware: Hardware, needs: Needs) -> int:
    """How many evaluations fit side by side; at least 1, for steering to say what is missing."""
    counts = [len(hardware.cpus) // needs.cpus]
    if needs.gpus:
        counts.append(len(hardware.gpus) // needs.gpus)
    if needs.memory_bytes and hardware.memory_bytes:
        counts.append(hardware.memory_bytes // needs.memory_bytes)
    return max(min(counts), 1)


def share_out(hardware: Hardware, n_slots: int) -> list[Share]:
    """Divide what there is evenly; what is left over goes to the first slots.

    More slots than CPUs share all CPUs: that is for payloads that mostly wait. GPUs are never shared, so some slots
    have none then.
    """
    cpus: list[tuple[int, ...]]
    if n_slots > len(hardware.cpus):
        cpus = [hardware.cpus] * n_slots
    else:
        cpus = _parts(hardware.cpus, n_slots)
    gpus = _parts(hardware.gpus, n_slots)
    memory = None if hardware.memory_bytes is None else hardware.memory_bytes // n_slots
    return [
        Share(cpus[slot], gpus[slot] if hardware.gpus else None, memory, hardware.owns_cpus) for slot in range(n_slots)
    ]


def _parts(items: Sequence[T], count: int) -> list[tuple[T, ...]]:
    """Neighbours stay together: they share caches and links."""
    size, rest = divmod(len(items), count)
    parts, start = [], 0
    for number in range(count):
        end = start + size + (number < rest)
        parts.append(tuple(items[start:end]))
        start = end
    return parts
