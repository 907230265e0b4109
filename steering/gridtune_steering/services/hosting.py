"""What an optimizer host does to the database for the tasks that it owns: read news, write what campaigns decide."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from gridtune_common import __version__
from gridtune_common.protocol import PointState, TaskState
from gridtune_common.taskfile import Task, parse_task
from gridtune_steering import optimizers
from gridtune_steering.bookkeeping import events, hosts, known, points, snapshots, tasks, wishes
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.campaign import (
    Action,
    Campaign,
    Failed,
    Finish,
    Known,
    Note,
    Origin,
    Result,
    Snapshot,
    Suggest,
    Told,
    Wish,
)
from gridtune_steering.campaign.snapshot import FORMAT
from gridtune_steering.doorbell.port import ALL
from gridtune_steering.services import claims
from gridtune_steering.services.owning import ACTOR, Ownership, owned
from gridtune_steering.services.steering import Steering
from gridtune_steering.services.submission import problem_of
from gridtune_steering.services.tasks import end, pause


class Outdated(Exception):  # noqa: N818 - named for the fact
    """What the campaign learnt is not true any more; nothing was written, and the campaign has to be rebuilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What happened to a task since its campaign last looked.

    Attributes:
        wishes: The user's own points that are to be made next; the campaign may have them already.
        results: What the campaign has not learnt yet: results from elsewhere, then the points' own in the order in
            which they ended.
        credit: How many workers wait for a point that does not exist yet.
        elapsed: Seconds for which the task has run, without pauses.
    """

    wishes: Sequence[Wish]
    results: Sequence[Result]
    credit: int
    elapsed: float


def load(steering: Steering, ownership: Ownership) -> Campaign:
    """Rebuild a task's campaign from its history.

    Raises:
        OwnershipLost: The task is not this host's any more.
    """
    with steering.database.read() as connection:
        row = owned(tasks.find(connection, ownership.task), ownership)
        history = points.history(connection, ownership.task)
        learnt = [
            *((point.observed, _result(point)) for point in history if point.observed is not None),
            *((result.observed, _known(result)) for result in known.learnt(connection, ownership.task)),
        ]
        kept = snapshots.find(connection, ownership.task)
    spec = parse_task(row.document)
    problem = problem_of(spec, row.seed)
    campaign = Campaign(
        objectives=spec.objectives,
        stop=dataclasses.replace(spec.stop, points=row.max_points),
        problem=problem,
        optimizer=optimizers.create(spec.algorithm.name, problem, spec.algorithm.options),
        initial_points=spec.initial_points,
    )
    campaign.restore(
        [_suggestion(point, spec) for point in history],
        [result for _, result in sorted(learnt, key=lambda entry: entry[0])],
        _usable(kept, spec),
    )
    return campaign


def algorithm_of(steering: Steering, task: str) -> str:
    """What a task calls its optimizer."""
    with steering.database.read() as connection:
        row = tasks.find(connection, task)
    return "" if row is None else parse_task(row.document).algorithm.name


def keep(steering: Steering, ownership: Ownership, snapshot: Snapshot) -> None:
    """Keep what a task's optimizer is by now, so that the next host need not ask for every point again.

    Raises:
        OwnershipLost: The task is not this host's any more; nothing was written.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row = owned(tasks.find_for_update(connection, ownership.task), ownership)
        snapshots.put(
            connection,
            ownership.task,
            n_points=snapshot.n_points,
            n_observed=snapshot.n_observed,
            versions=_versions(parse_task(row.document)),
            state=snapshot.state,
            at=now,
        )


def _usable(kept: Record | None, spec: Task) -> Snapshot | None:
    """The snapshot, unless this program or a library is not what it was when the snapshot was taken."""
    if kept is None or kept.versions != _versions(spec):
        return None
    return Snapshot(kept.n_points, kept.n_observed, kept.state)


def _versions(spec: Task) -> dict[str, Any]:
    ours = {"format": FORMAT, "gridtune": __version__, "python": platform.python_version()}
    return {**ours, **optimizers.library_versions(spec.algorithm.name)}


def news(steering: Steering, ownership: Ownership) -> News:
    """Read what happened since the campaign last looked.

    Raises:
        OwnershipLost: The task is not this host's any more.
    """
    now = steering.clock()
    with steering.database.read() as connection:
        row = owned(hosts.needs(connection, ownership.task, now=now), ownership)
        foreign = [_known(result) for result in known.unobserved(connection, row.id)] if row.has_foreign else []
        results = [_result(point) for point in points.unobserved(connection, row.id)]
        credit = claims.credit(steering, connection, row.id, now, waiting=row.n_waiting, ready=row.n_ready)
        # one more than can be made now, so that the campaign knows that the search is not over
        wished = wishes.waiting(connection, row.id, limit=credit + 1) if row.has_wishes else []
    return News(
        wishes=[Wish(str(wish.id), wish.parameters) for wish in wished],
        results=[*foreign, *results],
        credit=credit,
        elapsed=row.ran_seconds + (now - row.running_since).total_seconds(),
    )


def write(
    steering: Steering,
    ownership: Ownership,
    *,
    learnt: Sequence[tuple[Result, int]],
    actions: Sequence[Action],
) -> None:
    """Write down what a campaign learnt and decided, all or nothing.

    Args:
        steering: The service's surroundings.
        ownership: Fences off a host that lost the task.
        learnt: Results with their place in the order of learning.
        actions: What to do.

    Raises:
        OwnershipLost: The task is not this host's any more; nothing was written.
        Outdated: A point that had failed was done after all before this was written; nothing was written.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row = owned(tasks.slim_for_update(connection, ownership.task), ownership)
        _observe(connection, ownership.task, learnt)
        _make(connection, ownership.task, [action for action in actions if isinstance(action, Suggest)], now)
        for action in actions:
            if isinstance(action, Note):
                task, details = ownership.task, {"note": action.text}
                events.add(connection, at=now, actor=ACTOR, kind="algorithm.chosen", task=task, details=details)
            if isinstance(action, Finish):
                rule = action.rule.value
                end(connection, row, TaskState.FINISHED, action.reason, actor=ACTOR, now=now, stopped_by=rule)
    n_made = sum(isinstance(action, Suggest) for action in actions)
    if actions:
        steering.bell.ring_askers(ownership.task, n_made if n_made == len(actions) else ALL)


def _observe(connection: Connection, task: str, learnt: Sequence[tuple[Result, int]]) -> None:
    foreign = [(-result.number, place) for result, place in learnt if isinstance(result, Known)]
    known.observe(connection, task, foreign)
    own = [
        (result.number, PointState.DONE if isinstance(result, Told) else PointState.FAILED, place)
        for result, place in learnt
        if not isinstance(result, Known)
    ]
    if points.observe(connection, task, own) < len(own):
        raise Outdated(f"a point of task {task} that had failed was done after all")


def _make(connection: Connection, task: str, suggestions: Sequence[Suggest], now: datetime) -> None:
    """Make points, each with its line in the log; a wish that one fulfils is done with."""
    points.insert(connection, [_point_values(task, suggestion, now) for suggestion in suggestions])
    lines = [
        {
            "kind": "point.suggested",
            "point": suggestion.number,
            "details": {"informed_by": suggestion.informed_by, **_provenance(suggestion)},
        }
        for suggestion in suggestions
    ]
    events.add_many(connection, lines, at=now, actor=ACTOR, task=task)
    for suggestion in suggestions:
        if suggestion.wish is not None:
            wishes.fulfil(connection, int(suggestion.wish), suggestion.number)


def _provenance(suggestion: Suggest) -> dict[str, Any]:
    if suggestion.wish is not None:
        return {"origin": suggestion.origin.value, "wish": int(suggestion.wish)}
    return {} if suggestion.origin is Origin.ALGORITHM else {"origin": suggestion.origin.value}


def note_broken(steering: Steering, ownership: Ownership, reason: str) -> None:
    """Note that a task's optimizer has failed, for its owner to see; it is asked again.

    Raises:
        OwnershipLost: The task is not this host's any more.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        owned(tasks.find(connection, ownership.task), ownership)
        details = {"reason": reason}
        events.add(connection, at=now, actor=ACTOR, kind="optimizer.failed", task=ownership.task, details=details)


def pause_broken(steering: Steering, ownership: Ownership, reason: str) -> None:
    """Pause a task whose optimizer cannot go on, and say why; nothing of it is lost.

    Raises:
        OwnershipLost: The task is not this host's any more.
    """
    now = steering.clock()
    with steering.database.write() as connection:
        row = owned(tasks.find_for_update(connection, ownership.task), ownership)
        pause(connection, row, reason, actor=ACTOR, now=now, stopped_by="optimizer")
    steering.bell.ring_askers(ownership.task)


def _suggestion(point: Record, spec: Task) -> Suggest:
    # initial points always come first, also in databases that did not keep the origin yet
    origin = Origin.INITIAL if point.number < len(spec.initial_points) else Origin(point.origin)
    return Suggest(point.number, point.parameters, point.informed_by, origin)


def _result(point: Record) -> Told | Failed:
    if point.state == PointState.DONE.value:
        return Told(point.number, point.metrics)
    return Failed(point.number)


def _known(result: Record) -> Known:
    return Known(-result.number, result.parameters, result.metrics)


def _point_values(task: str, suggestion: Suggest, now: datetime) -> dict[str, Any]:
    return {
        "task_id": task,
        "number": suggestion.number,
        "state": PointState.READY.value,
        "origin": suggestion.origin.value,
        "parameters": suggestion.parameters,
        "metrics": {},
        "attempts": 0,
        "epoch": 0,
        "message": "",
        "informed_by": suggestion.informed_by,
        "created_at": now,
    }
