"""Keeping a lease while the payload runs: heartbeats, reports, and watched output, from a thread of their own.

The thread that watches the payload never waits for the network: it hands reports over with `Pulse.send` and
looks at `Pulse.verdict`. Reports that could not be sent, because the service is away, are kept and travel
with the last word.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from gridtune_common import protocol
from gridtune_common.errors import Refused, ServiceError
from gridtune_common.protocol import Advice
from gridtune_evaluation.chorus import Chorus, next_beat
from gridtune_evaluation.logs import Tail
from gridtune_evaluation.outage import Outage, is_forbidden, passes
from gridtune_evaluation.steering import Connect, Steering
from gridtune_evaluation.untrusted import PayloadFile

_log = logging.getLogger("gridtune.agent")

#: Seconds between two batches of reports.
_BATCH_SECONDS: Final = 0.5
#: Reports in one message.
_BATCH_SIZE: Final = 500
#: Reports kept while the service is away; beyond this the oldest go.
_KEPT: Final = 5000
#: Seconds between two looks at what a watched payload prints, and bytes in one message.
_WATCH_SECONDS: Final = 1.0
_WATCH_BYTES: Final = 32 * 2**10
#: Seconds until the next try when the service is away, at most.
_RETRY_SECONDS: Final = 10.0


class Pulse:
    """The sign of life of one evaluation.

    Args:
        connect: Opens the connection, in the pulse's own thread, when there is first something to say.
        output: Where the payload prints to.
        chorus: What the agent's other slots say meanwhile.
    """

    def __init__(self, lease: protocol.Lease, connect: Connect, output: PayloadFile, chorus: Chorus) -> None:
        self._lease = lease
        self._connect = connect
        self._chorus = chorus
        self._changed = threading.Condition()
        self._waiting: list[protocol.Report] = []
        self._on_the_way: list[protocol.Report] = []
        self._verdict: protocol.Verdict | None = None
        self._ended = False
        self._output = output
        self._tail = Tail(output)
        self._seen: int | None = None  # how much of the output was sent; None while nobody watches
        now = time.monotonic()
        self._look_at = now
        self._send_at = next_beat(now, _BATCH_SECONDS)
        self._beat_at = next_beat(now, lease.heartbeat_seconds)
        self._outage = Outage(f"renew the lease of point {lease.point}")
        self._thread = threading.Thread(target=self._run, name=f"pulse-{lease.evaluation}", daemon=True)
        self._thread.start()

    @property
    def verdict(self) -> protocol.Verdict | None:
        """The word that ends this evaluation, once steering has said it."""
        return self._verdict

    @property
    def silent_seconds(self) -> float:
        """For how long the service has not been heard."""
        return self._outage.seconds

    def send(self, reports: Sequence[protocol.Report]) -> None:
        """Have reports sent soon."""
        if not reports:
            return
        with self._changed:
            self._waiting.extend(reports)
            if len(self._waiting) > _KEPT:
                _log.warning("Too many reports wait for the service; the oldest are dropped.", extra=self._extra())
                del self._waiting[:-_KEPT]
            self._changed.notify()

    def end(self) -> list[protocol.Report]:
        """Fall silent; return the reports that steering may not have.

        A message that is on its way is not waited for: it can do no harm, and may take its time.
        """
        with self._changed:
            self._ended = True
            self._changed.notify()
            return self._on_the_way + self._waiting

    def _run(self) -> None:
        with ExitStack() as connections:
            steering: Steering | None = None
            while self._wait_for_a_reason():
                steering = steering or connections.enter_context(self._connect())
                self._speak(steering)

    def _wait_for_a_reason(self) -> bool:
        """Sleep until reports or a heartbeat are due; False when there is nothing to say any more."""
        with self._changed:
            while not self._ended and self._verdict is None:
                pause = self._due() - time.monotonic()
                if pause <= 0:
                    self._on_the_way = self._waiting[:_BATCH_SIZE]
                    del self._waiting[:_BATCH_SIZE]
                    return True
                self._changed.wait(pause)
            return False

    def _due(self) -> float:
        due = min(self._send_at, self._beat_at) if self._waiting else self._beat_at
        return due if self._seen is None else min(due, self._look_at)

    def _speak(self, steering: Steering) -> None:
        try:
            verdict = self._say(steering)
        except ServiceError as error:
            self._was_not_heard(error)
        else:
            self._was_heard(verdict)

    def _say(self, steering: Steering) -> protocol.Verdict | None:
        """Say what is due; None if there was nothing to say."""
        evaluation, epoch = self._lease.evaluation, self._lease.epoch
        if self._on_the_way:
            return self._chorus.say(steering, protocol.Sign(evaluation, epoch, self._on_the_way))
        printed = self._printed()
        if printed is not None:
            try:
                return steering.send_output(evaluation, printed)
            except Refused as error:  # nobody's training ends because somebody watches it
                _log.warning(
                    "Watched output of point %d was refused: %s", self._lease.point, error, extra=self._extra()
                )
                self._seen = None
        if time.monotonic() < self._beat_at:
            return None
        return self._chorus.say(steering, protocol.Sign(evaluation, epoch))

    def _printed(self) -> protocol.Output | None:
        """What a watched payload has printed since the last time."""
        if self._seen is None or time.monotonic() < self._look_at:
            return None
        self._look_at = time.monotonic() + _WATCH_SECONDS
        try:
            piece = self._tail.since(self._seen, _WATCH_BYTES)
        except OSError as error:
            _log.warning("Cannot read the output of point %d: %s", self._lease.point, error, extra=self._extra())
            self._seen = None
            return None
        start, self._seen = 0 if piece.restarted else self._seen, piece.offset
        return protocol.Output(self._lease.epoch, start, piece.offset, piece.text) if piece.text else None

    def _was_heard(self, verdict: protocol.Verdict | None) -> None:
        if verdict is None:
            return
        self._outage.over()
        with self._changed:
            self._on_the_way = []
            self._plan_next(_BATCH_SECONDS, self._lease.heartbeat_seconds)
            if verdict.watched != (self._seen is not None):
                self._seen = _near_the_end(self._output) if verdict.watched else None
            if verdict.advice is not Advice.CONTINUE:
                self._verdict = verdict

    def _was_not_heard(self, error: ServiceError) -> None:
        with self._changed:
            self._look_at = time.monotonic() + _RETRY_SECONDS
            if passes(error):
                self._outage.note(error)
                self._waiting[:0] = self._on_the_way
                pause = min(_RETRY_SECONDS, self._lease.heartbeat_seconds)
                self._plan_next(pause, pause)
            elif self._on_the_way and isinstance(error, Refused) and error.status in (400, 413, 422):
                _log.warning("Reports of point %d were refused: %s", self._lease.point, error, extra=self._extra())
                self._plan_next(_BATCH_SECONDS, self._lease.heartbeat_seconds)
            else:
                _log.error("The lease cannot be renewed: %s", error, extra=self._extra())
                # A bad token is no reason to throw the training away: another agent may deliver its result.
                if is_forbidden(error):
                    self._waiting[:0] = self._on_the_way
                    self._ended = True
                else:
                    self._verdict = protocol.Verdict(Advice.LOST, str(error))
            self._on_the_way = []

    def _plan_next(self, send_in: float, beat_in: float) -> None:
        now = time.monotonic()
        self._send_at, self._beat_at = next_beat(now, send_in), next_beat(now, beat_in)

    def _extra(self) -> dict[str, object]:
        return {"action": "pulse", "point": self._lease.point, "evaluation": self._lease.evaluation}


def _near_the_end(output: PayloadFile) -> int:
    """Where to begin to show an output that may be long."""
    try:
        return max(output.status().st_size - 2 * _WATCH_BYTES, 0)
    except OSError:
        return 0
