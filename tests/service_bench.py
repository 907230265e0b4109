"""A workbench for tests of the service: short words for long messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    AddedPoints,
    AddPoints,
    Ask,
    Fail,
    FailureCause,
    ImportedResults,
    ImportResults,
    KnownResult,
    Lease,
    Outcome,
    OwnPoint,
    Parameters,
    Release,
    ReleaseCause,
    Scope,
    SubmitTask,
    Tell,
)
from gridtune_steering.host.host import Host
from gridtune_steering.services import asking, housekeeping, imports, results, submission, wishes
from gridtune_steering.services.access import Caller
from gridtune_steering.services.steering import Steering
from gridtune_steering.testing import ManualClock

#: For tests of what has nothing to do with the kind of database.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"])

OPERATOR = Caller(user="operator", scope=Scope.OPERATOR, token="t0")


def document(
    *, points: int = 10, algorithm: str = "random", seed: int = 7, options: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A small task document with every kind of parameter."""
    return {
        "name": "bench",
        "space": {
            "x": {"type": "float", "low": -5.0, "high": 5.0},
            "rate": {"type": "float", "low": 1e-5, "high": 1e-1, "scale": "log"},
            "drop": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.05},
            "width": {"type": "int", "low": 16, "high": 512, "scale": "log"},
            "layers": {"type": "int", "low": 1, "high": 6},
            "kind": ["adam", "sgd"],
            "batch": {"type": "ordinal", "choices": [16, 32, 64]},
            "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"kind": "sgd"}},
        },
        "objective": {"metric": "loss", "goal": "minimize"},
        "algorithm": {"name": algorithm, "seed": seed, "options": options or {}},
        "stop": {"points": points},
        **more,
    }


def loss_of(parameters: dict[str, Any]) -> float:
    """What the tests' training would find: a bowl with a better and a worse kind."""
    return float((parameters["x"] - 1) ** 2 + parameters["layers"] / 10 + (parameters["kind"] == "sgd"))


@dataclass
class Bench:
    """A service without processes; the host's work is done when `work` is called."""

    steering: Steering
    clock: ManualClock
    host: Host | None = field(default=None)

    def submit(self, **more: Any) -> str:
        """Submit a task; returns its id."""
        message = SubmitTask(new_request_id(), document(**more))
        return submission.submit(self.steering, OPERATOR, message).summary.id

    def new_host(self, name: str = "h1") -> None:
        """Forget the host in memory, as a crash would, and start another of this name."""
        self.host = Host(self.steering, name)

    def work(self, *, reachable: bool = True) -> None:
        """Let the host look around once, with web processes there or not."""
        if self.host is None:
            self.new_host()
        assert self.host is not None
        if reachable:
            housekeeping.note_presence(self.steering)
        self.host.look_around()

    def ask(self, task: str, worker: str = "w", **more: Any) -> Lease | None:
        """Ask once, without waiting."""
        return asking.ask(self.steering, OPERATOR, task, Ask(new_request_id(), worker, **more))

    def lease(self, task: str, worker: str = "w", **more: Any) -> Lease:
        """Ask until the host has made a point."""
        lease = self.ask(task, worker, **more)
        if lease is None:
            self.work()
            lease = self.ask(task, worker, **more)
        assert lease is not None
        return lease

    def tell(self, lease: Lease, loss: float | None = None, **more: Any) -> Outcome:
        """Deliver a loss, by default the one that belongs to the point."""
        value = loss_of(lease.parameters) if loss is None else loss
        message = Tell(new_request_id(), lease.epoch, {"loss": value}, **more)
        return results.tell(self.steering, OPERATOR, lease.evaluation, message)

    def wish(self, task: str, *wanted: Parameters) -> AddedPoints:
        """Queue points of the user's own."""
        message = AddPoints(new_request_id(), [OwnPoint(parameters) for parameters in wanted])
        return wishes.add(self.steering, OPERATOR, task, message)

    def bring(self, task: str, *found: Parameters, source: str = "") -> ImportedResults:
        """Import results from elsewhere, each with the loss that belongs to its point."""
        known = [KnownResult(parameters, {"loss": loss_of(parameters)}) for parameters in found]
        return imports.take(self.steering, OPERATOR, task, ImportResults(new_request_id(), known, source))

    def fail(
        self, lease: Lease, cause: FailureCause = FailureCause.EXIT_CODE, text: str = "exit code 1", **more: Any
    ) -> Outcome:
        """Fail, with an exit code if nothing else is said."""
        message = Fail(new_request_id(), lease.epoch, cause, text, 1, **more)
        return results.fail(self.steering, OPERATOR, lease.evaluation, message)

    def release(self, lease: Lease, **more: Any) -> Outcome:
        """Give the point back."""
        message = Release(new_request_id(), lease.epoch, ReleaseCause.WALLTIME, **more)
        return results.release(self.steering, OPERATOR, lease.evaluation, message)
