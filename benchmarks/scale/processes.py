"""What processes use, with all that they have started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil


def cpu_seconds(root: int) -> float:
    """Processor time of a process and its descendants so far, with that of descendants that have ended."""
    times = [process.cpu_times() for process in _family(root)]
    return float(sum(each.user + each.system + each.children_user + each.children_system for each in times))


def memory_by_command(root: int) -> dict[str, float]:
    """Resident memory of each process below one, in MiB, by what it is."""
    found: dict[str, float] = {}
    for process in _family(root):
        name = _name(process)
        found[name] = found.get(name, 0.0) + process.memory_info().rss / 2**20
    return found


def machine() -> str:
    """What this machine is, in one line."""
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "").partition(": ")[2]
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores ({model or 'unknown'}), {memory:.0f} GiB, load {load:.1f} when it began"


def _family(root: int) -> Iterator[psutil.Process]:
    try:
        process = psutil.Process(root)
        members = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in members:
        if member.is_running():
            yield member


def _name(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    marks = {"gridtune_steering.api": "web", "gridtune_steering.host": "host", " serve ": "supervisor"}
    role = next((role for mark, role in marks.items() if mark in words), process.name())
    return f"{role} {process.pid}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
