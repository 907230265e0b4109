"""Stand-ins for tests: a clock to turn by hand, a bell that only remembers, a service without processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.identity.secrets import service_key
from gridtune_steering.objectstore import open_store
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings


class ManualClock:
    """Stands still until it is told to go on."""

    def __init__(self, now: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class RecordingBell:
    """Wakes nobody, and remembers who was rung for."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.askers: list[str] = []

    def ring_hosts(self, task: str) -> None:
        """Remember."""
        self.hosts.append(task)

    def ring_askers(self, task: str) -> None:
        """Remember."""
        self.askers.append(task)


def steering_in(folder: Path, clock: ManualClock, **settings: object) -> Steering:
    """A service on a fresh database in *folder*, with no process behind it."""
    known = Settings.from_environment({}, data=folder, **settings)
    database = Database(known.database_url)
    database.migrate()
    store = open_store(known, clock, service_key(folder / "service.key"))
    return Steering(database=database, bell=RecordingBell(), clock=clock, settings=known, store=store)
