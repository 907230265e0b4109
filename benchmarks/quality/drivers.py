"""Who proposes points: an optimizer of the table behind a campaign, or a library alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_common.taskfile import Objective, StopRules
from gridtune_steering import optimizers
from gridtune_steering.campaign.campaign import Campaign
from gridtune_steering.campaign.events import Credit, Suggest, Told
from gridtune_steering.optimizers.port import Problem

OURS, ALONE = "ours", "alone"


class Driver(Protocol):
    """Proposes points and learns their losses."""

    def ask(self) -> tuple[Any, Parameters] | None:
        """A point to evaluate, with a token for its result; None if there is none at the moment."""

    def tell(self, token: Any, loss: float) -> None:
        """The loss of the point that came with this token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One of those that are compared.

    Attributes:
        algorithm: Its name in the table of optimizers.
        driver: `OURS` or `ALONE`.
        options: The algorithm's options.
        factor: How many times the budget of the others it gets.
    """

    algorithm: str
    driver: str = OURS
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    factor: int = 1

    @classmethod
    def parse(cls, text: str, driver: str = OURS) -> Contender:
        """Read a name, its options and its share of the budget: ``skopt/rf:n_points=500,acq_func=PI``, ``random*4``."""
        name, _, options = text.partition(":")
        algorithm, _, factor = name.partition("*")
        pairs = [option.partition("=") for option in options.split(",") if option]
        values = {key: _value(value) for key, _, value in pairs}
        return cls(algorithm=algorithm, driver=driver, options=values, factor=int(factor or 1))

    @property
    def label(self) -> str:
        """How tables call it; `parse` reads it, less the last word of those that are alone."""
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        text = self.algorithm + (f"*{self.factor}" if self.factor > 1 else "") + (f":{options}" if options else "")
        return f"{text} {ALONE}" if self.driver == ALONE else text


class Ours:
    """An optimizer of the table, driven as a host does: one point a waiting worker, results as they come."""

    def __init__(self, contender: Contender, space: SearchSpace, budget: int, seed: int) -> None:
        problem = Problem(space=space, budget=budget, seed=seed)
        self._campaign = Campaign(
            objectives=(Objective("loss"),),
            stop=StopRules(points=budget),
            problem=problem,
            optimizer=optimizers.create(contender.algorithm, problem, contender.options),
        )

    def ask(self) -> tuple[int, Parameters] | None:
        """Give the campaign credit for one worker."""
        points = [action for action in self._campaign.handle(Credit(1)) if isinstance(action, Suggest)]
        return (points[0].number, points[0].parameters) if points else None

    def tell(self, token: int, loss: float) -> None:
        """Tell the campaign."""
        self._campaign.handle(Told(token, {"loss": loss}))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
