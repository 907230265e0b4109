"""Whatever is killed, frozen, cut off, locked or filled: no result is lost, and none counts twice."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from faults.by_hand import summary
from faults.chaos import FAULTS, S3_EVERY, run
from faults.invariants import violations
from servers.ceph import is_installed

SEEDS = range(1, 21)
FAULTS_OF_A_RUN = 26


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_task_survives(tmp_path: Path, request: pytest.FixtureRequest, seed: int) -> None:
    """Every fault of the seed is done to it, and all that was promised holds."""
    uses_s3 = seed % S3_EVERY == 0 and (is_installed() or "CI" in os.environ)
    ceph = request.getfixturevalue("ceph") if uses_s3 else None

    outcome = run(tmp_path, seed=seed, n_faults=FAULTS_OF_A_RUN, ceph=ceph)

    found = violations(outcome)
    again = f"python -m tests.faults --seed {seed} --faults {FAULTS_OF_A_RUN}"
    assert not found, "\n".join([f"to see it again: {again}", *found])
    assert outcome.faults.n_faults == FAULTS_OF_A_RUN
    sys.stdout.write(summary(outcome))


def test_there_are_faults_enough() -> None:
    """Five hundred in all, of kinds enough."""
    assert len(SEEDS) * FAULTS_OF_A_RUN >= 500
    assert len(FAULTS) >= 25
