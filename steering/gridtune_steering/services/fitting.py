"""Whether points that come from outside are points of a task."""

from __future__ import annotations

import json

from gridtune_common.errors import InvalidDocument
from gridtune_common.foreign import settle
from gridtune_common.protocol import Parameters, Value
from gridtune_common.taskfile import Task
from gridtune_steering.optimizers.constraints import Constraints


class Fitting:
    """What a task asks of its points.

    Args:
        spec: The task.
    """

    def __init__(self, spec: Task) -> None:
        self.space = spec.space
        self._constraints = Constraints(spec.constraints)

    def settle(self, parameters: Parameters) -> Parameters:
        """The point in the space's own form."""
        return settle(self.space, parameters)

    def complaint(self, parameters: Parameters) -> str:
        """What is wrong with a settled point, and how to mend it; empty if nothing is."""
        return self.space.explain(parameters) or self.broken(parameters)

    def broken(self, parameters: Parameters) -> str:
        """Which constraint a point of the space breaks, in words; empty if none."""
        try:
            constraint = self._constraints.broken_by(parameters)
        except InvalidDocument as error:
            return str(error)
        return f"breaks the constraint {constraint}" if constraint else ""

    @staticmethod
    def key(parameters: Parameters) -> str:
        """The same for the same point, however its numbers are written: no choice is told from another by that."""
        return json.dumps({name: _plain(value) for name, value in parameters.items()}, sort_keys=True)


def _plain(value: Value) -> Value:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
