"""Running tiny payloads through a real agent and its slots, against a steering service in memory."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridtune_common import protocol
from gridtune_evaluation.agent import Agent
from gridtune_evaluation.carrier import Carrier
from gridtune_evaluation.settings import Settings
from gridtune_evaluation.shutdown import Shutdown
from gridtune_evaluation.slot import End
from gridtune_evaluation.steering import Final
from gridtune_evaluation.testing import FakeSteering, make_lease, make_payload
from gridtune_evaluation.untrusted import PayloadFile

SERVER = "https://tune.example.org"


def python(code: str) -> str:
    """A command that runs a piece of Python."""
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


def steps(*commands: str) -> str:
    """Commands in a row, whatever becomes of each."""
    return "; ".join(commands)


def write(text: str, file: str = "output.json") -> str:
    """A command that writes a file."""
    return f"echo {shlex.quote(text)} > {file}"


def result(file: str = "output.json", **metrics: Any) -> str:
    """A command that writes a result file."""
    return write(json.dumps(metrics), file)


def report(**fields: Any) -> str:
    """A command that appends a line to the reports."""
    return f'echo {shlex.quote(json.dumps(fields))} >> "$GRIDTUNE_DIR/reports.jsonl"'


def payload_file(path: Path) -> PayloadFile:
    """A file of a payload whose working directory is its folder."""
    return PayloadFile(path.parent, path)


def settings(work: Path, **changes: Any) -> Settings:
    """Settings of an agent with one slot."""
    given = {"server": SERVER, "task": "t1", "slots": 1, "work": work, "ask_wait_seconds": 0.0}
    return Settings(**{**given, **changes})


def run_agent(fake: FakeSteering, work: Path, *, carrier: Carrier | None = None, **changes: Any) -> End:
    """Run an agent to its end."""
    return Agent(settings(work, **changes), fake.connect, Shutdown(), carrier).run()


class RunningAgent:
    """An agent in a thread."""

    def __init__(self, fake: FakeSteering, work: Path, *, carrier: Carrier | None = None, **changes: Any) -> None:
        self.shutdown = Shutdown()
        self.end: End | None = None
        self._agent = Agent(settings(work, **changes), fake.connect, self.shutdown, carrier)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> End:
        """Wait for its end."""
        self._thread.join(20)
        assert self.end is not None
        return self.end

    def _run(self) -> None:
        self.end = self._agent.run()


@contextmanager
def agent_running(fake: FakeSteering, work: Path, **changes: Any) -> Iterator[RunningAgent]:
    """An agent that is asked to end with the block."""
    agent = RunningAgent(fake, work, **changes)
    try:
        yield agent
    finally:
        agent.shutdown.request()
        agent.join()


def evaluate(
    work: Path, command: str, *, lease: protocol.Lease | None = None, **payload: Any
) -> tuple[Final, FakeSteering]:
    """Evaluate one point; return its last word and the service that heard it."""
    fake = FakeSteering(make_payload(command, **payload), [lease or make_lease()])
    run_agent(fake, work)
    [(_, word)] = fake.ends
    return word, fake


def tell_of(work: Path, command: str, **payload: Any) -> protocol.Tell:
    """Evaluate one point that has a result."""
    word, _ = evaluate(work, command, **payload)
    assert isinstance(word, protocol.Tell), word
    return word


def fail_of(work: Path, command: str, **payload: Any) -> protocol.Fail:
    """Evaluate one point that fails."""
    word, _ = evaluate(work, command, **payload)
    assert isinstance(word, protocol.Fail), word
    return word


def output_of(work: Path, command: str, **payload: Any) -> str:
    """Evaluate one point and return what it printed."""
    return fail_of(work, f"{command}; exit 3", **payload).output_tail
