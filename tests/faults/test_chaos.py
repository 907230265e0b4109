"""Whatever is killed, frozen, cut off, locked or filled: no result is lost, and none counts twice."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from faults.by_hand import summary
from faults.chaos import S3_EVERY, run
from faults.invariants import violations
from faults.kinds import EMBEDDED_FAULTS, LARGE_FAULTS
from servers.ceph import is_installed

SEEDS = range(1, 21)
LARGE_SEEDS = range(101, 106)
FAULTS_OF_A_RUN = 26


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*SEEDS, *LARGE_SEEDS])
def test_a_task_survives(tmp_path: Path, request: pytest.FixtureRequest, seed: int) -> None:
    """Every fault of the seed is done to it, and all that was promised holds, on one machine and on PostgreSQL."""
    uses_s3 = seed % S3_EVERY == 0 and (is_installed() or "CI" in os.environ)
    ceph = request.getfixturevalue("ceph") if uses_s3 else None
    postgres = request.getfixturevalue("postgres") if seed in LARGE_SEEDS else None

    outcome = run(tmp_path, seed=seed, n_faults=FAULTS_OF_A_RUN, postgres=postgres, ceph=ceph)

    found = violations(outcome)
    again = f"python -m tests.faults --seed {seed} --faults {FAULTS_OF_A_RUN}{' --large' if postgres else ''}"
    assert not found, "\n".join([f"to see it again: {again}", *found])
    assert outcome.faults.n_faults == FAULTS_OF_A_RUN
    sys.stdout.write(summary(outcome))


def test_there_are_faults_enough() -> None:
    """Five hundred in all on one machine and a hundred on many, of kinds enough."""
    assert len(SEEDS) * FAULTS_OF_A_RUN >= 500
    assert len(LARGE_SEEDS) * FAULTS_OF_A_RUN >= 100
    assert min(len(EMBEDDED_FAULTS), len(LARGE_FAULTS)) >= 25
