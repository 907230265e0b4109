"""What a simulated experiment is to be."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The numbers of an experiment. Durations are in seconds of the simulation.

    Attributes:
        tasks: So many run at a time: when one has ended, another is submitted.
        slots: Workers of one agent, which evaluate points of one task.
        hours: How long all of it lasts.
        training: What a training takes in the mean; the times are lognormal.
        points: How many points a task has, in the mean.
        reports: What a training reports in the mean, along with signs of life.
        failing: The share of trainings that fail.
        vanishing: The share of agents that vanish without a word at some time.
        cancelled: The share of tasks that their users cancel.
        herd: The share of workers that come within one minute, after a quarter of the time.
        http: What a request costs a web process beyond the service's own functions.
    """

    tasks: int = 40
    workers: int = 200
    slots: int = 4
    hours: float = 0.5
    hosts: int = 2
    web: int = 2
    sites: int = 10
    lease: float = 60.0
    training: float = 600.0
    points: int = 20
    reports: float = 4.0
    failing: float = 0.02
    vanishing: float = 0.05
    cancelled: float = 0.05
    herd: float = 0.4
    http: float = 0.0006
    algorithms: tuple[str, ...] = ("random", "hyperopt/tpe", "optuna/tpe", "nevergrad/OnePlusOne", "auto")
    seed: int = 1

    @property
    def seconds(self) -> float:
        """How long all of it lasts."""
        return 3600 * self.hours

    @property
    def agents(self) -> int:
        """How many agents there are at a time."""
        return math.ceil(self.workers / self.slots)

    def training_seconds(self, rng: random.Random) -> float:
        """How long one training takes."""
        spread = 0.8
        return rng.lognormvariate(math.log(self.training) - spread**2 / 2, spread)

    def n_points(self, rng: random.Random) -> int:
        """How many points one task has."""
        return max(3, round(rng.lognormvariate(math.log(self.points) - 0.125, 0.5)))
