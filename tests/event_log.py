"""An interpreter of the audit log: from a task's events alone it tells the state of everything.

It knows which changes are legal, and nothing of the tables: what it finds is compared with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gridtune_common.protocol import EvaluationState, Event, Export, FailureCause, PointState, TaskState

#: Events that change no state.
_SILENT = {
    "algorithm.chosen",
    "point.wished",
    "results.imported",
    "task.archived",
    "task.extended",
    "task.fits_nobody",
    "token.created",
    "worker.set_aside",
    "worker.taken_back",
}
#: Failures after which the checkpoint that a training went on from is given up, unless it had made a newer one.
_MISTRUSTED = {
    FailureCause.EXIT_CODE,
    FailureCause.SIGNAL,
    FailureCause.NO_RESULT,
    FailureCause.INVALID_RESULT,
    FailureCause.REPORTED,
}
_ENDED = {TaskState.FINISHED, TaskState.CANCELLED}


class Unexplained(AssertionError):  # noqa: N818 - named for the fact
    """An event that cannot have happened after those before it."""


@dataclass
class PointTale:
    """What the log tells of a point.

    Attributes:
        holder: The evaluation that runs now, if one does.
        winner: The evaluation whose result counts, if there is one.
        checkpoints: Those that the next evaluation can go on from, oldest first.
        bases: What each of them leans on, if it does.
    """

    state: PointState = PointState.READY
    attempts: int = 0
    epoch: int = 0
    holder: str | None = None
    winner: str | None = None
    checkpoints: list[str] = field(default_factory=list)
    bases: dict[str, str] = field(default_factory=dict)


@dataclass
class EvaluationTale:
    """What the log tells of an evaluation.

    Attributes:
        was_lost: Whether it was called lost at any time, even if it recovered.
        offered: The checkpoints that it was given to go on from, newest first.
        committed: The checkpoints that it made, in order.
    """

    point: int
    epoch: int
    state: EvaluationState = EvaluationState.RUNNING
    was_lost: bool = False
    offered: tuple[str, ...] = ()
    committed: list[str] = field(default_factory=list)


@dataclass
class Tale:
    """What the log tells of a task.

    Attributes:
        keep: How many checkpoints of a point are kept.
    """

    keep: int = 2
    state: TaskState | None = None
    points: dict[int, PointTale] = field(default_factory=dict)
    evaluations: dict[str, EvaluationTale] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Tale:
        """Read a log from its beginning.

        Raises:
            Unexplained: An event does not fit to those before it.
        """
        tale = cls()
        for event in events:
            tale.read(event)
        return tale

    def read(self, event: Event) -> None:
        """Read one more line."""
        if event.kind in _SILENT:
            return
        if event.kind not in _MEANINGS:
            raise Unexplained(f"{event}: tests/event_log.py does not know what this event means")
        try:
            _MEANINGS[event.kind](self, event)
        except (KeyError, AssertionError) as error:
            raise Unexplained(f"{event}: {type(error).__name__} {error}") from error

    def differences(self, exported: Export) -> list[str]:
        """Where the tables say something else than the log."""
        return [
            *_compared("task", self.state, exported.task.summary.state),
            *_compared("points", sorted(self.points), [point.number for point in exported.points]),
            *_compared("evaluations", sorted(self.evaluations), sorted(row.id for row in exported.evaluations)),
            *(
                line
                for row in exported.points
                if (point := self.points.get(row.number))
                for line in _compared(f"point {row.number}", (point.state, point.attempts), (row.state, row.attempts))
            ),
            *(
                line
                for row in exported.evaluations
                if (told := self.evaluations.get(row.id))
                for line in _compared(
                    f"evaluation {row.id}", (told.point, told.epoch, told.state), (row.point, row.epoch, row.state)
                )
            ),
        ]


def _running(tale: Tale, event: Event) -> tuple[PointTale, EvaluationTale]:
    """The point and evaluation of an event that only a running evaluation can have."""
    point, evaluation = _both(tale, event)
    assert evaluation.state is EvaluationState.RUNNING, f"the evaluation is {evaluation.state.value}"
    assert point.holder == event.evaluation, f"{point.holder} holds the point"
    assert point.state is PointState.RUNNING, f"the point is {point.state.value}"
    return point, evaluation


def _both(tale: Tale, event: Event) -> tuple[PointTale, EvaluationTale]:
    evaluation = tale.evaluations[event.evaluation or ""]
    assert evaluation.point == event.point, f"the evaluation is one of point {evaluation.point}"
    return tale.points[evaluation.point], evaluation


def _compared(what: str, told: object, written: object) -> list[str]:
    return [] if told == written else [f"{what}: the log says {told}, the tables say {written}"]


def _submitted(tale: Tale, _event: Event) -> None:
    assert tale.state is None
    tale.state = TaskState.RUNNING


def _becomes(state: TaskState, *before: TaskState) -> Callable[[Tale, Event], None]:
    def change(tale: Tale, event: Event) -> None:
        assert tale.state in before, f"the task is {tale.state}"
        assert event.details["from"] == (tale.state and tale.state.value)
        if state in _ENDED:
            still_open = {number for number, point in tale.points.items() if point.holder or _is_open(point)}
            assert not still_open, f"points {still_open} are still open"
        tale.state = state

    return change


def _is_open(point: PointTale) -> bool:
    return point.state in {PointState.READY, PointState.RUNNING}


def _suggested(tale: Tale, event: Event) -> None:
    assert tale.state is TaskState.RUNNING
    assert event.point == len(tale.points), "points are numbered in order"
    tale.points[event.point] = PointTale()


def _started(tale: Tale, event: Event) -> None:
    assert tale.state is TaskState.RUNNING
    assert event.point is not None
    assert event.evaluation is not None
    assert event.evaluation not in tale.evaluations
    point = tale.points[event.point]
    assert point.state is PointState.READY, f"the point is {point.state.value}"
    assert point.holder is None
    assert event.details["epoch"] == point.epoch + 1
    assert event.details["attempt"] == point.attempts + 1
    newest = point.checkpoints[-1] if point.checkpoints else None
    assert event.details.get("resumed_from") == newest, f"the newest checkpoint is {newest}"
    point.state, point.epoch, point.holder = PointState.RUNNING, point.epoch + 1, event.evaluation
    offered = tuple(reversed(point.checkpoints))
    tale.evaluations[event.evaluation] = EvaluationTale(event.point, point.epoch, offered=offered)


def _gives_back(state: EvaluationState, counts: int) -> Callable[[Tale, Event], None]:
    def change(tale: Tale, event: Event) -> None:
        point, evaluation = _running(tale, event)
        evaluation.state = state
        evaluation.was_lost |= state is EvaluationState.LOST
        point.state, point.holder, point.attempts = PointState.READY, None, point.attempts + counts

    return change


def _failed(tale: Tale, event: Event) -> None:
    _gives_back(EvaluationState.FAILED, counts=1)(tale, event)
    point, evaluation = _both(tale, event)
    if evaluation.offered and not evaluation.committed and FailureCause(event.details["cause"]) in _MISTRUSTED:
        _give_up(point, evaluation.offered[0])


def _committed(tale: Tale, event: Event) -> None:
    """Only who holds the point can do it."""
    point, evaluation = _running(tale, event)
    name = str(event.details["object"])
    assert name not in point.checkpoints, "it was committed before"
    evaluation.committed.append(name)
    if "base" in event.details:
        assert event.details["base"] in point.checkpoints, "its base is not there any more"
        assert event.details["base"] not in point.bases, "its base has a base itself"
        point.bases[name] = str(event.details["base"])
    newest = [*point.checkpoints, name][-tale.keep :]
    needed = {*newest, *(point.bases.get(other) for other in newest)}
    point.checkpoints = [other for other in [*point.checkpoints, name] if other in needed]


def _damaged(tale: Tale, event: Event) -> None:
    point, evaluation = _running(tale, event)
    assert event.details["object"] in evaluation.offered, "it was not given to this evaluation"
    _give_up(point, str(event.details["object"]))


def _give_up(point: PointTale, checkpoint: str) -> None:
    gone = {checkpoint, *(name for name, base in point.bases.items() if base == checkpoint)}
    point.checkpoints = [name for name in point.checkpoints if name not in gone]


def _recovered(tale: Tale, event: Event) -> None:
    point, evaluation = _both(tale, event)
    assert evaluation.state is EvaluationState.LOST
    assert point.state is PointState.READY, f"the point is {point.state.value}"
    assert point.epoch == evaluation.epoch, "somebody else has had the point since"
    evaluation.state = EvaluationState.RUNNING
    point.state, point.holder, point.attempts = PointState.RUNNING, event.evaluation, point.attempts - 1


def _stopped(tale: Tale, event: Event) -> None:
    """The point's fate is told by the next event about it."""
    point, evaluation = _running(tale, event)
    evaluation.state, point.holder = EvaluationState.STOPPED, None


def _done(tale: Tale, event: Event) -> None:
    point, evaluation = _both(tale, event)
    assert evaluation.state in {EvaluationState.RUNNING, EvaluationState.LOST}
    assert point.holder in {None, event.evaluation}, "the rival still runs"
    assert point.state in {PointState.READY, PointState.RUNNING, PointState.FAILED}, f"it is {point.state.value}"
    evaluation.state = EvaluationState.DONE
    point.state, point.holder, point.winner = PointState.DONE, None, event.evaluation


def _failed_for_good(tale: Tale, event: Event) -> None:
    assert event.point is not None
    point = tale.points[event.point]
    assert point.state is PointState.READY, f"the point is {point.state.value}"
    assert event.details["attempts"] == point.attempts
    point.state = PointState.FAILED


def _cancelled(tale: Tale, event: Event) -> None:
    assert event.point is not None
    point = tale.points[event.point]
    assert _is_open(point), f"the point is {point.state.value}"
    assert point.holder is None
    point.state = PointState.CANCELLED


_MEANINGS: dict[str, Callable[[Tale, Event], None]] = {
    "task.submitted": _submitted,
    "task.paused": _becomes(TaskState.PAUSED, TaskState.RUNNING),
    "task.resumed": _becomes(TaskState.RUNNING, TaskState.PAUSED, TaskState.FINISHED),
    "task.finished": _becomes(TaskState.FINISHED, TaskState.RUNNING),
    "task.cancelled": _becomes(TaskState.CANCELLED, TaskState.RUNNING, TaskState.PAUSED),
    "point.suggested": _suggested,
    "point.done": _done,
    "point.failed": _failed_for_good,
    "point.cancelled": _cancelled,
    "evaluation.started": _started,
    "checkpoint.committed": _committed,
    "checkpoint.damaged": _damaged,
    "evaluation.failed": _failed,
    "evaluation.released": _gives_back(EvaluationState.RELEASED, counts=0),
    "evaluation.lost": _gives_back(EvaluationState.LOST, counts=1),
    "evaluation.recovered": _recovered,
    "evaluation.stopped": _stopped,
}
