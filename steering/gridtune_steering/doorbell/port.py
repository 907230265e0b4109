"""What a doorbell is.

A ring says which task something happened to, and for how many it may be of use: the database holds the truth. A ring
may get lost, so listeners look around now and then all the same.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Final, Protocol, Self

#: For all that wait.
ALL: Final = 1_000_000


def ring_text(task: str, n: int) -> str:
    """A ring as it travels; one for a single one is the task's name alone."""
    return task if n == 1 else f"{task} {n}"


def read_ring(text: str) -> tuple[str, int]:
    """Which task a ring is about, and for how many it is."""
    task, _, n = text.partition(" ")
    return task, int(n or 1)


class Listener(Protocol):
    """The ear of one process."""

    def wait(self, timeout: float) -> Counter[str]:
        """Wait for rings for at most *timeout* seconds; returns all that are there: for how many, by task."""

    def close(self) -> None:
        """Take the ear away."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Rings(Protocol):
    """The side of a doorbell that is rung. Safe to share between threads."""

    def ring_hosts(self, task: str) -> None:
        """Tell optimizer hosts that something happened to a task."""

    def ring_askers(self, task: str, n: int = ALL) -> None:
        """Tell so many waiting asks that a task may have a point for them, or all that it has ended."""


class Bell(Rings, Protocol):
    """How the service's processes wake each other."""

    def listen_as_host(self) -> Listener:
        """Open a listener for an optimizer host."""

    def listen_as_asker(self) -> Listener:
        """Open a listener for a web process."""

    def close(self) -> None:
        """Put the bell away."""

    def remove(self) -> None:
        """Take away what the bell has left on this machine, when nobody listens any more."""
