"""The same space in Optuna's words, defined by run as its documentation has it."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

_DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "x": FloatDistribution(-5.0, 5.0),
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "drop": FloatDistribution(0.0, 0.5, step=0.05),
    "width": IntDistribution(16, 512, log=True),
    "layers": IntDistribution(1, 6),
    "kind": CategoricalDistribution(["adam", "sgd"]),
    "batch": CategoricalDistribution([16, 32, 64]),
    "momentum": FloatDistribution(0.5, 0.99),
}


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """All active parameters of a trial."""
    point: dict[str, Any] = {
        "x": trial.suggest_float("x", -5.0, 5.0),
        "rate": trial.suggest_float("rate", 1e-5, 1e-1, log=True),
        "drop": trial.suggest_float("drop", 0.0, 0.5, step=0.05),
        "width": trial.suggest_int("width", 16, 512, log=True),
        "layers": trial.suggest_int("layers", 1, 6),
        "kind": trial.suggest_categorical("kind", ["adam", "sgd"]),
        "batch": trial.suggest_categorical("batch", [16, 32, 64]),
    }
    if point["kind"] == "sgd":
        point["momentum"] = trial.suggest_float("momentum", 0.5, 0.99)
    return point


def finished_trial(parameters: dict[str, Any], loss: float) -> optuna.trial.FrozenTrial:
    """A trial that was told some time ago."""
    distributions = {name: _DISTRIBUTIONS[name] for name in parameters}
    return optuna.trial.create_trial(params=parameters, distributions=distributions, value=loss)
