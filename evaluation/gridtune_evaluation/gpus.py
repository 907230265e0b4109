"""What payloads use of their GPUs, by what the driver says from time to time (nvidia-smi).

Sampled, so a short burst between two looks is missed, and a GPU that others use as well counts for all of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Final, Optional

from gridtune_evaluation.hardware import Gpu, run_program

_log = logging.getLogger("gridtune.agent")

#: Seconds between two looks: each starts a program.
_INTERVAL: Final = 5.0
_MIB: Final = 2**20
_COMMAND: Final = (
    "nvidia-smi",
    "--query-gpu=index,uuid,utilization.gpu,memory.used",
    "--format=csv,noheader,nounits",
)


@dataclass(frozen=True)
class _Look:
    """What one GPU does at a moment: the share of time that it is busy, and its memory in use in bytes."""

    busy: float
    memory_bytes: int


class Reading:
    """What some GPUs do from one moment to another.

    Attributes:
        busy_seconds: Summed over the GPUs; None if nothing was seen.
        peak_memory_bytes: On one of them; None likewise.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self.busy_seconds: Optional[float] = None
        self.peak_memory_bytes: Optional[int] = None

    def add(self, looks: Mapping[str, _Look], seconds: float) -> None:
        """Take a look into account that stands for so many seconds."""
        mine = [looks[name] for name in self._names if name in looks]
        if mine:
            self.busy_seconds = (self.busy_seconds or 0.0) + seconds * sum(look.busy for look in mine)
            self.peak_memory_bytes = max(self.peak_memory_bytes or 0, *(look.memory_bytes for look in mine))


class GpuMeter:
    """Looks at the GPUs of an agent while somebody reads. Safe to share between threads.

    Args:
        gpus: What the agent has; without any, nothing is ever looked at.
        run: Runs the driver's program.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        run: Callable[[Sequence[str]], str] = run_program,
        interval: float = _INTERVAL,
    ) -> None:
        self._run = run
        self._interval = interval
        self._readings: list[Reading] = []
        self._changed = threading.Condition()
        self._ended = not gpus
        self._thread = threading.Thread(target=self._look_again_and_again, name="gpus", daemon=True)
        if gpus:
            self._thread.start()

    @contextmanager
    def reading(self, names: Sequence[str]) -> Iterator[Reading]:
        """What these GPUs do while the block lasts."""
        reading = Reading(names)
        with self._changed:
            self._readings.append(reading)
            self._changed.notify_all()
        try:
            yield reading
        finally:
            with self._changed:
                self._readings.remove(reading)

    def close(self) -> None:
        """Look no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _look_again_and_again(self) -> None:
        last, has_failed = time.monotonic(), False
        while self._wait():
            try:
                looks = _parse(self._run(_COMMAND))
            except (OSError, ValueError) as error:
                if not has_failed:
                    _log.warning("The use of GPUs is not measured: %s", error, extra={"action": "gpus_unknown"})
                has_failed = True
                continue
            now = time.monotonic()
            with self._changed:
                for reading in self._readings:
                    reading.add(looks, min(now - last, self._interval))
            last = now

    def _wait(self) -> bool:
        """Wait for the time of the next look, and for somebody who wants one; tells whether to go on."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended, self._interval)
            self._changed.wait_for(lambda: self._ended or self._readings)
            return not self._ended


def _parse(printed: str) -> dict[str, _Look]:
    """By index and by UUID; a GPU that does not tell, as parts of one do not, is left out."""
    looks = {}
    for line in printed.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[2].isdecimal() and fields[3].isdecimal():
            look = _Look(int(fields[2]) / 100, int(fields[3]) * _MIB)
            looks[fields[0]] = looks[fields[1]] = look
    return looks
