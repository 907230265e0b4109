"""The campaign: one task's search, from events to actions."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from itertools import islice

from gridtune_common.protocol import Parameters
from gridtune_common.taskfile import Objective, StopRules
from gridtune_steering.campaign.events import (
    Action,
    Credit,
    Event,
    Failed,
    Finish,
    Known,
    Note,
    Origin,
    Result,
    StopRule,
    Suggest,
    Tick,
    Told,
    Wish,
)
from gridtune_steering.campaign.front import Front
from gridtune_steering.campaign.novelty import Novelty
from gridtune_steering.campaign.snapshot import Snapshot
from gridtune_steering.optimizers.port import Optimizer, Problem


class Campaign:
    """Optimizer, stop rules and history of one task.

    The owner hands in what happened, in order, and carries out what comes back. Points are made on credit: one for
    each worker that waits, after all results known by then were learnt. So one worker gets exactly sequential
    optimisation, and many workers batch themselves.

    Args:
        objectives: What to optimise; the first one decides the target.
        stop: The task's stop rules.
        problem: Every suggestion is checked against its space and constraints.
        optimizer: Fresh, for the same problem; the campaign owns it from now on.
        initial_points: The first points, before the optimizer proposes any; it learns from them all the same.
    """

    def __init__(
        self,
        *,
        objectives: tuple[Objective, ...],
        stop: StopRules,
        problem: Problem,
        optimizer: Optimizer,
        initial_points: Sequence[Parameters] = (),
    ) -> None:
        self._objectives = objectives
        self._stop = stop
        self._space = problem.space
        self._novelty = Novelty(problem.space, problem.constraints)
        self._seed = problem.seed
        self._optimizer = optimizer
        self._initial_points = initial_points
        self._wishes: dict[str, Wish] = {}
        self._rationale = ""
        self._n_made_before = self._n_learnt_before = 0  # what a snapshot of the optimizer has seen
        self._open: set[int] = set()
        self._next_number = 0
        self._n_observed = 0
        self._best: float | None = None
        self._front = Front()
        self._n_since_best = 0
        self._has_finished = False

    @property
    def next_number(self) -> int:
        """The number that the next point will have, which is how many there are."""
        return self._next_number

    @property
    def wall_time_seconds(self) -> float | None:
        """For how long the task may run; None if that is not limited."""
        return self._stop.wall_time_seconds

    @property
    def n_observed(self) -> int:
        """How many results were learnt."""
        return self._n_observed

    def restore(self, points: Iterable[Suggest], results: Iterable[Result], snapshot: Snapshot | None = None) -> None:
        """Take up a history: all points by number, and the results in the order in which they were learnt.

        Both are replayed as they came, so that the optimizer sees the calls that the first one saw, and proposes
        what that one would have. With a snapshot the optimizer has seen the beginning already.
        """
        if snapshot is not None:
            self._optimizer = snapshot.optimizer()
            self._n_made_before, self._n_learnt_before = snapshot.n_points, snapshot.n_observed
        remaining = iter(results)
        for point in points:
            for result in islice(remaining, point.informed_by - self._n_observed):
                self._learn(result)
            is_missed = point.number >= self._n_made_before
            if is_missed and self._optimizer.asking_matters and point.origin is Origin.ALGORITHM:
                self._propose_new()
            self._pend(point.number, point.parameters)
        for result in remaining:
            self._learn(result)
        if self._next_number:
            self._rationale = self._optimizer.rationale

    def snapshot(self) -> Snapshot | None:
        """The optimizer's state, if a rebuild without it would take long; None if not, or if it cannot be kept."""
        if not self._optimizer.asking_matters:
            return None
        return Snapshot.take(self._optimizer, n_points=self._next_number, n_observed=self._n_observed)

    def handle(self, event: Event) -> list[Action]:
        """Take in one event and say what is to be done about it."""
        if isinstance(event, Wish):
            self._wishes.setdefault(event.name, event)  # one that waits already keeps its place
            return []
        if isinstance(event, (Told, Failed, Known)):
            self._learn(event)
            return self._once(self._verdict())
        if isinstance(event, Tick):
            return self._once(self._out_of_time(event.elapsed))
        return self._serve(event)

    def _serve(self, credit: Credit) -> list[Action]:
        if self._has_finished:
            return []
        actions: list[Action] = []
        for _ in range(self._affordable(credit.workers)):
            suggestion = self._next_point()
            if suggestion is None:
                return actions + self._once(self._verdict())
            actions += self._reasons()
            self._pend(suggestion.number, suggestion.parameters)
            actions.append(suggestion)
        return actions

    def _next_point(self) -> Suggest | None:
        """The next point, whoever proposes it; None if there is none left in the space."""
        number, known = self._next_number, self._n_observed
        if number < len(self._initial_points):
            return Suggest(number, self._initial_points[number], known, Origin.INITIAL)
        if self._wishes:
            wish = self._wishes.pop(next(iter(self._wishes)))
            return Suggest(number, wish.parameters, known, Origin.USER, wish.name)
        parameters = self._propose_new()
        return None if parameters is None else Suggest(number, parameters, known)

    def _propose_new(self) -> Parameters | None:
        return self._novelty.find(self._propose, random.Random(self._seed_of(self._next_number)))  # noqa: S311 - no secret

    def _propose(self, attempt: int) -> Parameters:
        """What the optimizer wants as the next point; other attempts have other seeds."""
        parameters = self._optimizer.suggest(self._next_number, self._seed_of(self._next_number, attempt))
        if complaint := self._space.explain(parameters):
            raise ValueError(f"it proposed a point outside of the space: {complaint}")
        return parameters

    def _reasons(self) -> list[Action]:
        """What the optimizer has to say of its choices, if it has changed."""
        if self._rationale == self._optimizer.rationale:
            return []
        self._rationale = self._optimizer.rationale
        return [Note(self._rationale)]

    def _affordable(self, wanted: int) -> int:
        return wanted if self._stop.points is None else min(wanted, self._stop.points - self._next_number)

    def _pend(self, number: int, parameters: Parameters) -> None:
        if number != self._next_number:
            raise ValueError(f"point {number} cannot follow point {self._next_number - 1}")
        if number >= self._n_made_before:
            self._optimizer.pend(number, parameters)
        self._novelty.add(parameters)
        self._open.add(number)
        self._next_number += 1

    def _learn(self, result: Result) -> None:
        values = None if isinstance(result, Failed) else self._values(result)
        losses = None if values is None else self._losses(values)
        if self._n_observed >= self._n_learnt_before:
            if isinstance(result, Known):
                self._optimizer.pend(result.number, result.parameters)
            self._optimizer.observe(result.number, losses)
        self._n_observed += 1
        if isinstance(result, Known):
            self._novelty.add(result.parameters)
            return
        self._open.remove(result.number)
        if values is None or losses is None:
            self._n_since_best += 1
            return
        if self._best is None or self._objectives[0].better(values[0], self._best):
            self._best = values[0]
        self._n_since_best = 0 if self._front.add(tuple(losses)) else self._n_since_best + 1

    def _values(self, result: Told | Known) -> list[float]:
        values = [result.metrics.get(objective.metric) for objective in self._objectives]
        for objective, value in zip(self._objectives, values, strict=True):
            if value is None:
                raise ValueError(f"point {result.number} was told without {objective.metric}")
        return [value for value in values if value is not None]

    def _losses(self, values: Sequence[float]) -> list[float]:
        """The objectives' values, turned so that smaller is better."""
        pairs = zip(self._objectives, values, strict=True)
        return [value if objective.goal == "minimize" else -value for objective, value in pairs]

    def _verdict(self) -> Finish | None:
        objective, stop = self._objectives[0], self._stop
        if stop.target is not None and self._best is not None and not objective.better(stop.target, self._best):
            return Finish(StopRule.TARGET, f"target reached: {objective.metric} is {self._best:g}")
        if stop.patience is not None and self._n_since_best >= stop.patience:
            missed = f"no better {objective.metric}" if len(self._objectives) == 1 else "no new point on the front"
            return Finish(StopRule.PATIENCE, f"patience: {missed} in {self._n_since_best} points")
        if stop.points is not None and self._next_number >= stop.points and not self._open:
            return Finish(StopRule.POINTS, f"all {stop.points} points have ended")
        if self._novelty.is_exhausted and not self._open and not self._wishes:
            return Finish(StopRule.SPACE, self._novelty.exhaustion)
        return None

    def _out_of_time(self, elapsed: float) -> Finish | None:
        limit = self._stop.wall_time_seconds
        if limit is None or elapsed < limit:
            return None
        return Finish(StopRule.WALL_TIME, f"wall time of {limit:g} s is over")

    def _once(self, finish: Finish | None) -> list[Action]:
        if finish is None or self._has_finished:
            return []
        self._has_finished = True
        return [finish]

    def _seed_of(self, number: int, attempt: int = 0) -> int:
        """32 bits for one point, so that a point's randomness does not depend on which host makes it, or when."""
        digest = hashlib.blake2b(f"{self._seed}/{number}/{attempt}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big")
