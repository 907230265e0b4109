"""What a view gets besides its arguments."""

from __future__ import annotations

from dataclasses import dataclass

from gridtune_steering.api.guard import Queue
from gridtune_steering.doorbell import Gate, WaitingRoom
from gridtune_steering.objectstore.port import StoreAway
from gridtune_steering.services.access import Caller
from gridtune_steering.services.census import Census
from gridtune_steering.services.errors import NotAuthenticated
from gridtune_steering.services.steering import Steering


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One request's surroundings; *known_caller* is None on open routes.

    *transfers* keeps large bodies from taking all threads: heartbeats have to get through. Asks wait in the *queue*;
    those for which no point can be made, only come back, wait on *standby*, so that they keep nobody from one.
    """

    steering: Steering
    room: WaitingRoom
    transfers: Gate
    census: Census
    queue: Queue
    standby: Queue
    known_caller: Caller | None

    @property
    def caller(self) -> Caller:
        """Who calls.

        Raises:
            NotAuthenticated: Nobody that we know.
        """
        if self.known_caller is None:
            raise NotAuthenticated("this needs a token")
        return self.known_caller

    def begin_transfer(self) -> None:
        """Take part in the transfers; the place is given back by ``transfers.leave``.

        Raises:
            StoreAway: There are so many already that others could not be served.
        """
        if not self.transfers.enter():
            raise StoreAway("too many transfers at once; try again")
