"""placeholder while the rest is built."""

from __future__ import annotations

from gridtune_steering.optimizers.optuna_samplers import OptunaTpe


class Auto(OptunaTpe):
    """For now."""
