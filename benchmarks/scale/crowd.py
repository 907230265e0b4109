"""Many workers in some processes of their own, all beginning at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .processes import cpu_seconds
from .tally import Tally, deal

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
