"""Whatever is killed, frozen, cut off, locked or filled: no result is lost, and none counts twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.chaos import FAULTS, run
from faults.invariants import violations

SEEDS = range(1, 21)
FAULTS_OF_A_RUN = 26


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_task_survives(tmp_path: Path, seed: int) -> None:
    """Every fault of the seed is done to it, and all that was promised holds."""
    outcome = run(tmp_path, seed=seed, n_faults=FAULTS_OF_A_RUN)

    found = violations(outcome)
    again = f"python -m tests.faults --seed {seed} --faults {FAULTS_OF_A_RUN}"
    assert not found, "\n".join([f"to see it again: {again}", *found])
    assert outcome.faults.n_faults == FAULTS_OF_A_RUN


def test_there_are_faults_enough() -> None:
    """Five hundred in all, of kinds enough."""
    assert len(SEEDS) * FAULTS_OF_A_RUN >= 500
    assert len(FAULTS) >= 20
