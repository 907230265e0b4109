"""Where a process of the service puts its parts together."""

from __future__ import annotations

from datetime import UTC, datetime

from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.doorbell import Bell, open_bell
from gridtune_steering.identity.secrets import service_key
from gridtune_steering.metrics import instruments
from gridtune_steering.objectstore import open_store
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings


def assemble(settings: Settings) -> tuple[Steering, Bell]:
    """Open the database, the object store and the doorbell. To be called after any fork."""
    bell = open_bell(settings)
    steering = Steering(
        database=Database(settings.database_url, connections=settings.database_connections),
        bell=bell,
        clock=_now,
        settings=settings,
        store=open_store(settings, _now, service_key(settings.data / "service.key")),
    )
    instruments.watch_pool(steering.database.engine)
    return steering, bell


def _now() -> datetime:
    return datetime.now(UTC)
