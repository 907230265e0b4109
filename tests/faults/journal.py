"""What really happened, told by those who did it: trainings, agents, and the driver of the faults.

The database is what is examined, so its word alone proves nothing.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

STEPS = 10
#: The journal that all trainings of a run share.
TRAININGS = "trainings.jsonl"
#: A training of ten short steps. Each line goes to the journal in one write, before the agent can know of it.
TRAIN = """
import json, os, random, sys, time

values = json.load(open("input.json"))
journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
point = int(os.environ["GRIDTUNE_POINT"])
pace = random.Random(point).uniform(0.02, 0.05)
loss = (values["x"] - 1) ** 2 + values["layers"] / 10 + (values["kind"] == "sgd")


def note(what, **more):
    entry = {"what": what, "at": time.time(), "point": point, "evaluation": os.environ["GRIDTUNE_EVALUATION"], **more}
    line = (json.dumps(entry) + "\\n").encode()
    if os.write(journal, line) != len(line):
        raise OSError("the journal is full")


note("start")
with open(os.environ["GRIDTUNE_DIR"] + "/reports.jsonl", "a", buffering=1) as reports:
    for step in range(1, 11):
        time.sleep(pace)
        note("step", step=step)
        print(json.dumps({"step": step, "loss": loss + 1 / step}), file=reports)
note("end", loss=loss)
with open("output.new", "w") as output:
    json.dump({"loss": loss}, output)
os.replace("output.new", "output.json")
"""

_DELIVERED = re.compile(r"Tell of evaluation (\w+) delivered\.")


@dataclass
class Training:
    """What one evaluation's trainings wrote down.

    Attributes:
        starts: When it began; more than one means that it was trained more than once.
        steps: Which step was done when, in order.
        loss: Its result; None if it did not come to its end.
    """

    point: int
    evaluation: str
    starts: list[float] = field(default_factory=list)
    steps: list[tuple[int, float]] = field(default_factory=list)
    loss: float | None = None


def read_trainings(path: Path) -> dict[str, Training]:
    """All trainings by evaluation, from their common journal."""
    found: dict[str, Training] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        training = found.setdefault(entry["evaluation"], Training(entry["point"], entry["evaluation"]))
        if entry["what"] == "start":
            training.starts.append(entry["at"])
        elif entry["what"] == "step":
            training.steps.append((entry["step"], entry["at"]))
        else:
            training.loss = entry["loss"]
    return found


def read_acknowledged(logs: Iterable[Path]) -> Counter[str]:
    """How often agents were told that an evaluation's result was accepted, by evaluation."""
    return Counter(name for log in logs for name in _DELIVERED.findall(log.read_text(errors="replace")))


class FaultJournal:
    """Every fault with its time and target, a line of JSON each; can be shared between threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.kinds: Counter[str] = Counter()

    def note(self, kind: str, target: str, seconds: float = 0.0) -> None:
        """A fault begins now and is to last for *seconds*."""
        entry = {"at": time.time(), "kind": kind, "target": target, "seconds": round(seconds, 3)}
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            self.kinds[kind] += 1

    @property
    def n_faults(self) -> int:
        """How many there were."""
        return self.kinds.total()
