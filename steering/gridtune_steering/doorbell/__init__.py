"""How the service's processes wake each other: by local sockets on one machine, through PostgreSQL on many."""

from __future__ import annotations

from gridtune_steering.doorbell.local import LocalBell
from gridtune_steering.doorbell.port import Bell, Listener
from gridtune_steering.doorbell.waiting import Gate, WaitingRoom
from gridtune_steering.settings import Settings

__all__ = ["Bell", "Gate", "Listener", "LocalBell", "WaitingRoom", "open_bell"]


def open_bell(settings: Settings) -> Bell:
    """The bell that reaches all processes on this database. To be called after any fork."""
    if settings.database_url.startswith("sqlite"):
        return LocalBell(settings.data)
    from gridtune_steering.doorbell.postgres import PostgresBell

    return PostgresBell(settings.database_url)
