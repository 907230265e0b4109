"""An optimizer's state, kept so that a rebuild need not ask for every point again. Never the truth: history is."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

from gridtune_steering.optimizers.port import Optimizer

#: Raised when what is kept, or how, changes: older snapshots are then passed over.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an optimizer was after *n_points* points had been made and *n_observed* results learnt."""

    n_points: int
    n_observed: int
    state: bytes

    @classmethod
    def take(cls, optimizer: Optimizer, *, n_points: int, n_observed: int) -> Snapshot | None:
        """Keep an optimizer; None for one that holds what cannot be kept, such as a thread."""
        import cloudpickle  # libraries' objects hold functions, which pickle by itself does not take

        try:
            return cls(n_points, n_observed, cloudpickle.dumps(optimizer))
        except (TypeError, pickle.PicklingError):
            return None

    def optimizer(self) -> Optimizer:
        """The optimizer, as it was."""
        optimizer: Optimizer = pickle.loads(self.state)  # noqa: S301 - out of the service's own database
        return optimizer
