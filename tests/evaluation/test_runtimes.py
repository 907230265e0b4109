"""One contract for all ways to run a payload; containers are those of real engines."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gridtune_evaluation import runtimes
from gridtune_evaluation.cache import Cache
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.port import Exit, Handle, Image, Job, Limits, Runtime
from servers.docker import Docker
from servers.images import IMAGE

#: Starts a payload as an agent does, says so, and waits to be killed.
AGENT = """
import json, sys, time
from pathlib import Path
from gridtune_evaluation import runtimes
from gridtune_evaluation.cache import Cache
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.port import Image, Job

guard = OrphanGuard(grace_seconds=1)
guard.start()
name, folder, command, image = sys.argv[1:]
runtime = runtimes.load(name, guard, Cache(Path(folder) / "cache", 2**30))
job = Job(command, Path(folder), {"GRIDTUNE_DIR": str(runtime.locate(Path(folder)) / ".gridtune")},
          Path(folder) / "output.log", Image(image))
runtime.prepare(job.image, lambda: True)
handle = runtime.start(job)
print("started", flush=True)
time.sleep(60)
"""


@dataclass
class Place:
    """A runtime and a folder for its payloads."""

    runtime: Runtime
    folder: Path
    image: str = IMAGE

    def start(self, command: str, limits: Limits | None = None, **variables: str) -> Handle:
        """Start a payload."""
        (self.folder / ".gridtune" / "tmp").mkdir(parents=True, exist_ok=True)
        image = None if self.runtime.name == "process" else Image(self.image)
        control = str(self.runtime.locate(self.folder) / ".gridtune")
        job = Job(
            command,
            self.folder,
            {"GRIDTUNE_DIR": control, **variables},
            self.folder / "output.log",
            image,
            limits or Limits(),
            scratch=self.folder / ".gridtune" / "tmp",
        )
        self.runtime.prepare(image, lambda: True)
        return self.runtime.start(job)

    def run(self, command: str, limits: Limits | None = None, **variables: str) -> tuple[Exit, str]:
        """Run a payload; how it ended, and what it printed."""
        handle = self.start(command, limits, **variables)
        exit_ = wait(handle)
        handle.close()
        return exit_, self.output

    @property
    def output(self) -> str:
        """What payloads have printed."""
        return (self.folder / "output.log").read_text()


def wait(handle: Handle, seconds: float = 30) -> Exit:
    """Wait for a payload's end."""
    deadline = time.monotonic() + seconds
    while (exit_ := handle.poll()) is None:
        assert time.monotonic() < deadline, "the payload does not end"
        time.sleep(0.02)
    return exit_


def await_file(path: Path, seconds: float = 30) -> None:
    """Wait until a payload has written a file."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"there is no {path}"
        time.sleep(0.02)


@pytest.fixture(params=sorted(runtimes.RUNTIMES))
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Every runtime in turn."""
    if request.param == "docker":
        engine: Docker = request.getfixturevalue("docker")
        monkeypatch.setenv("DOCKER_HOST", engine.address)
        monkeypatch.setenv("GRIDTUNE_CONTAINER_NETWORK", "host")
    if request.param == "podman":
        monkeypatch.setenv("CONTAINER_HOST", request.getfixturevalue("podman").address)
        monkeypatch.setenv("GRIDTUNE_CONTAINER_NETWORK", "host")
    image = IMAGE
    if request.param == "charliecloud":
        image = str(request.getfixturevalue("charliecloud"))
    if request.param == "apptainer":
        image = request.getfixturevalue("apptainer").image
    guard = OrphanGuard()
    yield Place(runtimes.load(request.param, guard, Cache(tmp_path / "cache", 2**30)), tmp_path, image)
    guard.close()


@pytest.fixture
def is_container(place: Place) -> bool:
    """Whether payloads run in an image."""
    return place.runtime.name != "process"


class TestContract:
    """What holds for every runtime."""

    def test_the_end_is_told(self, place: Place) -> None:
        """Nothing while the payload runs; then its exit code, again and again."""
        handle = place.start("echo $A; echo oops >&2; sleep 0.3; exit 3", A="b")
        early = handle.poll()
        late = wait(handle)
        handle.close()
        handle.terminate()
        handle.kill()
        handle.close()

        assert (early, late, handle.poll()) == (None, Exit(3), Exit(3))
        assert place.output == "b\noops\n"

    def test_sigterm_reaches_what_the_shell_runs(self, place: Place) -> None:
        """A program saves and leaves, and its exit code is the payload's, though a shell waits for it."""
        (place.folder / "save.py").write_text(
            "import signal, sys, time\n"
            "def save(*_):\n"
            "    time.sleep(0.3)\n"
            "    open('saved', 'w').close()\n"
            "    sys.exit(5)\n"
            "signal.signal(signal.SIGTERM, save)\n"
            "open('ready', 'w').close()\n"
            "time.sleep(60)\n"
        )

        handle = place.start("python3 save.py")
        await_file(place.folder / "ready")
        handle.terminate()
        exit_ = wait(handle)
        handle.close()

        assert (place.folder / "saved").exists()
        assert exit_ == Exit(5)

    def test_who_does_not_mind_sigterm_ends(self, place: Place) -> None:
        """Shells and what they wait for, together."""
        handle = place.start("sleep 60; touch went-on")
        handle.terminate()
        wait(handle)
        handle.close()

        assert not (place.folder / "went-on").exists()

    def test_who_ignores_sigterm_is_killed(self, place: Place) -> None:
        """SIGKILL ends a payload that does not leave."""
        handle = place.start("trap '' TERM; touch ready; while :; do sleep 0.1; done")
        await_file(place.folder / "ready")
        handle.terminate()
        time.sleep(0.5)
        still = handle.poll()

        handle.kill()

        assert still is None
        assert wait(handle).code == 137
        handle.close()

    def test_close_kills(self, place: Place) -> None:
        """A payload that still runs when it is given back is killed."""
        handle = place.start("sleep 60")

        handle.close()

        assert handle.poll() == Exit(137, signal=9)

    def test_nothing_outlives_the_first_process(self, place: Place) -> None:
        """What a payload leaves in the background is killed with its end."""
        os.mkfifo(place.folder / "alive", 0o600)
        reader = os.open(place.folder / "alive", os.O_RDONLY | os.O_NONBLOCK)

        exit_, _ = place.run("(exec 9> alive; exec sleep 60) & sleep 0.3")

        assert exit_ == Exit(0)
        assert has_ended(reader, 5)

    def test_the_working_directory_can_be_written_to(self, place: Place) -> None:
        """And what is written there is here."""
        exit_, output = place.run("pwd; echo 1 > made; mkdir -p a/b; echo x > $GRIDTUNE_DIR/in-control")

        assert exit_ == Exit(0), output
        assert output.strip() == str(place.runtime.locate(place.folder))
        assert (place.folder / "made").read_text() == "1\n"
        assert (place.folder / ".gridtune" / "in-control").exists()

    def test_cpus_are_bound(self, place: Place) -> None:
        """Every process of a payload sees its own CPUs alone."""
        mine = max(os.sched_getaffinity(0))
        script = "import os; print(sorted(os.sched_getaffinity(0)))"

        _, output = place.run(f"(python3 -c '{script}') & wait; python3 -c '{script}'", Limits(cpus=(mine,)))

        assert output == f"[{mine}]\n" * 2
        assert len(os.sched_getaffinity(0)) == (os.cpu_count() or 1)

    def test_memory_is_limited(self, place: Place) -> None:
        """Who takes more than asked is killed, alone, and it is said why."""
        greedy = "import time; kept = [bytearray(2**20 * 8) for _ in range(40)]; time.sleep(20)"

        exit_, output = place.run(f"python3 -c '{greedy}'", Limits(memory_bytes=100 * 2**20))

        assert exit_.is_out_of_memory, (exit_, output)
        assert exit_.code != 0

    def test_usage_is_measured(self, place: Place) -> None:
        """CPU time, memory and time of a payload and all that it waits for."""
        busy = "import time; kept = bytearray(50 * 2**20)\nwhile time.process_time() < 0.5: pass\ntime.sleep(0.6)"
        handle = place.start(f"python3 -c '{busy}'; exit 0")
        wait(handle)
        usage = handle.usage()
        handle.close()

        assert usage.runtime == place.runtime.name
        assert usage.wall_seconds is not None
        assert usage.cpu_seconds is not None
        assert usage.peak_memory_bytes is not None
        assert 1.0 < usage.wall_seconds < 20
        assert 0.45 < usage.cpu_seconds < 2
        assert 50 * 2**20 < usage.peak_memory_bytes < 300 * 2**20

    def test_a_killed_agent_leaves_nothing_behind(self, place: Place) -> None:
        """After kill -9 of the agent nothing of the payload is left within seconds, and it could save before."""
        (place.folder / ".gridtune").mkdir()
        os.mkfifo(place.folder / "alive")
        os.chmod(place.folder / "alive", 0o666)  # noqa: S103 - a container has another user
        reader = os.open(place.folder / "alive", os.O_RDONLY | os.O_NONBLOCK)
        command = "trap 'touch saved; exit' TERM; exec 9> alive; touch ready; while :; do sleep 0.1; done"
        words = [sys.executable, "-c", AGENT, place.runtime.name, str(place.folder), command, place.image]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as agent:
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"started\n"
            await_file(place.folder / "ready")

            agent.send_signal(signal.SIGKILL)

            assert has_ended(reader, 10)
        assert (place.folder / "saved").exists()

    def test_many_at_once(self, place: Place) -> None:
        """Payloads side by side do not know of each other."""
        places = [replace(place, folder=place.folder / str(number)) for number in range(3)]
        for one in places:
            one.folder.mkdir()

        handles = [one.start(f"sleep 0.2; echo {number}; exit {number}") for number, one in enumerate(places)]
        exits = [wait(handle) for handle in handles]
        for handle in handles:
            handle.close()

        assert exits == [Exit(0), Exit(1), Exit(2)]
        assert [one.output for one in places] == ["0\n", "1\n", "2\n"]


def has_ended(reader: int, seconds: float) -> bool:
    """Whether the last writer of a pipe goes within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ready, _, _ = select.select([reader], [], [], 0.1)
        if ready and os.read(reader, 1) == b"":
            return True
    return False
