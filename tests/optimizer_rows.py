"""The rows of the optimizer table as test parameters."""

from __future__ import annotations

from typing import Any

import pytest

from gridtune_common.errors import MissingExtra
from gridtune_steering import optimizers

#: Some names for a row that stands for a whole registry: one of each family of methods.
NAMES = {"nevergrad/*": ["NGOpt", "CMA", "TwoPointsDE", "PSO", "OnePlusOne", "TBPSA", "PortfolioDiscreteOnePlusOne"]}
#: Options that make a library think less: the treaty does not depend on them.
QUICK: dict[str, dict[str, Any]] = {
    "skopt/gp": {"n_points": 100},
    "skopt/rf": {"n_points": 100},
    "skopt/et": {"n_points": 100},
    "skopt/gbrt": {"n_points": 100},
}
#: What takes longer all the same.
_LONG = {"skopt/gp", "skopt/rf", "skopt/et", "skopt/gbrt", "optuna/gp"}


def rows() -> list[Any]:
    """All names, with marks for those that take long and those whose library is not installed here."""
    return [pytest.param(name, marks=_marks(name)) for name in names()]


def names() -> list[str]:
    """All names, registries by some of theirs."""
    return [
        f"{row.removesuffix('*')}{name}" if name else row
        for row in optimizers.OPTIMIZERS
        for name in NAMES.get(row, [""])
    ]


def _marks(name: str) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.slow] if name in _LONG else []
    try:
        optimizers.load(name)
    except MissingExtra as missing:
        marks.append(pytest.mark.skip(reason=str(missing)))
    return marks


every_optimizer = pytest.mark.parametrize("name", rows())
