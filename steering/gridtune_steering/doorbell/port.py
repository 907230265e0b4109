"""What a doorbell is.

A ring says which task something happened to, and nothing else: the database holds the truth. A ring may get lost, so
listeners look around now and then all the same.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Listener(Protocol):
    """The ear of one process."""

    def wait(self, timeout: float) -> set[str]:
        """Wait for rings for at most *timeout* seconds; returns the tasks that rang, all that are there."""

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

    def ring_askers(self, task: str) -> None:
        """Tell waiting asks that a task may have a point for them, or has ended."""


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
