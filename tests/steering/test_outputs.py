"""Watching what a running evaluation prints."""

from __future__ import annotations

import pytest

from gridtune_common.protocol import Advice, EvaluationState, Heartbeat, Output
from gridtune_steering.services import leases, outputs
from gridtune_steering.services.errors import NotFound
from service_bench import OPERATOR, Bench


def test_a_look_asks_for_the_output(bench: Bench) -> None:
    """The next heartbeat is answered so, for a while after the last look."""
    task = bench.submit()
    lease = bench.lease(task)
    beat = Heartbeat(lease.epoch)
    assert not leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, beat).watched

    outputs.look(bench.steering, OPERATOR, task, 0)

    assert leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, beat).watched
    bench.clock.advance(40)
    assert not leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, beat).watched


def test_what_is_sent_is_seen(bench: Bench) -> None:
    """Piece by piece; what comes twice counts once."""
    task = bench.submit()
    lease = bench.lease(task)
    outputs.look(bench.steering, OPERATOR, task, 0)
    first, second = Output(1, 0, 6, "epoch\n"), Output(1, 6, 9, "1é")

    for message in (first, second, first, second):
        verdict = outputs.send(bench.steering, OPERATOR, lease.evaluation, message)

    seen = outputs.look(bench.steering, OPERATOR, task, 0)
    assert (verdict.advice, verdict.watched) == (Advice.CONTINUE, True)
    assert (seen.state, seen.start, seen.end, seen.text) == (EvaluationState.RUNNING, 0, 9, "epoch\n1é")


def test_only_the_end_is_kept(bench: Bench) -> None:
    """And its place in the whole is told."""
    task = bench.submit()
    lease = bench.lease(task)
    size = 100 * 2**10

    outputs.send(bench.steering, OPERATOR, lease.evaluation, Output(1, 0, size, "x" * size))
    outputs.send(bench.steering, OPERATOR, lease.evaluation, Output(1, size, size + 1, "y"))

    seen = outputs.look(bench.steering, OPERATOR, task, 0)
    assert (seen.end, len(seen.text), seen.start) == (size + 1, 64 * 2**10, size + 1 - 64 * 2**10)


def test_after_the_end_there_is_nothing_live(bench: Bench) -> None:
    """The state says so; the log is elsewhere. An evaluation that has ended is told to stop."""
    task = bench.submit()
    lease = bench.lease(task)
    outputs.look(bench.steering, OPERATOR, task, 0)
    outputs.send(bench.steering, OPERATOR, lease.evaluation, Output(1, 0, 1, "x"))
    bench.tell(lease)

    verdict = outputs.send(bench.steering, OPERATOR, lease.evaluation, Output(1, 1, 2, "y"))

    seen = outputs.look(bench.steering, OPERATOR, task, 0)
    assert (seen.state, seen.text) == (EvaluationState.DONE, "")
    assert verdict.advice is Advice.STOP
    with pytest.raises(NotFound):
        outputs.look(bench.steering, OPERATOR, task, 99)
