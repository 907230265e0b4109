"""A worker of OSS Vizier's service. Runs in an environment of its own (see `vizier`)."""

from __future__ import annotations

from typing import Any

from vizier.service import clients, pyvizier

from .objective import loss_of
from .seats import Notes


class VizierSeat:
    """Suggests and completes.

    Args:
        options: The service's ``endpoint``, and the ``study``.
        index: Which of the workers this is.
    """

    def __init__(self, options: dict[str, Any], index: int) -> None:
        clients.environment_variables.server_endpoint = options["endpoint"]
        self._study = clients.Study.from_resource_name(options["study"])
        self._worker = f"w{index}"

    def pair(self, notes: Notes) -> None:
        """One trial."""
        [trial] = notes.timed("ask", lambda: self._study.suggest(count=1, client_id=self._worker))
        loss = loss_of({"kind": "adam", **trial.parameters})
        notes.timed("tell", lambda: trial.complete(pyvizier.Measurement({"loss": loss})))

    def close(self) -> None:
        """Nothing is open."""
