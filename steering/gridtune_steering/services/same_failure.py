"""A training that fails everywhere in the same way pauses its task, before it has wasted much.

Only failures of the training itself count, only while no point is done, and only since the task was last resumed. If
there are several hosts, at least two must have seen it: one host alone may be the broken one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Connection

from gridtune_common.protocol import Fail, FailureCause, TaskState
from gridtune_steering.bookkeeping import circumstances, evaluations, points, tasks
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services import evaluations as life
from gridtune_steering.services import likeness, workers
from gridtune_steering.services.retries import Blame, Place, blame_for
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.tasks import pause

#: The rule's name, in tasks that it paused.
RULE: Final = "same_failure"
#: The service's own hand in the audit log.
_ACTOR: Final = "gridtune/retries"
_TAIL_LIMIT: Final = 4_000


@dataclass(frozen=True, slots=True)
class _Everywhere:
    """The training of a task fails everywhere: on so many points, the last time in this evaluation."""

    n_points: int
    evaluation: Record


def mark(message: Fail, parameters: dict[str, Any]) -> str:
    """What an evaluation's failure has in common with those that are like it; empty if it is the node's."""
    if blame_for(message.cause) is not Blame.PAYLOAD:
        return ""
    words = likeness.last_words(message.cause, message.message, message.output_tail)
    return likeness.likeness(message.cause, message.exit_code, words, parameters)


def pause_if_everywhere(steering: Steering, evaluation: str) -> None:
    """Pause the task of a failed evaluation if its training fails everywhere."""
    now = steering.clock()
    with steering.database.read() as connection:
        found = _find(steering, connection, evaluation, now)
    if found is None:
        return
    # a transaction of its own: it locks the task, which nobody may do who holds a point
    with steering.database.write() as connection:
        task = tasks.find_for_update(connection, found.evaluation.task_id)
        found = _find(steering, connection, evaluation, now)
        if task is None or found is None:
            return
        pause(connection, task, _reason(found), actor=_ACTOR, now=now, stopped_by=RULE, details=_details(found))
        workers.clear_blamed(connection, task.id, now)
    steering.bell.ring_hosts(task.id)
    steering.bell.ring_askers(task.id)


def _find(steering: Steering, connection: Connection, evaluation: str, now: datetime) -> _Everywhere | None:
    row = evaluations.find(connection, evaluation)
    task = tasks.find(connection, row.task_id) if row is not None and row.likeness else None
    if row is None or task is None or task.state != TaskState.RUNNING.value:
        return None
    most = life.rules_of(task).same_failure
    if not most or points.any_done(connection, task.id):
        return None
    n_points, n_hosts = circumstances.alike(connection, task.id, row.likeness, since=task.running_since)
    if n_points < most:
        return None
    is_everywhere = n_hosts > 1 or workers.is_alone(steering, connection, task.id, Place.of(row), now)
    return _Everywhere(n_points, row) if is_everywhere else None


def _reason(found: _Everywhere) -> str:
    points = "1 point" if found.n_points == 1 else f"{found.n_points} different points"
    return f"your script fails everywhere: the same failure on {points}: {in_words(found.evaluation)}"


def _details(found: _Everywhere) -> dict[str, Any]:
    row = found.evaluation
    return {
        "points": found.n_points,
        "point": row.point,
        "evaluation": row.id,
        "failure": in_words(row),
        "output_tail": row.output_tail[-_TAIL_LIMIT:],
    }


def in_words(evaluation: Record) -> str:
    """A failed evaluation in one line."""
    cause = FailureCause(evaluation.cause)
    words = likeness.last_words(cause, evaluation.message, evaluation.output_tail)
    return likeness.in_words(cause, evaluation.exit_code, words)
