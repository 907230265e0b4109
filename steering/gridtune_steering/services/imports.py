"""Results from elsewhere: brought by the user, or copied from other tasks when a task begins."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from gridtune_common.errors import Flaw
from gridtune_common.protocol import ImportedResults, ImportResults, KnownResult, Metrics, Parameters
from gridtune_common.taskfile import Task, parse_task
from gridtune_steering.bookkeeping import events, known, points, wishes
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.services.access import Caller, owned_task, visible_task
from gridtune_steering.services.errors import NotFound, TaskArchived, Unusable
from gridtune_steering.services.fitting import Fitting
from gridtune_steering.services.idempotency import once
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.tasks import refuse_ended

#: The most results in one message, and from other tasks together.
MOST_RESULTS = 10_000
_LONGEST_SOURCE = 1_000


def take(steering: Steering, caller: Caller, task: str, message: ImportResults) -> ImportedResults:
    """Give a task's optimizer results from elsewhere to learn. What the task knows already is skipped.

    Raises:
        NotFound: There is no such task that the caller may see.
        Conflict: The task has ended.
        Unusable: A result has no point of the task's space, breaks a constraint, or lacks an objective.
    """
    now = steering.clock()
    with steering.database.read() as connection:
        spec = parse_task(visible_task(connection, caller, task).document)
    fitting = Fitting(spec)
    results = _checked(spec, fitting, message)
    with steering.database.write() as connection:
        row = owned_task(connection, caller, task)

        def effect() -> ImportedResults:
            refuse_ended(row)
            intake = _Intake(_known_keys(connection, row))
            for result in results:
                intake.offer(result)
            return intake.store(connection, caller, row.id, message.source, now)

        imported = once(connection, caller, f"import results {task}", message, ImportedResults, effect, now=now)
    steering.bell.ring_hosts(task)
    return imported


def warm_start(connection: Connection, caller: Caller, spec: Task, task: str, now: datetime) -> None:
    """Copy what fits of the results of the tasks that a new task names.

    Raises:
        Unusable: There is no such task that the caller may see.
    """
    sources = [_source(connection, caller, name, index) for index, name in enumerate(spec.warm_start)]
    fitting = Fitting(spec)
    keys: set[str] = set()
    room = MOST_RESULTS
    for source in sources:
        intake = _Intake(keys, room)
        for point in points.results(connection, source.id):
            parameters = _translated(fitting, source, point)
            if reason := _misfit(spec, fitting, parameters, point):
                intake.skip(reason)
            else:
                intake.offer(KnownResult(parameters, point.metrics))
        room -= len(intake.taken)
        intake.store(connection, caller, task, f"task {source.id}", now)


def _source(connection: Connection, caller: Caller, name: str, index: int) -> Record:
    try:
        return visible_task(connection, caller, name)
    except TaskArchived as error:
        flaw = Flaw(f"warm_start[{index}]", f"{error}; import its results into the new task: gridtune import")
        raise Unusable("the task cannot be used", [flaw]) from error
    except NotFound as error:
        flaw = Flaw(f"warm_start[{index}]", f"there is no task {name!r} that you may read; write the id of one")
        raise Unusable("the task cannot be used", [flaw]) from error


def _translated(fitting: Fitting, source: Record, point: Record) -> Parameters:
    """Another task's point in this one's space: what is a constant there can be a parameter here."""
    values = fitting.settle({**source.document.get("constants", {}), **point.parameters})
    return {name: values[name] for name in fitting.space.active(values) if name in values}


def _misfit(spec: Task, fitting: Fitting, parameters: Parameters, point: Record) -> str:
    """Why another task's point says nothing about this task; empty if it does."""
    for name, value in spec.constants.items():
        if name in point.parameters and point.parameters[name] != value:
            return f"another {name} than the constant here"
    if any(_lacks(point.metrics, objective.metric) for objective in spec.objectives):
        return "without an objective's metric"
    if fitting.space.explain(parameters):
        return "outside of the space"
    return "breaks a constraint" if fitting.broken(parameters) else ""


def _checked(spec: Task, fitting: Fitting, message: ImportResults) -> list[KnownResult]:
    n_results = len(message.results)
    flaws = []
    if not 0 < n_results <= MOST_RESULTS:
        flaws.append(Flaw("results", f"there are {n_results}; send 1 to {MOST_RESULTS} at a time"))
    if len(message.source) > _LONGEST_SOURCE:
        flaws.append(Flaw("source", f"must have at most {_LONGEST_SOURCE} characters"))
    _refuse(flaws)
    results = [KnownResult(fitting.settle(result.parameters), result.metrics) for result in message.results]
    _refuse([flaw for index, result in enumerate(results) for flaw in _flaws(spec, fitting, result, index)])
    return results


def _flaws(spec: Task, fitting: Fitting, result: KnownResult, index: int) -> Iterator[Flaw]:
    if complaint := fitting.complaint(result.parameters):
        yield Flaw(f"results[{index}].parameters", complaint)
    for objective in spec.objectives:
        if _lacks(result.metrics, objective.metric):
            there = ", ".join(result.metrics) or "nothing"
            message = f"the objective needs a finite number here; there is: {there}"
            yield Flaw(f"results[{index}].metrics.{objective.metric}", message)


def _lacks(metrics: Metrics, name: str) -> bool:
    value = metrics.get(name)
    return value is None or not math.isfinite(value)


def _refuse(flaws: Sequence[Flaw]) -> None:
    if flaws:
        raise Unusable("the results cannot be used", flaws)


def _known_keys(connection: Connection, row: Record) -> set[str]:
    tried: Iterable[Parameters] = points.every_parameters(connection, row.id)
    others = [*wishes.waiting(connection, row.id), *known.of_task(connection, row.id)]
    return {Fitting.key(parameters) for parameters in [*tried, *(other.parameters for other in others)]}


class _Intake:
    """Sorts results: what is new is taken, the rest counted by the reason why not.

    Args:
        keys: The points that it knows; those that are taken are added.
        room: How many may be taken.
    """

    def __init__(self, keys: set[str], room: int = MOST_RESULTS) -> None:
        self.taken: list[KnownResult] = []
        self._keys = keys
        self._room = room
        self._skipped: Counter[str] = Counter()

    def skip(self, reason: str) -> None:
        """Count one that is not taken."""
        self._skipped[reason] += 1

    def offer(self, result: KnownResult) -> None:
        """Take a result that fits, or count why not."""
        key = Fitting.key(result.parameters)
        if key in self._keys:
            self.skip("known already")
        elif len(self.taken) >= self._room:
            self.skip(f"beyond the limit of {MOST_RESULTS}")
        else:
            self._keys.add(key)
            self.taken.append(result)

    def store(self, connection: Connection, caller: Caller, task: str, source: str, now: datetime) -> ImportedResults:
        """Hand over what was taken, with a line in the log that accounts for all."""
        known.add(connection, task, self.taken, source=source, now=now)
        details = {"source": source, "taken": len(self.taken), "skipped": self._skipped.total()}
        if self._skipped:
            details["why"] = ", ".join(f"{n} {reason}" for reason, n in self._skipped.most_common())
        events.add(connection, at=now, actor=caller.user, kind="results.imported", task=task, details=details)
        return ImportedResults(len(self.taken), dict(self._skipped))
