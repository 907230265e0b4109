"""Where a process of the service puts its parts together."""

from __future__ import annotations

from datetime import UTC, datetime

from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.doorbell import LocalBell
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings


def assemble(settings: Settings) -> tuple[Steering, LocalBell]:
    """Open the database and the doorbell. To be called after any fork."""
    bell = LocalBell(settings.data)
    database = Database(settings.database_url)
    return Steering(database=database, bell=bell, clock=lambda: datetime.now(UTC), settings=settings), bell
