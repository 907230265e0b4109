"""What must be true after a simulation; each check names what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from gridtune_common.protocol import EvaluationState, PointState, TaskState
from gridtune_steering.bookkeeping.points import OBSERVABLE
from gridtune_steering.bookkeeping.schema import evaluations, events, points, tasks

from .experiment import LAST_ORDERS, Experiment

#: So much later than its next sign of life a worker may hear that its task has ended, in seconds.
_GRACE: Final = 5.0
#: So long after the end of their leases the points of silent workers are taken back at the latest.
_LONGEST_SILENCE: Final = timedelta(seconds=20)

Flaws = Iterator[str]


def find_flaws(world: Experiment, connection: sa.Connection | None = None) -> dict[str, list[str]]:
    """What is wrong, by promise; nothing if all is well. By default looks with a connection of its own."""
    if connection is None:
        with world.databases["web"].read() as own:
            return find_flaws(world, own)
    return {promise: list(check(world, connection)) for promise, check in PROMISES.items()}


def _seen(world: Experiment, _connection: sa.Connection) -> Flaws:
    yield from world.journal.flaws


def _done_once(_world: Experiment, connection: sa.Connection) -> Flaws:
    n = sa.func.count()
    log = sa.select(events.c.task_id, events.c.point, n).where(events.c.kind == "point.done")
    ended = sa.select(evaluations.c.task_id, evaluations.c.point, n).where(
        evaluations.c.state == EvaluationState.DONE.value
    )
    for table, query in ((events, log), (evaluations, ended)):
        for task, point, times in connection.execute(query.group_by(table.c.task_id, table.c.point).having(n > 1)):
            yield f"point {point} of {task} was done {times} times, says {table.name}"


def _kept(world: Experiment, connection: sa.Connection) -> Flaws:
    is_its_point = sa.and_(points.c.task_id == evaluations.c.task_id, points.c.number == evaluations.c.point)
    columns = (evaluations.c.id, evaluations.c.state, points.c.state, points.c.value, points.c.evaluation_id)
    query = sa.select(*columns).join(points, is_its_point).where(evaluations.c.state == EvaluationState.DONE.value)
    there = {row[0]: row for row in connection.execute(query)}
    for evaluation, (loss, _) in world.journal.acknowledged.items():
        row = there.get(evaluation)
        if row is None or (row[2], row[4]) != (PointState.DONE.value, evaluation) or abs(row[3] - loss) > 1e-9:
            yield f"the result {loss} of {evaluation} was acknowledged; the database has {row}"


def _learnt(world: Experiment, connection: sa.Connection) -> Flaws:
    # what comes in just before a user cancels a task is kept, and nobody has to learn it
    unlearnt = sa.select(points.c.task_id, points.c.number).where(
        points.c.state.in_(OBSERVABLE),
        points.c.observed.is_(None),
        points.c.task_id.in_(sa.select(tasks.c.id).where(tasks.c.state != TaskState.CANCELLED.value)),
        points.c.ended_at <= world.steering.clock() - timedelta(seconds=LAST_ORDERS / 2),
    )
    for task, number in connection.execute(unlearnt):
        yield f"the result of point {number} of {task} was not learnt"


def _ended(world: Experiment, connection: sa.Connection) -> Flaws:
    ended = sa.select(tasks.c.id).where(tasks.c.state != TaskState.RUNNING.value)
    running = sa.select(evaluations.c.id, evaluations.c.task_id).where(
        evaluations.c.state == EvaluationState.RUNNING.value, evaluations.c.task_id.in_(ended)
    )
    for evaluation, task in connection.execute(running):
        yield f"evaluation {evaluation} runs, but its task {task} has ended"
    longest = world.plan.lease / 4 + _GRACE
    for seconds in world.journal.overtime.all:
        if seconds > longest:
            yield f"a worker went on for {seconds:.1f} s after the end of its task"
    now = world.agenda.now
    for agent in world.agents:
        since = world.journal.ended.get(agent.task, now)
        if now - since > longest and any(slot.is_training for slot in agent.slots):
            yield f"{agent.name} still trains for task {agent.task}, which ended {now - since:.0f} s ago"


def _none_lost(world: Experiment, connection: sa.Connection) -> Flaws:
    lost = sa.select(events.c.evaluation_id).where(events.c.kind == "evaluation.lost")
    for evaluation in connection.execute(lost).scalars():
        if evaluation not in world.journal.vanished:
            yield f"evaluation {evaluation} was lost, but its worker had not vanished"


def _taken_back(world: Experiment, connection: sa.Connection) -> Flaws:
    long_ago = world.steering.clock() - _LONGEST_SILENCE
    silent = sa.select(evaluations.c.id).where(
        evaluations.c.state == EvaluationState.RUNNING.value, evaluations.c.lease_expires_at < long_ago
    )
    for evaluation in connection.execute(silent).scalars():
        yield f"evaluation {evaluation} has been silent for long, and nobody took its point back"


PROMISES: Final[dict[str, Callable[[Experiment, sa.Connection], Flaws]]] = {
    "nothing unexpected was answered; no point had two workers": _seen,
    "no point is done twice": _done_once,
    "every acknowledged result is in the database": _kept,
    "every result was learnt": _learnt,
    "no evaluation runs on after the end of its task": _ended,
    "only workers that vanished lost their leases": _none_lost,
    "the points of workers that vanished were taken back": _taken_back,
}
