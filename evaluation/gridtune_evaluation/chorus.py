"""Signs of life of an agent's slots, sent together: one message for all that are due at a moment.

Pulses beat at the same times (`next_beat`). Who speaks first waits a moment for the others, sends what all have to say,
and hands out the answers. A service that does not know such messages, or refuses one, hears each for itself.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from gridtune_common.errors import Refused, ServiceError
from gridtune_common.protocol import Heartbeat, Reports, Sign, Signs, Verdict
from gridtune_evaluation.steering import Steering

#: Seconds to wait for other slots, whose clocks are the same but whose threads are not.
_MOMENT: Final = 0.05
#: Signs in one message; the service takes as many.
_MOST: Final = 100
#: Refusals of one message that another one of its parts may be the reason for, or that it is such a message.
_NOT_TOGETHER: Final = (400, 404, 405, 413, 422)


def next_beat(now: float, every: float) -> float:
    """The next of the moments at which all pulses of this agent beat, in seconds of the monotonic clock."""
    return (now // every + 1) * every


class Chorus:
    """What the slots of one agent have to say."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: _Message | None = None
        self._knows_none = False

    def say(self, steering: Steering, sign: Sign) -> Verdict:
        """Send a sign of life, with those of other slots that come at the same time.

        Raises:
            ServiceError: The service was not heard, or said no.
        """
        if self._knows_none:
            return alone(steering, sign)
        message, place = self._join(sign)
        if place:
            message.is_answered.wait()
        else:
            self._lead(steering, message)
        if message.was_refused_as_such:
            return alone(steering, sign)
        if message.error is not None:
            raise message.error
        return message.verdicts[place]

    def _join(self, sign: Sign) -> tuple[_Message, int]:
        with self._lock:
            if self._next is None or len(self._next.signs) >= _MOST:
                self._next = _Message()
            self._next.signs.append(sign)
            return self._next, len(self._next.signs) - 1

    def _lead(self, steering: Steering, message: _Message) -> None:
        time.sleep(_MOMENT)
        with self._lock:
            if self._next is message:
                self._next = None
        try:
            if len(message.signs) == 1:
                message.verdicts = [alone(steering, message.signs[0])]
            else:
                message.verdicts = steering.signs(Signs(message.signs)).verdicts
        except ServiceError as error:
            message.error = error
            self._knows_none |= isinstance(error, Refused) and error.status in (404, 405) and len(message.signs) > 1
        finally:
            message.is_answered.set()


def alone(steering: Steering, sign: Sign) -> Verdict:
    """Send one sign by itself."""
    if sign.reports:
        return steering.report(sign.evaluation, Reports(sign.epoch, sign.reports))
    return steering.heartbeat(sign.evaluation, Heartbeat(sign.epoch))


@dataclass
class _Message:
    """What is said together, and what was answered."""

    signs: list[Sign] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    error: ServiceError | None = None
    is_answered: threading.Event = field(default_factory=threading.Event)

    @property
    def was_refused_as_such(self) -> bool:
        """Whether its parts may do better alone."""
        is_refused = isinstance(self.error, Refused) and self.error.status in _NOT_TOGETHER
        return is_refused and len(self.signs) > 1
