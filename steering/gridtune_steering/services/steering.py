"""What every service function needs: database, object store, clock, doorbell and settings, handed in once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.objectstore.port import ObjectStore
from gridtune_steering.settings import Settings


class Bell(Protocol):
    """How processes wake each other; a ring may get lost, so listeners look around now and then all the same."""

    def ring_hosts(self, task: str) -> None:
        """Tell optimizer hosts that something happened to a task."""

    def ring_askers(self, task: str) -> None:
        """Tell waiting asks that a task may have a point for them, or has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """The service's surroundings."""

    database: Database
    bell: Bell
    clock: Callable[[], datetime]
    settings: Settings
    store: ObjectStore
