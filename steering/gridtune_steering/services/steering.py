"""What every service function needs: database, object store, clock, doorbell and settings, handed in once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.doorbell.port import Rings
from gridtune_steering.objectstore.port import ObjectStore
from gridtune_steering.services.token_cache import TokenCache
from gridtune_steering.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """The service's surroundings."""

    database: Database
    store: ObjectStore
    bell: Rings
    clock: Callable[[], datetime]
    settings: Settings
    token_cache: TokenCache = field(default_factory=TokenCache)
