"""Losses of real trainings, kept in a file so that no point is trained twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from .instances import Point


class Memory:
    """Losses by problem and point; several processes may share the file.

    Other versions of scikit-learn and NumPy give other losses, so each has its own.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a benchmark's memory may be lost in a power cut, so every statement commits itself without waiting for a disk
        self._database = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS losses"
            " (versions TEXT, problem TEXT, point TEXT, loss REAL, PRIMARY KEY (versions, problem, point))"
        )
        self._versions = f"scikit-learn {version('scikit-learn')}, numpy {version('numpy')}"

    def recall(self, problem: str, point: Point, train: Callable[[Point], float]) -> float:
        """The loss of a point, trained now if it is not known."""
        key = (self._versions, problem, json.dumps(point, sort_keys=True))
        query = "SELECT loss FROM losses WHERE versions = ? AND problem = ? AND point = ?"
        row = self._database.execute(query, key).fetchone()
        if row is not None:
            return float(row[0])
        loss = train(point)
        self._database.execute("INSERT OR REPLACE INTO losses VALUES (?, ?, ?, ?)", (*key, loss))
        return loss

    def known(self, problem: str) -> tuple[int, float | None]:
        """How many points of a problem are known, and the best loss among them."""
        query = "SELECT count(*), min(loss) FROM losses WHERE versions = ? AND problem = ?"
        count, best = self._database.execute(query, (self._versions, problem)).fetchone()
        return count, best

    def close(self) -> None:
        """Close the file."""
        self._database.close()
