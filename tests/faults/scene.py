"""All that faults are done to."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from faults.deployment import Deployment
from faults.fleet import Berth, children_of, command_of, environment_of
from faults.journal import FaultJournal
from faults.shelf import Shelf
from real_service import RealService


@dataclass
class Scene:
    """A service at work, its database, store and agents.

    Attributes:
        outage: Held while something is wrong with the database server.
    """

    service: RealService
    deployment: Deployment
    berths: list[Berth]
    shelf: Shelf
    journal: FaultJournal
    random: random.Random
    undoings: list[threading.Timer] = field(default_factory=list)
    outage: threading.Lock = field(default_factory=threading.Lock)

    def later(self, seconds: float, undo: Callable[[], None]) -> None:
        """Undo a fault after a while."""
        timer = threading.Timer(seconds, undo)
        timer.daemon = True
        self.undoings.append(timer)
        timer.start()

    def living(self) -> Berth | None:
        """A berth with an agent, if there is one."""
        alive = [berth for berth in self.berths if berth.is_alive]
        return self.random.choice(alive) if alive else None

    def payload(self) -> int | None:
        """The process id of a training, if there is one."""
        found = [pid for berth in self.berths for pid in berth.payloads()]
        return self.random.choice(found) if found else None

    def training_of(self, point: int) -> int | None:
        """The process id of a point's training, if there is one."""
        mark = f"GRIDTUNE_POINT={point}"
        found = [pid for berth in self.berths for pid in berth.payloads() if mark in environment_of(pid)]
        return found[0] if found else None

    def part(self, module: str) -> int | None:
        """The process id of a part of the service: a web process (master or worker), or an optimizer host."""
        assert self.service.serving is not None
        children = children_of(self.service.serving.pid)
        found = [pid for pid in children if module.encode() in command_of(pid)]
        found += [pid for parent in found for pid in children_of(parent)]
        return self.random.choice(found) if found else None
