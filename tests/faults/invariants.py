"""What has to be true when all is over, whatever was done to whom."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from event_log import Tale, Unexplained
from faults.chaos import Outcome
from faults.fleet import processes_in
from faults.journal import (
    BEGINNING,
    TRAININGS,
    State,
    Training,
    digest_of,
    n_missed_checkpoints,
    n_steps_of,
    read_acknowledged,
    read_trainings,
)
from gridtune_common.protocol import Evaluation, EvaluationState, Export, Point, PointState
from service_bench import loss_of

#: Seconds between the fetching of a checkpoint and the first sign of its training, at most.
_FETCHING = 30.0
#: Seconds for the last processes to notice that all is over.
_LEAVING = 15.0


@dataclass(frozen=True)
class Evidence:
    """All there is to judge by."""

    outcome: Outcome
    exported: Export
    trainings: dict[str, Training]
    acknowledged: Counter[str]
    tale: Tale

    @property
    def points(self) -> dict[int, Point]:
        """The points by number."""
        return {point.number: point for point in self.exported.points}

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """The evaluations by id."""
        return {evaluation.id: evaluation for evaluation in self.exported.evaluations}

    @property
    def n_repeated_steps(self) -> int:
        """Steps of points that were trained before."""
        times = Counter((training.point, step) for training in self.trainings.values() for step, _ in training.steps)
        return times.total() - len(times)

    @property
    def n_missed_checkpoints(self) -> int:
        """Checkpoints that agents could not store."""
        return n_missed_checkpoints(berth.log for berth in self.outcome.berths)

    def harmed_at(self, checkpoint: str, point: int) -> float | None:
        """When a checkpoint, or what it leans on, was damaged or deleted; None if never."""
        harmed, base = self.outcome.shelf.harmed, self.tale.points[point].bases.get(checkpoint)
        return min((harmed[name] for name in (checkpoint, base) if name in harmed), default=None)

    @property
    def states(self) -> dict[str, State]:
        """What is in the checkpoints, by id."""
        return self.outcome.shelf.states


def gather(outcome: Outcome) -> Evidence:
    """Hear everybody.

    Raises:
        Unexplained: The log contradicts itself.
    """
    assert outcome.exported is not None
    return Evidence(
        outcome=outcome,
        exported=outcome.exported,
        trainings=read_trainings(outcome.folder / TRAININGS),
        acknowledged=read_acknowledged(berth.log for berth in outcome.berths),
        tale=Tale.of(outcome.exported.events),
    )


def violations(outcome: Outcome) -> list[str]:
    """Everything that should not be so; empty if all is well."""
    try:
        evidence = gather(outcome)
    except Unexplained as error:
        return [*outcome.complaints, f"the log contradicts itself: {error}"]
    return [
        *outcome.complaints,
        *(f"{check.__name__.removeprefix('_')}: {what}" for check in CHECKS for what in check(evidence)),
    ]


def _every_point_has_ended(evidence: Evidence) -> Iterator[str]:
    """None lost, none too many, none failed: there are attempts enough."""
    numbers = sorted(evidence.points)
    budget = evidence.exported.task.summary.points
    if numbers != list(range(budget or 0)):
        yield f"{len(numbers)} points with numbers {numbers[:3]}…{numbers[-3:]} instead of {budget}"
    for number, point in evidence.points.items():
        if point.state is not PointState.DONE:
            yield f"point {number} is {point.state.value} after {point.attempts} attempts: {point.message}"


def _every_acknowledged_result_is_there(evidence: Evidence) -> Iterator[str]:
    """What an agent was told to be accepted counts, and was accepted once."""
    for name, n_times in evidence.acknowledged.items():
        found = evidence.evaluations.get(name)
        if found is None or found.state is not EvaluationState.DONE:
            yield f"{name} was accepted, and is {found.state.value if found else 'unknown'}"
        if n_times > 1:
            yield f"{name} was told {n_times} times, each time as a new letter"


def _every_result_is_right(evidence: Evidence) -> Iterator[str]:
    """A point's metrics are what its training found: by its journal, by its evaluation, and by arithmetic."""
    winners = {row.point: row for row in evidence.exported.evaluations if row.state is EvaluationState.DONE}
    for number, point in evidence.points.items():
        if point.state is not PointState.DONE:
            continue
        training = evidence.trainings.get(winners[number].id)
        found = (point.metrics, winners[number].metrics, point.value)
        loss = loss_of(dict(point.parameters))
        due = {"loss": loss, "digest": int(digest_of(number, n_steps_of(number))[:12], 16)}
        if found != (due, due, loss):
            yield f"point {number}: {found} instead of {due}"
        if training is None or training.loss != loss:
            yield f"point {number} of evaluation {winners[number].id}: its journal says {training}"


def _no_point_finished_twice(evidence: Evidence) -> Iterator[str]:
    """One result counts for each point."""
    done = Counter(row.point for row in evidence.exported.evaluations if row.state is EvaluationState.DONE)
    told = Counter(event.point for event in evidence.exported.events if event.kind == "point.done")
    for number in evidence.points:
        if (done[number], told[number]) != (1, 1):
            yield f"point {number}: {done[number]} results, {told[number]} times in the log"


def _the_log_explains_the_tables(evidence: Evidence) -> Iterator[str]:
    """Every state follows from the events alone, which also means that no two held a point at a time."""
    yield from evidence.tale.differences(evidence.exported)


def _evaluations_are_trained_once(evidence: Evidence) -> Iterator[str]:
    """A lease is used for one training, which does its steps in order from where it began."""
    for name, training in evidence.trainings.items():
        steps = [step for step, _ in training.steps]
        if name not in evidence.evaluations:
            yield f"{name} of point {training.point} was trained, and the service does not know it"
        before = training.began_with.step
        if len(training.starts) != 1 or steps != list(range(before + 1, before + len(steps) + 1)):
            yield f"{name}: begun {len(training.starts)} times, steps {steps} after {before}"
        if training.loss is not None and before + len(steps) != n_steps_of(training.point):
            yield f"{name}: a result after steps {steps} after {before}"


def _only_the_lost_are_overtaken(evidence: Evidence) -> Iterator[str]:
    """While a training goes on, the same point is trained elsewhere only if who had it before was thought lost.

    An agent that was frozen between its lease and the command begins late, and finds out soon after.
    """
    by_point: dict[int, list[Training]] = {}
    for training in evidence.trainings.values():
        by_point.setdefault(training.point, []).append(training)
    for number, trainings in by_point.items():
        trainings.sort(key=lambda training: evidence.evaluations[training.evaluation].epoch)
        for earlier, later in pairwise(trainings):
            was_lost = evidence.tale.evaluations[earlier.evaluation].was_lost
            if earlier.steps and later.starts and earlier.steps[-1][1] > later.starts[0] and not was_lost:
                yield f"point {number}: {later.evaluation} began while {earlier.evaluation} was at work"


def _reports_are_complete(evidence: Evidence) -> Iterator[str]:
    """A result whose worker was never thought lost comes with all its reports, as they were made."""
    reports: dict[str, dict[int, float | None]] = {}
    for report in evidence.exported.reports:
        reports.setdefault(report.evaluation, {})[report.step] = report.metrics["loss"]
    for name, found in reports.items():
        loss = loss_of(dict(evidence.points[evidence.evaluations[name].point].parameters))
        training = evidence.trainings.get(name)
        expected = {step: loss + 1 / step for step, _ in training.steps} if training else {}
        is_whole = evidence.evaluations[name].state is EvaluationState.DONE
        if is_whole and not evidence.tale.evaluations[name].was_lost and found != expected:
            yield f"{name}: reports of steps {sorted(found)}"
        if not found.items() <= expected.items():
            yield f"{name}: reports that nobody made: {found}"


def _checkpoints_are_of_their_points(evidence: Evidence) -> Iterator[str]:
    """Each holds what a training of its point had come to, and was committed by an evaluation of it."""
    committed = {name for evaluation in evidence.tale.evaluations.values() for name in evaluation.committed}
    if not committed:
        yield "there is none"
    for name in evidence.states.keys() - committed:
        yield f"{name} is committed by the tables, and not by the log"
    for name, told in evidence.tale.evaluations.items():
        for checkpoint in told.committed:
            state = evidence.states.get(checkpoint)
            if state is not None and state.digest != digest_of(told.point, state.step):
                yield f"{checkpoint} of {name} for point {told.point}: {state}"


def _trainings_go_on_from_the_newest_checkpoint(evidence: Evidence) -> Iterator[str]:
    """No step is repeated that was in a checkpoint, and nothing is gone on from that was never committed."""
    for name, training in evidence.trainings.items():
        ways = list(_ways_to_begin(evidence, training))
        if training.began_with not in ways and None not in ways:
            yield f"{name} of point {training.point} began with {training.began_with} instead of {ways}"
        if training.began_with.digest != digest_of(training.point, training.began_with.step):
            yield f"{name} of point {training.point} began with {training.began_with}, which nobody trained"


def _ways_to_begin(evidence: Evidence, training: Training) -> Iterator[State | None]:
    """The newest checkpoint that is whole; None stands for one that nobody looked into before it was deleted."""
    for checkpoint in evidence.tale.evaluations[training.evaluation].offered:
        harmed_at = evidence.harmed_at(checkpoint, training.point)
        if harmed_at is None or harmed_at > training.starts[0] - _FETCHING:
            yield evidence.states.get(checkpoint)
        if harmed_at is None or harmed_at > training.starts[0]:
            return
    yield BEGINNING


def _nothing_is_stored_in_vain(evidence: Evidence) -> Iterator[str]:
    """Long after the end the store holds what the bookkeeping knows, and that is logs alone."""
    remains = evidence.outcome.remains
    for key in remains.known.keys() - remains.stored:
        yield f"{key} is known, and not there"
    for key in remains.stored - remains.known.keys():
        yield f"{key} is there, and not known"
    for key, kind in remains.known.items():
        if kind != "log":
            yield f"{key} is kept, and is a {kind}"
    for stray in remains.strays:
        yield f"{stray} was left behind"


def _spools_are_empty(evidence: Evidence) -> Iterator[str]:
    """Every last word was delivered in the end, and none was refused."""
    for berth in evidence.outcome.berths:
        for letter in berth.letters():
            yield f"{letter}: {json.loads(letter.read_text())}"


def _nobody_is_left(evidence: Evidence) -> Iterator[str]:
    """No payload, warden, agent or part of the service outlives the run."""
    deadline = time.monotonic() + _LEAVING
    while (left := processes_in(evidence.outcome.folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid, command in left.items():
        yield f"{pid}: {command}"


def _the_service_expected_it_all(evidence: Evidence) -> Iterator[str]:
    """Whatever happens is told in a line: a traceback is of something that nobody has thought of."""
    told = (
        (evidence.outcome.folder / "serve.log").read_text(errors="replace").split("Traceback (most recent call last)")
    )
    for before, after in pairwise(told):
        yield f"{before.splitlines()[-2:]}: {after[:3000]}"


def _the_database_is_sound(evidence: Evidence) -> Iterator[str]:
    """The database's own tools find nothing wrong with it."""
    yield from evidence.outcome.deployment.flaws()


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    _every_point_has_ended,
    _every_acknowledged_result_is_there,
    _every_result_is_right,
    _no_point_finished_twice,
    _the_log_explains_the_tables,
    _evaluations_are_trained_once,
    _only_the_lost_are_overtaken,
    _reports_are_complete,
    _checkpoints_are_of_their_points,
    _trainings_go_on_from_the_newest_checkpoint,
    _nothing_is_stored_in_vain,
    _spools_are_empty,
    _nobody_is_left,
    _the_service_expected_it_all,
    _the_database_is_sound,
)
