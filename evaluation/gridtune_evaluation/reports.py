"""Following ``reports.jsonl`` while the payload appends to it.

Each line is an object: ``{"step": 3, "val_loss": 0.21}``. A line without a step counts on from the highest one
so far (the first is 1). Numbers are metrics, NaN and Infinity among them as null; anything else in a line is
ignored.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from typing import Any, Final

from gridtune_common.protocol import Metrics, Report
from gridtune_evaluation.metrics import is_number, metrics_of
from gridtune_evaluation.untrusted import PayloadFile

_log = logging.getLogger("gridtune.agent")

#: Steps beyond this cannot be kept apart by everybody who reads JSON.
_HIGHEST_STEP: Final = 2**53
#: Bytes that are read at once.
_AT_ONCE: Final = 64 * 2**20


class ReportReader:
    """Reads the lines that were added since the last look.

    Args:
        file: Need not exist yet.
        objectives: The metrics that make a report worth remembering as a result.
        resume_step: Where the training goes on from, if it does.
    """

    def __init__(self, file: PayloadFile, objectives: Collection[str], resume_step: int | None = None) -> None:
        self._file = file
        self._objectives = objectives
        self._offset = 0
        self._highest_step = resume_step or 0
        self.n_invalid = 0
        #: The metrics of the last report that has all objectives.
        self.last_metrics: Metrics | None = None

    @property
    def highest_step(self) -> int | None:
        """The highest step so far; None before the first."""
        return self._highest_step or None

    def read(self, *, ended: bool = False) -> list[Report]:
        """The new reports; a line without its end waits for it, unless the payload has *ended*."""
        data = self._new_data()
        complete = len(data) if ended else data.rfind(b"\n") + 1
        if len(data) == _AT_ONCE and not complete:
            complete = len(data)  # no line is as long
        self._offset += complete
        reports = (self._parsed(line) for line in data[:complete].splitlines() if line.strip())
        return [report for report in reports if report is not None]

    def _new_data(self) -> bytes:
        try:
            with self._file.open() as file:
                if file.seek(0, 2) < self._offset:
                    self._offset = 0  # it was written anew
                file.seek(self._offset)
                return file.read(_AT_ONCE)
        except FileNotFoundError:
            return b""

    def _parsed(self, line: bytes) -> Report | None:
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            self._note_invalid(line, str(error))
            return None
        if not isinstance(data, dict):
            self._note_invalid(line, "not an object")
            return None
        step = self._step(data)
        if step is None:
            self._note_invalid(line, "step is no whole number")
            return None
        metrics = metrics_of(data, without={"step"})
        if not metrics:
            return None
        self._highest_step = max(self._highest_step, step)
        if all(objective in metrics for objective in self._objectives):
            self.last_metrics = metrics
        return Report(step, metrics)

    def _step(self, data: Any) -> int | None:
        step = data.get("step", self._highest_step + 1)
        if not is_number(step) or not abs(step) <= _HIGHEST_STEP or int(step) != step:
            return None
        return int(step)

    def _note_invalid(self, line: bytes, why: str) -> None:
        self.n_invalid += 1
        shown = line[:200].decode("utf-8", "replace")
        extra = {"action": "report_invalid", "n_invalid": self.n_invalid}
        _log.warning("Skipped a line of %s (%s): %s", self._file.path, why, shown, extra=extra)
