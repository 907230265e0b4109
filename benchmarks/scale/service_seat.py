"""A worker of the service, with the agents' own client; and one that asks a route that does nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests

from gridtune_common.client import Client, NothingYet, TaskEnded, new_request_id
from gridtune_common.errors import Unreachable
from gridtune_common.protocol import Advice, Ask, Heartbeat, Lease, Report, Reports, Tell, Verdict

from .objective import loss_of
from .seats import Notes

T = TypeVar("T")
#: Seconds for which a failed call is repeated, and between two tries.
_PATIENCE, _PAUSE = 60.0, 0.2


class ServiceSeat:
    """Asks, evaluates, reports and tells.

    Args:
        options: ``url``, ``token``, ``tasks``, the mean of ``evaluation_seconds``, how many ``reports`` there are of
            each evaluation.
        index: Which of the workers this is; it belongs to one of the tasks.
    """

    def __init__(self, options: dict[str, Any], index: int) -> None:
        self._client = Client(options["url"], options["token"], retry_for=_PATIENCE)  # as agents do
        self._client._session.hooks["response"].append(self._see)  # noqa: SLF001 - what it repeats by itself shall be seen
        self._n_turned_away = 0
        self._task: str = options["tasks"][index % len(options["tasks"])]
        self._worker = f"w{index}"
        self._mean: float = options.get("evaluation_seconds", 0.0)
        self._reports: int = options.get("reports", 0)
        self._rng = random.Random(index)

    def pair(self, notes: Notes) -> None:
        """One point; how long an ask takes includes its repetitions until there is a point."""
        if self._n_turned_away:
            notes.counts["turned away (429, 503)"] += self._n_turned_away
        self._n_turned_away = 0
        lease = notes.timed("ask", lambda: self._ask(notes))
        loss: dict[str, float | None] = {"loss": loss_of(lease.parameters)}
        seconds = self._rng.expovariate(1 / self._mean) if self._mean else 0.0
        for step in range(self._reports):
            self._work(seconds / self._reports, lease, notes)
            self._report(Reports(lease.epoch, [Report(step, loss)]), lease, notes)
        if not self._reports:
            self._work(seconds, lease, notes)
        tell = Tell(new_request_id(), lease.epoch, loss)
        outcome = notes.timed("tell", lambda: _persistent(lambda: self._client.tell(lease.evaluation, tell), notes))
        if not outcome.accepted:
            notes.counts["results refused"] += 1

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _see(self, answer: requests.Response, *_: object, **__: object) -> None:
        self._n_turned_away += answer.status_code in {429, 503}

    def _ask(self, notes: Notes) -> Lease:
        ask = Ask(new_request_id(), self._worker, wait=20.0)
        while True:
            answer = _persistent(lambda: self._client.ask(self._task, ask), notes)
            if isinstance(answer, Lease):
                return answer
            if isinstance(answer, TaskEnded):
                raise AssertionError(f"task {self._task} has ended: {answer.reason}")
            assert isinstance(answer, NothingYet)
            notes.counts["asks without an answer yet"] += 1
            time.sleep(answer.retry_after)

    def _work(self, seconds: float, lease: Lease, notes: Notes) -> None:
        """Spend some time on a point, with a heartbeat now and then."""
        left = seconds
        while left > lease.heartbeat_seconds:
            time.sleep(lease.heartbeat_seconds)
            left -= lease.heartbeat_seconds
            self._beat(Heartbeat(lease.epoch), lease, notes)
        time.sleep(left)

    def _beat(self, beat: Heartbeat, lease: Lease, notes: Notes) -> None:
        self._sign_of_life("heartbeat", lambda: self._client.heartbeat(lease.evaluation, beat), notes)

    def _report(self, reports: Reports, lease: Lease, notes: Notes) -> None:
        self._sign_of_life("report", lambda: self._client.report(lease.evaluation, reports), notes)

    def _sign_of_life(self, kind: str, call: Callable[[], Verdict], notes: Notes) -> None:
        verdict = notes.timed(kind, lambda: _persistent(call, notes))
        if verdict.advice is not Advice.CONTINUE:
            notes.counts[f"told to {verdict.advice.value}"] += 1


class EmptySeat:
    """Calls a route that does nothing, twice for each pair."""

    def __init__(self, options: dict[str, Any], index: int) -> None:
        self._client = Client(options["url"], "", retry_for=0)

    def pair(self, notes: Notes) -> None:
        """Two requests."""
        for kind in ("ask", "tell"):
            notes.timed(kind, lambda: _persistent(self._client.alive, notes))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _persistent(call: Callable[[], T], notes: Notes) -> T:
    """Make a call until it succeeds; each failure is counted."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return call()
        except Unreachable as error:
            notes.counts[f"error: {str(error)[:100]}"] += 1
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
