"""Points of the user's own: queued here, made by the task's host ahead of what the optimizer proposes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from gridtune_common.errors import Flaw
from gridtune_common.protocol import AddedPoints, AddPoints, Parameters
from gridtune_common.taskfile import Task, parse_task
from gridtune_steering.bookkeeping import events, points, wishes
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.access import Caller, owned_task, visible_task
from gridtune_steering.services.errors import Conflict, Unusable
from gridtune_steering.services.fitting import Fitting
from gridtune_steering.services.idempotency import once
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.tasks import refuse_ended

#: The most points in one message.
MOST_POINTS = 1_000


def add(steering: Steering, caller: Caller, task: str, message: AddPoints) -> AddedPoints:
    """Queue points of the user's own, all or none.

    Raises:
        NotFound: There is no such task that the caller may see.
        Conflict: The task has ended, or its budget has no room for them.
        Unusable: A point is none of the task's space, breaks a constraint, or is there already.
    """
    now = steering.clock()
    with steering.database.read() as connection:
        spec = parse_task(visible_task(connection, caller, task).document)
    fitting = Fitting(spec)
    wanted = _checked(fitting, message)
    with steering.database.write() as connection:
        row = owned_task(connection, caller, task)

        def effect() -> AddedPoints:
            refuse_ended(row)
            _refuse_repetitions(connection, row, spec, wanted)
            _refuse_beyond_budget(connection, row, spec, len(wanted))
            return _queue(connection, caller, row, wanted, now)

        added = once(connection, caller, f"add points {task}", message, AddedPoints, effect, now=now)
    steering.bell.ring_hosts(task)
    return added


def _checked(fitting: Fitting, message: AddPoints) -> list[Parameters]:
    n_points = len(message.points)
    if not 0 < n_points <= MOST_POINTS:
        _refuse([Flaw("points", f"there are {n_points}; send 1 to {MOST_POINTS} at a time")])
    wanted = [fitting.settle(point.parameters) for point in message.points]
    complaints = [fitting.complaint(parameters) for parameters in wanted]
    _refuse([Flaw(_path(index), complaint) for index, complaint in enumerate(complaints) if complaint])
    return wanted


def _refuse_repetitions(connection: Connection, row: Record, spec: Task, wanted: Sequence[Parameters]) -> None:
    """No point is tried twice: neither one that was made, nor one that is certain to be."""
    places = dict(_places(connection, row, spec))
    flaws = []
    for index, parameters in enumerate(wanted):
        key = Fitting.key(parameters)
        if key in places:
            flaws.append(Flaw(_path(index), f"is there already, as {places[key]}; no point is tried twice"))
        places.setdefault(key, f"points[{index}] of this request")
    _refuse(flaws)


def _places(connection: Connection, row: Record, spec: Task) -> Iterator[tuple[str, str]]:
    """Where every point is that was or will be tried; what comes last says it best."""
    for index, parameters in enumerate(spec.initial_points):
        yield Fitting.key(parameters), f"initial_points[{index}] of the task"
    for wish in wishes.waiting(connection, row.id):
        yield Fitting.key(wish.parameters), "one that waits to be made"
    for number, parameters in enumerate(points.every_parameters(connection, row.id)):
        yield Fitting.key(parameters), f"point {number}"


def _refuse_beyond_budget(connection: Connection, row: Record, spec: Task, n_wanted: int) -> None:
    if row.max_points is None:
        return
    taken = max(points.count(connection, row.id), len(spec.initial_points)) + wishes.count_waiting(connection, row.id)
    room = max(row.max_points - taken, 0)
    if n_wanted > room:
        words = f"the task's budget of {row.max_points} points has room for {room} more"
        raise Conflict(
            f"{words}, not for {n_wanted}; extend the task first: gridtune extend {row.id} {n_wanted - room}"
        )


def _queue(
    connection: Connection, caller: Caller, row: Record, wanted: Sequence[Parameters], now: datetime
) -> AddedPoints:
    for parameters in wanted:
        wish = wishes.add(connection, row.id, parameters, by=caller.user, now=now)
        details = {"wish": wish}
        events.add(connection, at=now, actor=caller.user, kind="point.wished", task=row.id, details=details)
    return AddedPoints(len(wanted), wishes.count_waiting(connection, row.id))


def _refuse(flaws: Sequence[Flaw]) -> None:
    if flaws:
        raise Unusable("the points cannot be used", flaws)


def _path(index: int) -> str:
    return f"points[{index}].parameters"
