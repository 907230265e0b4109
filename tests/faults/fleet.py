"""Agents that are replaced when they die, each at a place of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.proxy import Proxy
from real_service import GRIDTUNE

SLOTS = 2
#: One agent of so many has few seconds to live, and knows it.
_SHORT_LIVED_EVERY = 3
_SHORT_LIVES = (4.0, 12.0)
#: What agents say that end by themselves for a good reason.
_GOOD_REASONS = ("the task has ended", "the worker's time is nearly over")


@dataclass
class Berth:
    """A place for one agent after the other: a work folder with its spool, and a way to the service.

    Attributes:
        ends: What became of agents that ended by themselves, though their task had not.
        is_mute: Its disk was full for a while, so it may not have been able to say why it ended.
        replace_at: When a new agent comes; None while there is one, and when no more is to come.
    """

    name: str
    folder: Path
    task: str
    token: str
    proxy: Proxy
    chance: random.Random
    agent: subprocess.Popen[bytes] | None = None
    is_killed: bool = False
    is_mute: bool = False
    replace_at: float | None = None
    n_agents: int = 0

    @property
    def work(self) -> Path:
        """The work folder that its agents share."""
        return self.folder / f"work-{self.name}"

    @property
    def log(self) -> Path:
        """What its agents say."""
        return self.folder / f"{self.name}.log"

    @property
    def is_alive(self) -> bool:
        """Whether there is an agent."""
        return self.agent is not None and self.agent.poll() is None

    def start(self) -> None:
        """Start an agent."""
        server = f"http://127.0.0.1:{self.proxy.port}"
        flags = ["--task", self.task, "--work-dir", str(self.work), "--slots", str(SLOTS), "--verbose"]
        flags += ["--site", self.name, *self._lifetime()]
        with self.log.open("ab") as log:
            self.agent = subprocess.Popen(
                [*GRIDTUNE, "agent", "--server", server, *flags],
                env={**os.environ, "GRIDTUNE_TOKEN": self.token},
                stdout=log,
                stderr=log,
            )
        self.is_killed, self.is_mute, self.replace_at = False, False, None
        self.n_agents += 1

    def _lifetime(self) -> list[str]:
        if self.chance.randrange(_SHORT_LIVED_EVERY):
            return []
        return ["--walltime", f"{self.chance.uniform(*_SHORT_LIVES):.1f}s"]

    def signal(self, number: int) -> None:
        """Send the agent a signal, if there is one."""
        if self.agent is not None and self.agent.poll() is None:
            self.agent.send_signal(number)

    def end(self, number: int, *, replace_in: float) -> None:
        """End the agent by a signal and have another one come."""
        self.is_killed = True
        self.signal(number)
        self.replace_at = time.monotonic() + replace_in

    def payloads(self) -> list[int]:
        """Process ids of its trainings."""
        if self.agent is None or self.agent.poll() is not None:
            return []
        return [pid for pid in children_of(self.agent.pid) if b"gridtune-warden" not in command_of(pid)]

    def letters(self) -> list[Path]:
        """Last words that wait in the spool, or were refused."""
        return sorted((self.work / "spool").rglob("*.json"))

    def look_after(self, has_task_ended: Callable[[], bool]) -> str | None:
        """Replace a dead agent; says what is wrong if it died by itself."""
        if self.agent is None or self.agent.poll() is None:
            return None
        complaint = None
        if not self.is_killed:
            if has_task_ended():
                return None
            if not self._has_a_good_reason():
                complaint = f"{self.name}: ended by itself with code {self.agent.returncode}:\n{self._last_words()}"
            self.is_killed, self.replace_at = True, time.monotonic()
        if self.replace_at is not None and time.monotonic() >= self.replace_at:
            self.start()
        return complaint

    def see_out(self, *, seconds: float) -> str | None:
        """Wait for the agent to end by itself after its task; says what is wrong if it does not."""
        if self.agent is None:
            return None
        try:
            code = self.agent.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"{self.name}: still there {seconds:g} s after the task's end:\n{self._last_words()}"
        if code != 0 and not self.is_killed:
            return f"{self.name}: ended with code {code} after the task's end:\n{self._last_words()}"
        return None

    def kill(self) -> None:
        """Leave no agent behind."""
        if self.agent is not None and self.agent.poll() is None:
            self.agent.send_signal(signal.SIGCONT)
            self.agent.kill()
            self.agent.wait()

    def _has_a_good_reason(self) -> bool:
        assert self.agent is not None
        last_words = self._last_words()
        has_said_why = self.is_mute or any(reason in last_words for reason in _GOOD_REASONS)
        return self.agent.returncode == 0 and has_said_why

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-1500:]


def children_of(pid: int) -> list[int]:
    """Living children of a process, by any of its threads."""
    try:
        return [
            int(child)
            for children in Path(f"/proc/{pid}/task").glob("*/children")
            for child in children.read_text().split()
        ]
    except OSError:
        return []


def command_of(pid: int) -> bytes:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def environment_of(pid: int) -> list[str]:
    """What a process was started with; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def processes_in(folder: Path) -> dict[int, str]:
    """Living processes, but not this one, that were started in or for a folder: command lines by process id."""
    mark = str(folder).encode()
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                about = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
                place = os.readlink(entry / "cwd").encode()
            except OSError:
                continue
            if mark in about or place.startswith(mark):
                found[int(entry.name)] = command_of(int(entry.name)).replace(b"\0", b" ").decode(errors="replace")
    return found
