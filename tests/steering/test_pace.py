"""Workers with too little time left are turned away, by what the task's own history says."""

from __future__ import annotations

import hashlib

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import BeginUpload, CommitUpload, Lease, ObjectKind, Report, Reports
from gridtune_steering.services import leases, storage
from gridtune_steering.services.errors import TooLittleTime
from gridtune_steering.testing import MemoryStore
from service_bench import OPERATOR, Bench

pytestmark = pytest.mark.usefixtures("store")


def train(bench: Bench, lease: Lease, *, startup: float, step: float, steps: int, checkpoint: bool = False) -> None:
    """Let an evaluation start, and report after each step."""
    bench.clock.advance(startup)
    for number in range(1, steps + 1):
        bench.clock.advance(step)
        reports = Reports(lease.epoch, [Report(number, {"loss": 1.0})])
        leases.report(bench.steering, OPERATOR, lease.evaluation, reports)
    if checkpoint:
        digest = hashlib.sha256(b"x").hexdigest()
        message = BeginUpload(new_request_id(), lease.epoch, ObjectKind.CHECKPOINT, 1, digest, "tar")
        upload = storage.begin(bench.steering, OPERATOR, lease.evaluation, message)
        assert isinstance(bench.steering.store, MemoryStore)
        bench.steering.store.put(upload.urls[0], b"x")
        storage.commit(bench.steering, OPERATOR, lease.evaluation, upload.id, CommitUpload(new_request_id(), 1))


def test_nobody_is_turned_away_while_nothing_is_known(bench: Bench) -> None:
    """The first ones find out."""
    task = bench.submit()
    bench.work()

    assert bench.ask(task, remaining_seconds=0.5) is None


def test_without_checkpoints_the_whole_training_has_to_fit(bench: Bench) -> None:
    """A stretch that does not reach the end would be for nothing."""
    task = bench.submit()
    lease = bench.lease(task)
    train(bench, lease, startup=5, step=10, steps=4)
    bench.tell(lease)

    with pytest.raises(TooLittleTime, match="about 45s to get anywhere; 30s are left"):
        bench.ask(task, remaining_seconds=30.0)

    assert bench.lease(task) is not None
    bench.ask(task, "other", remaining_seconds=60.0)


def test_with_checkpoints_the_first_step_has_to_fit(bench: Bench) -> None:
    """Also before any training has come to its end."""
    task = bench.submit()
    train(bench, bench.lease(task), startup=5, step=10, steps=2, checkpoint=True)

    with pytest.raises(TooLittleTime, match="about 15s"):
        bench.ask(task, "other", remaining_seconds=12.0)

    bench.ask(task, "other", remaining_seconds=16.0)
