"""No training outlives its agent."""

from __future__ import annotations

import os
import select
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gridtune_evaluation import runtimes, warden
from gridtune_evaluation.cache import Cache
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.port import Job

#: Starts a payload as an agent does, says so, and waits to be killed.
AGENT = """
import sys, time
from pathlib import Path
from gridtune_evaluation import runtimes
from gridtune_evaluation.cache import Cache
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.port import Job

guard = OrphanGuard(grace_seconds=0.5)
guard.start()
folder = Path(sys.argv[1])
job = Job(sys.argv[2], folder, {"FIFO": str(folder / "alive")}, folder / "output.log")
handle = runtimes.load("process", guard, Cache(folder, 0)).start(job)
sys.stdout.write("started\\n")
sys.stdout.flush()
time.sleep(60)
"""

PAYLOADS = {
    "polite": "exec 9> $FIFO; exec sleep 60",
    "stubborn": "exec 9> $FIFO; trap '' TERM; while :; do sleep 0.05; done",
    "with children": "exec 9> $FIFO; sleep 60 & sleep 60 & wait",
}


@pytest.mark.parametrize("command", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_payload_ends_when_its_agent_is_killed(tmp_path: Path, command: str) -> None:
    """After kill -9 of the agent nothing of the payload is left within seconds."""
    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    words = [sys.executable, "-c", AGENT, str(tmp_path), command]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"started\n"
        lives_on = not _has_ended(reader, 0.3)

        agent.send_signal(signal.SIGKILL)

        # Everything that the payload has started holds the pipe open: its end is the end of them all.
        assert lives_on
        assert _has_ended(reader, 10)
    os.close(reader)


class SlowGuard(OrphanGuard):
    """Takes its time to write a payload down, and looks what it does meanwhile."""

    def __init__(self, begun: Path) -> None:
        super().__init__()
        self._begun = begun
        self.saw_it_begin = False

    def watch(self, payload: int | str) -> None:
        """Be slow."""
        time.sleep(0.3)
        self.saw_it_begin = self._begun.exists()


def test_nothing_begins_before_the_warden_knows_of_it(tmp_path: Path) -> None:
    """An agent that is killed in the moment of the start leaves nothing behind either."""
    guard = SlowGuard(tmp_path / "begun")
    job = Job("touch begun; read nothing; echo $?", tmp_path, {}, tmp_path / "output.log")

    handle = runtimes.load("process", guard, Cache(tmp_path / "cache", 2**30)).start(job)
    while handle.poll() is None:
        time.sleep(0.02)

    assert not guard.saw_it_begin
    assert (tmp_path / "begun").exists()
    assert (tmp_path / "output.log").read_text() == "1\n"  # and its input is empty


def test_warden_keeps_the_books() -> None:
    """Groups come and go; half a line is none."""
    container = "/run/engine.sock 0f3a"

    assert warden.follow(["+11\n", "+12\n", "-11\n", f"+{container}\n", "+1"]) == {"12", container}


class Engine(socketserver.StreamRequestHandler):
    """Says yes to everything."""

    def handle(self) -> None:
        """Read the request before the answer."""
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.0 204 Yes\r\n\r\n")


def test_an_engine_whose_socket_has_a_blank_in_its_name(tmp_path: Path) -> None:
    """It is asked all the same."""
    path = str(tmp_path / "an engine")

    with socketserver.UnixStreamServer(path, Engine) as engine:
        threading.Thread(target=engine.handle_request, daemon=True).start()

        assert warden.send(f"{path} 0f3a", signal.SIGKILL)


def test_warden_ends_with_its_agent() -> None:
    """With nothing in care the warden just goes."""
    guard = OrphanGuard()
    guard.start()
    guard.watch(2**22 + 1)
    guard.forget(2**22 + 1)

    guard.close()
    guard.watch(1)


def _has_ended(reader: int, seconds: float) -> bool:
    """Whether the last writer of a pipe goes within some seconds."""
    ready, _, _ = select.select([reader], [], [], seconds)
    return bool(ready) and os.read(reader, 1) == b""


def test_a_leader_passes_the_signal_on() -> None:
    """It gets SIGTERM alone; SIGKILL goes to all of its group."""
    other = "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done"
    script = f'trap "exit 3" TERM; sh -c "{other}" & wait'
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        payload = f"{leader.pid} leader"

        warden.send(payload, signal.SIGTERM)
        code = leader.wait()
        is_left = warden.send(payload, 0)
        time.sleep(0.3)
        warden.send(payload, signal.SIGKILL)

        assert (code, is_left) == (3, True)
        assert leader.stdout.read() == b""  # nobody was told, and the last writer has ended
