"""Many workers in some processes of their own, all beginning at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .processes import cpu_seconds

_ROOT = Path(__file__).parents[2]
_PATH = os.pathsep.join(str(_ROOT / name) for name in (".", "common"))


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Who works.

    Attributes:
        kind: One of `seats.KINDS`.
        options: What its seats need.
        processes: Among how many the workers are dealt out as threads.
        python: The interpreter that has the libraries they need.
    """

    kind: str
    options: dict[str, Any]
    workers: int
    processes: int
    python: str = sys.executable


@dataclass
class Tally:
    """What a crowd saw in its time.

    Attributes:
        calls: By kind of call, when each began and ended, in seconds since the measurement began.
        cpu: Cores that were busy, by whom.
    """

    seconds: float
    calls: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def pairs(self) -> float:
        """Tells that were answered, a second."""
        return sum(ended < self.seconds for _, ended in self.calls.get("tell", [])) / self.seconds

    @property
    def errors(self) -> int:
        """Calls that failed."""
        return sum(n for name, n in self.counts.items() if name.startswith("error"))

    def times(self, kind: str, since: float = 0.0, until: float | None = None) -> list[float]:
        """How long the calls took that began in a span, in seconds; those in progress at its end as well."""
        end = self.seconds if until is None else until
        return [ended - begun for begun, ended in self.calls.get(kind, []) if since <= begun < end]


def work(
    crowd: Crowd,
    seconds: float,
    warm: float,
    watched: Mapping[str, int] | None = None,
    look: Callable[[float], None] | None = None,
) -> Tally:
    """Let a crowd work for some time.

    Args:
        crowd: Who works.
        seconds: For how long, after the warm-up.
        warm: The warm-up, which counts for nothing.
        watched: Processes whose use of the processors is measured, with all below them.
        look: Called about once a second with the seconds since the measurement began.
    """
    shares = deal(crowd.workers, crowd.processes)
    started = [_start(crowd, sum(shares[:n]), share, seconds, warm) for n, share in enumerate(shares)]
    try:
        for process in started:
            _expect_ready(process)
        for process in started:
            _say(process, "go")
        time.sleep(warm)
        used = {name: -cpu_seconds(pid) for name, pid in (watched or {}).items()}
        _wait(seconds, look)
        for name, pid in (watched or {}).items():
            used[name] += cpu_seconds(pid)
        return _gather(started, seconds, used)
    finally:
        for process in started:
            process.kill()
            process.communicate()


def deal(workers: int, processes: int) -> list[int]:
    """How many workers each process gets."""
    n = min(workers, processes)
    return [workers // n + (index < workers % n) for index in range(n)]


def _start(crowd: Crowd, first: int, share: int, seconds: float, warm: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [crowd.python, "-m", "benchmarks.scale.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": _PATH, "OMP_NUM_THREADS": "1"},
    )
    job = {"kind": crowd.kind, "options": crowd.options, "first": first, "workers": share}
    _say(process, json.dumps({**job, "seconds": seconds, "warm": warm}))
    return process


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _expect_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    answer = process.stdout.readline()
    if answer.strip() != "ready":
        raise AssertionError("a client process has failed to begin; its standard error says why")


def _wait(seconds: float, look: Callable[[float], None] | None) -> None:
    begins = time.perf_counter()
    while (left := begins + seconds - time.perf_counter()) > 0:
        if look is not None:
            look(seconds - left)
        time.sleep(min(left, 1.0))


def _gather(started: list[subprocess.Popen[str]], seconds: float, used: dict[str, float]) -> Tally:
    tally = Tally(seconds, cpu={name: spent / seconds for name, spent in used.items()})
    tally.cpu["clients"] = 0.0
    for process in started:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError("a client process has failed; its standard error says why")
        seen = json.loads(line)
        for kind, times in seen["calls"].items():
            tally.calls.setdefault(kind, []).extend((begun, ended) for begun, ended in times)
        tally.counts.update(seen["counts"])
        tally.cpu["clients"] += seen["cpu"] / seconds
    return tally
