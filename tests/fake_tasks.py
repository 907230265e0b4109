"""A steering service in memory that takes tasks, for what submits them and evaluates in one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gridtune_common import protocol
from gridtune_common.protocol import PointState
from gridtune_evaluation.steering import Final
from gridtune_evaluation.testing import Answer, FakeSteering

_STATES = {
    protocol.Tell: PointState.DONE,
    protocol.Fail: PointState.FAILED,
    protocol.Release: PointState.STOPPED,
}


class FakeTasks(FakeSteering):
    """Hands out given points for the first task submitted; the last words make the points of its result."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        super().__init__(answers=answers)
        self._leases: dict[str, protocol.Lease] = {}
        self.documents: list[dict[str, Any]] = []
        self.changes: list[protocol.TaskAction] = []

    def submit(self, message: protocol.SubmitTask) -> protocol.Task:
        """Take a task."""
        self.documents.append(message.document)
        summary = protocol.TaskSummary(
            id="t1",
            name=message.document["name"],
            owner="me",
            state=protocol.TaskState.RUNNING,
            algorithm="random",
            created_at="2030-01-01T00:00:00Z",
            counts=protocol.PointCounts(),
            objective="loss",
            goal="minimize",
        )
        return protocol.Task(summary, message.document, "", 0, {})

    def ask(self, task: str, message: protocol.Ask) -> Answer:
        """Remember who got what."""
        answer = super().ask(task, message)
        if isinstance(answer, protocol.Lease):
            self._leases[answer.evaluation] = answer
        return answer

    def change_task(self, task: str, message: protocol.ChangeTask) -> None:
        """Remember what was asked for."""
        self.changes.append(message.action)

    def all_points(self, task: str) -> Iterator[protocol.Point]:
        """The points that have ended."""
        return (self._point(self._leases[evaluation], word) for evaluation, word in self.ends)

    def best(self, task: str) -> protocol.Best:
        """The point with the smallest value."""
        done = [point for point in self.all_points(task) if point.value is not None]
        return protocol.Best("minimize", "loss", min(done, key=lambda point: point.value or 0.0, default=None))

    @staticmethod
    def _point(lease: protocol.Lease, word: Final) -> protocol.Point:
        metrics = word.metrics if isinstance(word, protocol.Tell) else {}
        return protocol.Point(
            number=lease.point,
            state=_STATES[type(word)],
            parameters=lease.parameters,
            metrics=metrics,
            attempts=1,
            created_at="2030-01-01T00:00:00Z",
            value=metrics.get("loss"),
            message=getattr(word, "message", ""),
        )
