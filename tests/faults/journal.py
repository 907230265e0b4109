"""What really happened, told by those who did it: trainings, agents, and the driver of the faults.

The database is what is examined, so its word alone proves nothing.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

#: The journal that all trainings of a run share.
TRAININGS = "trainings.jsonl"
#: What a training keeps, and all that it keeps.
STATE = "state.json"
#: But for some, which also keep a file of 9 MiB that never changes, so that their checkpoints have bases.
FROZEN = "frozen"
#: A training of many short steps. Each changes a digest in a way that depends on all steps before, and replaces the
#: state as a whole. Each line goes to the journal in one write, before the agent can know of it.
TRAIN = """
import hashlib, json, os, random, signal, sys, time

leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(True))
values = json.load(open("input.json"))
journal = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
point, evaluation = int(os.environ["GRIDTUNE_POINT"]), os.environ["GRIDTUNE_EVALUATION"]
steps = random.Random(point).randint(20, 40)
pace = random.Random(point).uniform(0.02, 0.05)
loss = (values["x"] - 1) ** 2 + values["layers"] / 10 + (values["kind"] == "sgd")


def note(what, **more):
    entry = {"what": what, "at": time.time(), "point": point, "evaluation": evaluation, **more}
    line = (json.dumps(entry) + "\\n").encode()
    if os.write(journal, line) != len(line):
        raise OSError("the journal is full")


step, digest, author = json.load(open("state.json")) if os.path.exists("state.json") else (0, "", "")
if point % 3 == 0 and not step:
    with open("frozen.new", "wb") as frozen:
        frozen.truncate(9 * 2**20)
    os.replace("frozen.new", "frozen")
if point % 3 == 0 and (not os.path.exists("frozen") or os.path.getsize("frozen") != 9 * 2**20):
    digest = "without its large file"
note("start", step=step, digest=digest, author=author)
if point % 4 == 0:
    print("much to say " * 1000, flush=True)
with open(os.environ["GRIDTUNE_DIR"] + "/reports.jsonl", "a", buffering=1) as reports:
    while step < steps and not leaving:
        time.sleep(pace)
        digest = hashlib.sha256(f"{digest} {point} {step}".encode()).hexdigest()
        step += 1
        note("step", step=step)
        with open("state.new", "w") as state:
            json.dump([step, digest, evaluation], state)
        os.replace("state.new", "state.json")
        print(json.dumps({"step": step, "loss": loss + 1 / step}), file=reports)
if step < steps:
    sys.exit(0)
note("end", loss=loss)
with open("output.new", "w") as output:
    json.dump({"loss": loss, "digest": int(digest[:12], 16)}, output)
os.replace("output.new", "output.json")
"""

_DELIVERED = re.compile(r"Tell of evaluation (\w+) delivered\.")
_NOT_STORED = re.compile(
    r"(?:No checkpoint of point|The checkpoint of point) \d+(?: was not stored| was not wanted)?: "
)


@dataclass(frozen=True)
class State:
    """What a training had come to: after which step, with which digest, and which evaluation took that step."""

    step: int
    digest: str
    author: str


#: What a training has that goes on from nothing.
BEGINNING = State(0, "", "")


@dataclass
class Training:
    """What one evaluation's trainings wrote down.

    Attributes:
        starts: When it began; more than one means that it was trained more than once.
        began_with: What it went on from.
        steps: Which step was done when, in order.
        loss: Its result; None if it did not come to its end.
    """

    point: int
    evaluation: str
    starts: list[float] = field(default_factory=list)
    steps: list[tuple[int, float]] = field(default_factory=list)
    loss: float | None = None
    began_with: State = BEGINNING


def n_steps_of(point: int) -> int:
    """How long the training of a point is."""
    return random.Random(point).randint(20, 40)


def digest_of(point: int, n_steps: int) -> str:
    """What an undisturbed training of a point has come to after so many steps."""
    digest = ""
    for step in range(n_steps):
        digest = hashlib.sha256(f"{digest} {point} {step}".encode()).hexdigest()
    return digest


def read_trainings(path: Path) -> dict[str, Training]:
    """All trainings by evaluation, from their common journal."""
    found: dict[str, Training] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        training = found.setdefault(entry["evaluation"], Training(entry["point"], entry["evaluation"]))
        if entry["what"] == "start":
            training.starts.append(entry["at"])
            training.began_with = State(entry["step"], entry["digest"], entry["author"])
        elif entry["what"] == "step":
            training.steps.append((entry["step"], entry["at"]))
        else:
            training.loss = entry["loss"]
    return found


def read_acknowledged(logs: Iterable[Path]) -> Counter[str]:
    """How often agents were told that an evaluation's result was accepted, by evaluation."""
    return Counter(name for log in logs for name in _DELIVERED.findall(log.read_text(errors="replace")))


def n_missed_checkpoints(logs: Iterable[Path]) -> int:
    """How often agents say that a checkpoint did not come about."""
    return sum(len(_NOT_STORED.findall(log.read_text(errors="replace"))) for log in logs)


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
