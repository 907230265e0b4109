"""Follow a task: look at it about every second, show what is seen, until it has ended or the service paused it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Final

from gridtune_common import protocol
from gridtune_common.cli import exits, halt, output, screen, text
from gridtune_common.cli.live import FailedPoint, RunningPoint, View
from gridtune_common.client import Client
from gridtune_common.errors import Refused, Unreachable

_POLL_SECONDS: Final = 1.0
#: How many running points are listed, and how many of them are asked for their reports.
_LISTED, _ASKED = 8, 4
_FAILURES: Final = 3
#: The pace is taken from the last minutes.
_PACE_SECONDS: Final = 600.0
_ENDED: Final = (protocol.TaskState.FINISHED, protocol.TaskState.CANCELLED)


def follow(
    client: Client,
    task: str,
    display: screen.Display | None = None,
    *,
    tick: Callable[[], None] = lambda: None,
) -> protocol.TaskSummary:
    """Show a task until it has ended, and return it as it is then.

    A task that the service paused by itself is followed no further: somebody has to look at it. A service that
    is away is waited for. *tick* is called before each look, and may raise to end the following.
    """
    follower = Follower(client, task)
    retry_for, client.retry_for = client.retry_for, 0.0
    try:
        with display or screen.standard() as shown:
            while True:
                tick()
                view = follower.look()
                shown.show(view)
                if follower.summary is not None and _is_over(follower.summary) and not view.notice:
                    return follower.summary
                time.sleep(_POLL_SECONDS)
    finally:
        client.retry_for = retry_for


def watched(client: Client, task: str, display: screen.Display | None = None) -> int:
    """Show a task until it has ended, or until Ctrl-C, which leaves the task alone; returns the exit code."""
    try:
        summary = follow(client, task, display)
        if halt.is_halted(summary):
            for line in [*halt.reason(client, summary), *halt.ways_on(summary)]:
                output.note(line)
        return exit_code(summary)
    except KeyboardInterrupt:
        output.note(f"the task goes on; look again with: gridtune watch {task}")
        return exits.ExitCode.INTERRUPTED


def _is_over(summary: protocol.TaskSummary) -> bool:
    return summary.state in _ENDED or halt.is_halted(summary)


def silent() -> screen.Display:
    """A display for callers that only want to wait."""
    return screen.Silent()


def exit_code(summary: protocol.TaskSummary) -> int:
    """0 if the task came to its end with at least one done point."""
    fine = summary.state is protocol.TaskState.FINISHED and summary.counts.done > 0
    return exits.ExitCode.OK if fine else exits.ExitCode.UNSUCCESSFUL


class Follower:
    """Makes views of one task with few calls: what cannot have changed is not asked for again."""

    def __init__(
        self,
        client: Client,
        task: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.summary: protocol.TaskSummary | None = None
        self._client, self._task = client, task
        self._monotonic, self._now = monotonic, now
        self._view: View | None = None
        self._curve: list[float] | None = None
        self._pace: deque[tuple[float, int]] = deque()

    def look(self) -> View:
        """The task now; while the service is away, the last view with a notice.

        Raises:
            ServiceError: The service refuses, or could not be reached even once.
        """
        try:
            self._view = self._fetch()
        except Unreachable:
            if self._view is None:
                raise
            return replace(self._view, notice="service away, retrying ...")
        except Refused as refusal:
            if refusal.status < 500 or self._view is None:
                raise
            return replace(self._view, notice=f"service in trouble ({refusal.status}), retrying ...")
        return self._view

    def _fetch(self) -> View:
        task = self._client.task(self._task)
        summary = task.summary
        view = View(
            name=summary.name,
            id=summary.id,
            state=summary.state,
            counts=summary.counts,
            objective=summary.objective,
            goal=summary.goal,
            reason=summary.reason,
            budget=summary.points,
            elapsed_seconds=text.seconds_between(summary.created_at, summary.ended_at, self._now()),
            best=summary.best,
            best_point=summary.best_point,
            n_front=summary.n_front,
            best_parameters=self._best_parameters(summary),
            curve=self._extended_curve(summary),
            running=self._running(summary),
            failures=self._failures(summary),
            unfit=task.unfit,
        )
        self.summary = summary
        return replace(view, eta_seconds=self._eta(view))

    def _best_parameters(self, summary: protocol.TaskSummary) -> protocol.Parameters:
        if self._view is not None and self._view.best_point == summary.best_point:
            return self._view.best_parameters
        point = self._client.best(self._task).point if summary.best_point is not None else None
        return point.parameters if point is not None else {}

    def _extended_curve(self, summary: protocol.TaskSummary) -> tuple[float, ...]:
        """Best-so-far values: the past from the points, once; afterwards the best at each look with news."""
        if self._curve is None:
            points = list(self._client.all_points(self._task, state="done")) if summary.counts.done else []
            self._curve = best_so_far(points, summary.goal)
        elif summary.best is not None and self.summary and summary.counts.done > self.summary.counts.done:
            self._curve.append(summary.best)
        return tuple(self._curve)

    def _running(self, summary: protocol.TaskSummary) -> tuple[RunningPoint, ...]:
        if not summary.counts.running:
            return ()
        page = self._client.points(self._task, state="running", limit=_LISTED)
        return tuple(self._running_point(point, ask=index < _ASKED) for index, point in enumerate(page.items))

    def _running_point(self, point: protocol.Point, *, ask: bool) -> RunningPoint:
        seconds = text.seconds_between(point.started_at, None, self._now())
        reports = self._client.point(self._task, point.number).reports if ask else []
        latest = f"{text.pairs(reports[-1].metrics)} at step {reports[-1].step}" if reports else ""
        return RunningPoint(point.number, point.worker, seconds, latest)

    def _failures(self, summary: protocol.TaskSummary) -> tuple[FailedPoint, ...]:
        if self._view is not None and self._view.counts.failed == summary.counts.failed:
            return self._view.failures
        failed = list(self._client.all_points(self._task, state="failed")) if summary.counts.failed else []
        failed.sort(key=lambda point: point.ended_at or "")
        return tuple(FailedPoint(point.number, text.one_line(point.message)) for point in failed[-_FAILURES:])

    def _eta(self, view: View) -> float | None:
        """Seconds left: by the pace since the watch began, or, with little seen yet, since the task began."""
        counts = view.counts
        over, clock = counts.done + counts.stopped + counts.failed, self._monotonic()
        self._pace.append((clock, over))
        while len(self._pace) > 2 and clock - self._pace[0][0] > _PACE_SECONDS:
            self._pace.popleft()
        if not view.budget or not over:
            return None
        seconds, gained = clock - self._pace[0][0], over - self._pace[0][1]
        if gained < 3:
            seconds, gained = view.elapsed_seconds or 0.0, over
        return max(0, view.budget - over) * seconds / gained


def best_so_far(points: list[protocol.Point], goal: str) -> list[float]:
    """The best value after each done point, in the order in which they ended."""
    better = min if goal == "minimize" else max
    curve: list[float] = []
    for point in sorted(points, key=lambda point: (point.ended_at or "", point.number)):
        if point.value is not None:
            curve.append(better(curve[-1], point.value) if curve else point.value)
    return curve
