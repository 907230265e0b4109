"""The campaign: one task's search, from events to actions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gridtune_common.protocol import Parameters
from gridtune_common.taskfile import Objective, StopRules
from gridtune_steering.campaign.events import Action, Credit, Event, Failed, Finish, Suggest, Tick, Told
from gridtune_steering.optimizers.port import Optimizer


class Campaign:
    """Optimizer, stop rules and history of one task.

    The owner hands in what happened, in order, and carries out what comes back. Points are made on credit: one for
    each worker that waits, after all results known by then were learnt. So one worker gets exactly sequential
    optimisation, and many workers batch themselves.

    Args:
        objectives: What to optimise; the first one decides target, patience and best.
        stop: The task's stop rules; its budget may be raised later by `extend`.
        seed: The task's seed.
        optimizer: Fresh; the campaign owns it from now on.
    """

    def __init__(self, *, objectives: tuple[Objective, ...], stop: StopRules, seed: int, optimizer: Optimizer) -> None:
        self._objectives = objectives
        self._stop = stop
        self._budget = stop.points
        self._seed = seed
        self._optimizer = optimizer
        self._open: set[int] = set()
        self._next_number = 0
        self._n_observed = 0
        self._best: float | None = None
        self._n_since_best = 0
        self._finished: str | None = None

    @property
    def next_number(self) -> int:
        """The number that the next point will have, which is how many there are."""
        return self._next_number

    @property
    def n_observed(self) -> int:
        """How many results were learnt."""
        return self._n_observed

    def extend(self, budget: int | None) -> None:
        """Set the budget of points; None for no limit. A campaign that ended by its budget goes on."""
        if budget != self._budget:
            self._budget = budget
            self._finished = None

    def restore(self, points: Iterable[tuple[int, Parameters]], results: Iterable[Told | Failed]) -> None:
        """Take up a history: all points by number, and the results in the order in which they were learnt.

        Afterwards the campaign proposes what the one that made this history would have.
        """
        for number, parameters in points:
            self._pend(number, parameters)
        for result in results:
            self._learn(result)

    def handle(self, event: Event) -> list[Action]:
        """Take in one event and say what is to be done about it."""
        if isinstance(event, (Told, Failed)):
            self._learn(event)
            return self._finish_if(self._reason_to_stop())
        if isinstance(event, Tick):
            return self._finish_if(self._out_of_time(event.elapsed))
        return self._serve(event)

    def _serve(self, credit: Credit) -> list[Action]:
        if self._finished is not None:
            return []
        actions: list[Action] = []
        for _ in range(self._affordable(credit.workers)):
            number = self._next_number
            parameters = self._optimizer.suggest(number, self._seed_of(number))
            self._pend(number, parameters)
            actions.append(Suggest(number, parameters, self._n_observed))
        return actions

    def _affordable(self, wanted: int) -> int:
        return wanted if self._budget is None else min(wanted, self._budget - self._next_number)

    def _pend(self, number: int, parameters: Parameters) -> None:
        if number != self._next_number:
            raise ValueError(f"point {number} cannot follow point {self._next_number - 1}")
        self._optimizer.pend(number, parameters)
        self._open.add(number)
        self._next_number += 1

    def _learn(self, result: Told | Failed) -> None:
        self._open.remove(result.number)
        self._n_observed += 1
        if isinstance(result, Failed):
            self._optimizer.observe(result.number, None)
            self._n_since_best += 1
            return
        values = [_finite(result, objective.metric) for objective in self._objectives]
        signs = [1.0 if objective.goal == "minimize" else -1.0 for objective in self._objectives]
        self._optimizer.observe(result.number, [sign * value for sign, value in zip(signs, values, strict=True)])
        if self._best is None or self._objectives[0].better(values[0], self._best):
            self._best = values[0]
            self._n_since_best = 0
        else:
            self._n_since_best += 1

    def _reason_to_stop(self) -> str | None:
        objective = self._objectives[0]
        target, patience = self._stop.target, self._stop.patience
        if target is not None and self._best is not None and not objective.better(target, self._best):
            return f"target reached: {objective.metric} is {self._best:g}"
        if patience is not None and self._n_since_best >= patience:
            return f"patience: no better {objective.metric} in {self._n_since_best} points"
        if self._budget is not None and self._next_number >= self._budget and not self._open:
            return f"all {self._budget} points have ended"
        return None

    def _out_of_time(self, elapsed: float) -> str | None:
        limit = self._stop.wall_time_seconds
        return f"wall time of {limit:g} s is over" if limit is not None and elapsed >= limit else None

    def _finish_if(self, reason: str | None) -> list[Action]:
        if reason is None or self._finished is not None:
            return []
        self._finished = reason
        return [Finish(reason)]

    def _seed_of(self, number: int) -> int:
        """32 bits for one point, so that a point's randomness does not depend on which host makes it, or when."""
        digest = hashlib.blake2b(f"{self._seed}/{number}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big")


def _finite(result: Told, metric: str) -> float:
    value = result.metrics.get(metric)
    if value is None:
        raise ValueError(f"point {result.number} was told without {metric}")
    return value
