"""Living with a service that is away: which trouble passes, how long to pause, one line of log per outage."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from typing import Callable, Final, TypeVar

from gridtune_common.errors import Refused, ServiceError, Unreachable
from gridtune_common.units import show_seconds
from gridtune_common.wire import WireError
from gridtune_evaluation.shutdown import Shutdown

T = TypeVar("T")

_log = logging.getLogger("gridtune.agent")

#: Refusals below 500 that are not about the request itself.
_LATER: Final = frozenset({408, 425, 429})
#: Seconds between two tries, at most.
_LONGEST_PAUSE: Final = 30.0
#: Seconds for which a node that fails is left alone: others can take the points meanwhile.
_FIRST_REST: Final = 5.0
_LONGEST_REST: Final = 300.0


def passes(error: ServiceError) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, Refused):
        return error.status >= 500 or error.status in _LATER
    return isinstance(error, (Unreachable, WireError))


def is_forbidden(error: ServiceError) -> bool:
    """Whether the token is the trouble, so that another token may succeed."""
    return isinstance(error, Refused) and error.status in (401, 403)


def backoff() -> Iterator[float]:
    """Pauses in seconds, doubling from 0.5 to 30, each drawn from its upper half."""
    ceiling = 0.5
    while True:
        yield jittered(ceiling) if ceiling < _LONGEST_PAUSE else jittered(_LONGEST_PAUSE)
        ceiling *= 2


def rests() -> Iterator[float]:
    """Rests of a slot whose node fails, in seconds: doubling from 5 to 300, each drawn from its upper half."""
    ceiling = _FIRST_REST
    while True:
        yield jittered(ceiling)
        ceiling = min(ceiling * 2, _LONGEST_REST)


def jittered(seconds: float) -> float:
    """A little less than *seconds*, so that many agents do not come back at the same moment."""
    return random.uniform(seconds / 2, seconds)  # noqa: S311 - jitter is no secret


class Outage:
    """The time since a series of calls began to fail.

    Args:
        what: What cannot be done, for the log: ``ask for a point``.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """How long it has lasted; 0 when all is well."""
        since = self._since  # read once: another thread may end the outage meanwhile
        return 0.0 if since is None else time.monotonic() - since

    def note(self, error: ServiceError) -> None:
        """A call failed; the first one of an outage is logged."""
        if self._since is None:
            self._since = time.monotonic()
            _log.warning("Cannot %s, trying on: %s", self._what, error, extra={"action": "outage_began"})

    def over(self) -> None:
        """A call succeeded."""
        if self._since is not None:
            lasted = show_seconds(self.seconds)
            _log.info("The service is back after %s.", lasted, extra={"action": "outage_ended"})
        self._since = None


def patiently(call: Callable[[], T], what: str, *, give_up_seconds: float, shutdown: Shutdown) -> T | None:
    """Repeat a call while the service is away; None if the agent was asked to end before an answer came.

    Raises:
        ServiceError: The service said no, or was away for *give_up_seconds*.
    """
    outage = Outage(what)
    for pause in backoff():
        try:
            answer = call()
        except ServiceError as error:
            if not passes(error):
                raise
            outage.note(error)
            if outage.seconds + pause > give_up_seconds:
                raise
        else:
            outage.over()
            return answer
        if shutdown.pause(pause):
            return None
    raise AssertionError("the back-off never ends")
