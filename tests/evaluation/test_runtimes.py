"""One contract for all ways to run a payload; containers are those of real engines."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gridtune_evaluation import runtimes
from gridtune_evaluation.cache import Cache, FetchInterrupted
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.engine import Engine
from gridtune_evaluation.runtimes.init import CHILD_SCRIPT, SCRIPT, open_lifeline
from gridtune_evaluation.runtimes.port import (
    EngineError,
    Exit,
    Handle,
    Image,
    ImageUnavailable,
    Job,
    Limits,
    Runtime,
    RuntimeUnavailable,
)
from servers import images
from servers.apptainer import Apptainer
from servers.docker import Docker
from servers.door import Door
from servers.images import IMAGE
from servers.podman import Podman

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
runtime.hand_over(Path(folder))
handle = runtime.start(job)
print("started", flush=True)
time.sleep(60)
"""

#: A small node: starts the first program of a container that has no processes of its own, and asks it to leave.
NODE = """
import os, subprocess, sys, time
script, command, namespace = sys.argv[1:]
if namespace:
    namespace = os.readlink("/proc/self/ns/pid")
bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
payload = subprocess.Popen(["sh", "-c", script, "gridtune", command, namespace], start_new_session=True)
while not os.path.exists("ready"):
    time.sleep(0.02)
payload.terminate()
print(payload.wait(), bystander.poll() is None)
"""


@dataclass
class Place:
    """A runtime and a folder for its payloads."""

    runtime: Runtime
    folder: Path
    image: str = IMAGE
    inputs: tuple[Path, ...] = ()

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
            self.inputs,
            scratch=self.folder / ".gridtune" / "tmp",
        )
        self.runtime.prepare(image, lambda: True)
        self.runtime.hand_over(self.folder)
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
    runtime = runtimes.load(request.param, guard, Cache(tmp_path / "cache", 2**30))
    yield Place(runtime, tmp_path, image)
    runtime.close()
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


@pytest.mark.parametrize("place", runtimes.CONTAINERS, indirect=True)
class TestInImages:
    """What holds for every runtime of images."""

    def test_variables_arrive_as_they_are(self, place: Place) -> None:
        """Whatever means something to a shell, to a command line or to a list."""
        odd = "a b,c=d:$HOME `id` \\ \"x\" 'y' \n%s #z "

        _, output = place.run("""python3 -c 'import os; print(ascii(os.environ["ODD"]))'""", ODD=odd)

        assert output.strip() == ascii(odd)

    def test_variables_are_the_images_and_the_tasks(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing of the agent's environment is there; a home and a folder for temporary files are."""
        for prefix in ("", "APPTAINERENV_", "SINGULARITYENV_", "GRIDTUNE_"):
            monkeypatch.setenv(f"{prefix}AGENTS", "1")

        _, output = place.run("env | grep AGENTS; echo $IMAGES_OWN; touch $TMPDIR/x && cd $HOME && ls")

        assert output.split() == ["yes", "x"]

    def test_images_cannot_be_changed(self, place: Place) -> None:
        """Payloads that share one do not see each other there."""
        exit_, _ = place.run("touch /bin/new")

        assert exit_.code != 0

    def test_inputs_are_seen_under_their_names(self, place: Place, tmp_path: Path) -> None:
        """Files and folders, so that links to them lead there."""
        inputs = tmp_path / "inputs"
        (inputs / "folder").mkdir(parents=True)
        for name in ("one", "folder/two"):
            (inputs / name).write_text(f"{name}\n")
        place.inputs = (inputs / "one", inputs / "folder")

        _, output = place.run(f"cat {inputs}/one {inputs}/folder/two")

        assert output == "one\nfolder/two\n"

    def test_an_image_that_does_not_run_is_the_nodes_failure(self, place: Place) -> None:
        """It is not the training's."""
        with pytest.raises(ImageUnavailable, match="nowhere"):
            place.runtime.prepare(Image("localhost/nowhere:1", "never"), lambda: True)
        with pytest.raises(ImageUnavailable, match=r"payload\.image is missing"):
            place.runtime.prepare(None, lambda: True)


@pytest.mark.parametrize("place", ["docker"], indirect=True)
class TestEngines:
    """What only an engine's client has to do."""

    @pytest.fixture
    def door(self, place: Place, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
        """Between the runtime and its engine."""
        door = Door(tmp_path / "a door.sock", docker.address.removeprefix("unix://"))
        monkeypatch.setenv("DOCKER_HOST", door.address)
        place.runtime.close()
        place.runtime = runtimes.load("docker", OrphanGuard(), Cache(tmp_path / "cache", 2**30))
        yield door
        place.runtime.close()
        door.end()

    def test_sigterm_is_not_lost_while_the_engine_is_away(self, place: Place, door: Door) -> None:
        """It is delivered when the engine is back."""
        handle = place.start("trap 'exit 4' TERM; touch ready; while :; do sleep 0.1; done")
        await_file(place.folder / "ready")

        door.shut()
        handle.terminate()
        meanwhile = handle.poll()
        door.is_open = True
        exit_ = wait(handle, 10)
        handle.close()

        assert (meanwhile, exit_) == (None, Exit(4))

    def test_what_cannot_be_removed_is_removed_later(self, place: Place, door: Door, docker: Docker) -> None:
        """Before the next payload starts."""
        handle = place.start("sleep 60")

        door.shut()
        handle.close()
        first = docker.run("ps", "--all", "--quiet")
        door.is_open = True
        place.run(":")

        assert first
        assert docker.run("ps", "--all", "--quiet") == ""


@pytest.mark.parametrize("place", ["docker", "podman"], indirect=True)
class TestContainers:
    """What every engine's containers are given."""

    @pytest.fixture
    def engine(self, place: Place, request: pytest.FixtureRequest) -> Docker | Podman:
        """By its own command line."""
        found: Docker | Podman = request.getfixturevalue(place.runtime.name)
        return found

    def test_what_somebody_removes_has_ended(
        self, place: Place, engine: Docker | Podman, caplog: pytest.LogCaptureFixture
    ) -> None:
        """At once, and there is nothing left to remove."""
        handle = place.start("sleep 60")

        engine.run("rm", "--force", engine.run("ps", "--quiet"))
        exit_ = wait(handle, 5)
        handle.close()

        assert exit_ == Exit(137, signal=9)
        assert not caplog.records

    def test_an_image_that_somebody_removes_is_brought_again(self, place: Place, engine: Docker | Podman) -> None:
        """One point goes back; the next one has the image."""
        brief = ("import", str(place.folder / "brief.tar"), "localhost/tests/brief:1")
        images.archive(place.folder / "brief.tar")
        engine.run(*brief)
        place.image = "localhost/tests/brief:1"
        place.run(":")

        engine.run("rmi", "--force", place.image)
        with pytest.raises(ImageUnavailable, match="was removed"):
            place.start(":")
        engine.run(*brief)
        exit_, _ = place.run(":")
        engine.run("rmi", "--force", place.image)

        assert exit_ == Exit(0)

    def test_what_ended_unseen_is_swept_after_a_day(
        self, place: Place, engine: Docker | Podman, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What runs may have an agent that lives elsewhere, however long that takes."""
        label = f"org.gridtune.room={place.folder}/unseen/3-1-x"
        start = ("run", "--detach", "--network=none", "--label", label)
        running = engine.run(*start, "--entrypoint=/bin/sleep", IMAGE, "60")
        ended = engine.run(*start, "--entrypoint=/bin/sh", IMAGE, "-c", ":")
        engine.run("wait", ended)

        place.runtime.sweep()
        young = engine.run("ps", "--all", "--quiet", "--no-trunc").split()
        monkeypatch.setattr("gridtune_evaluation.runtimes.docker._UNSEEN", -1)
        place.runtime.sweep()
        old = engine.run("ps", "--all", "--quiet", "--no-trunc").split()
        engine.run("rm", "--force", running)

        assert sorted(young) == sorted([running, ended])
        assert old == [running]

    def test_shared_memory_is_half_of_the_memory(self, place: Place) -> None:
        """What 64 MiB would not be enough for."""
        fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=100 2>/dev/null; wc -c </dev/shm/x"

        _, output = place.run(fill, Limits(memory_bytes=300 * 2**20))

        assert output == f"{100 * 2**20}\n"

    def test_time_of_cpus_without_numbers_is_limited(self, place: Place) -> None:
        """To as many as are asked for."""
        if (os.cpu_count() or 1) < 2:
            pytest.skip("there is one CPU")
        busy = "python3 -c 'import time\nwhile time.process_time() < 1: pass' & "

        handle = place.start(f"{busy * 2} wait", Limits(n_cpus=1))
        wait(handle)
        usage = handle.usage()
        handle.close()

        assert usage.wall_seconds is not None
        assert usage.wall_seconds > 1.8

    def test_inputs_below_tmp(self, place: Place) -> None:
        """They are seen in the payload's own /tmp, where mount points are the agent's."""
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            (Path(folder) / "one").write_text("one\n")
            place.inputs = (Path(folder) / "one",)

            _, output = place.run(f"cat {folder}/one")

            assert output == "one\n"
            assert (place.folder / ".gridtune" / "tmp" / Path(folder).name / "one").is_file()

    def test_a_payload_ends_itself_when_agent_and_warden_are_killed(self, place: Place) -> None:
        """It could save before; that somebody writes to its lifeline ends nothing."""
        (place.folder / ".gridtune").mkdir()
        command = (
            "trap 'touch saved; exit' TERM; echo x >$GRIDTUNE_DIR/alive; sleep 0.3; "
            "exec 9>held; touch ready; while :; do sleep 0.1; done"
        )
        os.mkfifo(place.folder / "held")
        os.chmod(place.folder / "held", 0o666)  # noqa: S103 - a container has another user
        reader = os.open(place.folder / "held", os.O_RDONLY | os.O_NONBLOCK)
        words = [sys.executable, "-c", AGENT, place.runtime.name, str(place.folder), command, place.image]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as agent:
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"started\n"
            await_file(place.folder / "ready")
            children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()

            for pid in (*map(int, children), agent.pid):
                os.kill(pid, signal.SIGKILL)

            assert len(children) == 1
            assert has_ended(reader, 5)
        os.close(reader)
        assert (place.folder / "saved").exists()
        place.runtime.sweep()

    def test_a_pipe_in_place_of_the_notes(self, place: Place) -> None:
        """Nobody waits for it."""
        make = """python3 -c 'import os; os.mkfifo(os.environ["GRIDTUNE_DIR"] + "/container")'"""

        handle = place.start(make)
        exit_ = wait(handle, 10)
        usage = handle.usage()
        handle.close()

        assert (exit_, usage.cpu_seconds) == (Exit(0), None)


class TestWhatAnEngineCan:
    """Read from what it says of itself."""

    def test_limits_that_it_cannot_set_are_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        """That is told once; what it does not mention, it can."""
        engine = Engine({"CPUSet": False, "MemoryLimit": True})

        options = [engine.limited(Limits(cpus=(0, 2), memory_bytes=5)) for _ in "12"]

        assert options == [{"mem_limit": 5, "memswap_limit": 5}] * 2
        assert [getattr(record, "action", None) for record in caplog.records] == ["limits_missing"]

    def test_all_limits(self) -> None:
        """CPUs by their numbers, or else by time, unless that is all of the node's."""
        engine = Engine({})

        assert engine.limited(Limits(cpus=(0, 2), n_cpus=1)) == {"cpuset_cpus": "0,2"}
        assert engine.limited(Limits(n_cpus=10**6)) == {}
        assert engine.limited(Limits()) == {}

    def test_users_and_namespaces(self) -> None:
        """Payloads have the node's users, and see their own control groups."""
        plain = Engine({"CgroupVersion": "1", "SecurityOptions": ["name=seccomp,profile=default"]})
        other = Engine({"CgroupVersion": "2", "SecurityOptions": ["name=userns", "name=rootless"]})

        assert (plain.userns_mode, plain.cgroupns) == (None, None)
        assert (other.userns_mode, other.cgroupns, other.user, other.own) == ("host", "private", "0:0", None)


@pytest.fixture
def read_only_image(charliecloud: Path, tmp_path: Path) -> Iterator[Path]:
    """An image that nobody can write to, as in CVMFS."""
    if os.getuid() != 0:
        pytest.skip("only root can mount")
    image = tmp_path / "read-only"
    image.mkdir()
    subprocess.run(["mount", "--bind", charliecloud, image], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", image], check=True)
    yield image
    subprocess.run(["umount", image], check=True)


class TestCharliecloud:
    """What only this runtime has to do."""

    @pytest.fixture
    def runtime(self, charliecloud: Path, tmp_path: Path) -> Runtime:
        """One without a guard."""
        return runtimes.load("charliecloud", OrphanGuard(), Cache(tmp_path / "cache", 2**30))

    def test_images_need_no_mount_points(self, runtime: Runtime, read_only_image: Path, tmp_path: Path) -> None:
        """Where they cannot be made, the image's folders are put into a root that has them."""
        place = Place(runtime, tmp_path / "room", str(read_only_image), (tmp_path / "data",))
        place.folder.mkdir()
        (tmp_path / "data").write_text("data\n")

        exit_, output = place.run(f"pwd; python3 -c 'print(1)'; cat {tmp_path}/data; touch /new || touch /bin/new")

        assert output.splitlines()[:3] == ["/gridtune", "1", "data"]
        assert exit_.code != 0

    def test_mount_points_inside_of_a_folder_of_the_image(
        self, runtime: Runtime, read_only_image: Path, tmp_path: Path
    ) -> None:
        """The rest of that folder stays where it is."""
        data = Path("/opt/gridtune-tests")
        data.mkdir(parents=True)
        (data / "file").write_text("data\n")
        place = Place(runtime, tmp_path, str(read_only_image), (data / "file",))

        try:
            _, output = place.run(f"python3 -c 'print(1)'; cat {data}/file")
        finally:
            shutil.rmtree(data)

        assert output == "1\ndata\n"

    def test_links_of_the_image_are_not_followed(
        self, runtime: Runtime, read_only_image: Path, charliecloud: Path, tmp_path: Path
    ) -> None:
        """They would lead somewhere else on this node."""
        (charliecloud / "linked").symlink_to(tmp_path / "elsewhere")
        inputs = (Path("/linked/data"),)

        for image in (charliecloud, read_only_image):
            with pytest.raises(EngineError, match="/linked is a link in the image"):
                Place(runtime, tmp_path, str(image), inputs).start(":")

        (charliecloud / "linked").unlink()
        assert not (tmp_path / "elsewhere").exists()

    def test_a_folder_is_called_by_its_path(self, runtime: Runtime, charliecloud: Path, tmp_path: Path) -> None:
        """It has no digest; a name that leads there may lead elsewhere tomorrow."""
        (tmp_path / "python:1").symlink_to(charliecloud)

        assert runtime.prepare(Image(f"{tmp_path}/python:1"), lambda: True) == str(charliecloud)

    def test_what_is_no_image_is_told(self, runtime: Runtime, tmp_path: Path) -> None:
        """A folder without a shell, no folder at all, a reference where nothing can fetch it."""
        for name, words in (
            (str(tmp_path), "cannot run the image"),
            ("/nowhere", "there is no folder /nowhere"),
            ("python:3.12", "install charliecloud-builders"),
        ):
            with pytest.raises(ImageUnavailable, match=words):
                runtime.prepare(Image(name), lambda: True)

    def test_images_are_fetched_once(
        self, runtime: Runtime, charliecloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By ch-image, of which this test has a stand-in that leaves an image as the real one does."""
        program = tmp_path / "bin" / "ch-image"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh -e\necho "$CH_IMAGE_CACHE $@" >>{tmp_path}/calls\n'
            '[ "$1 $3 $4" = "--storage pull python:3.12" ]\nmkdir -p "$2/img"\n'
            f'cp -a {charliecloud} "$2/img/python+3.12"\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        place = Place(runtime, tmp_path / "room", "python:3.12")
        place.folder.mkdir()

        first, output = place.run("python3 -c 'print(1)'")
        other = runtimes.load("charliecloud", OrphanGuard(), Cache(tmp_path / "cache", 2**30))
        other.prepare(Image("python:3.12", "never"), lambda: True)

        assert (first, output) == (Exit(0), "1\n")
        assert len((tmp_path / "calls").read_text().splitlines()) == 1
        assert (tmp_path / "calls").read_text().startswith("disabled ")

    def test_the_users_own_images_are_found(
        self, runtime: Runtime, charliecloud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where ch-image keeps them."""
        own = tmp_path / "storage" / "img" / "registry.test%mine+2"
        own.parent.mkdir(parents=True)
        own.symlink_to(charliecloud)
        monkeypatch.setenv("CH_IMAGE_STORAGE", str(tmp_path / "storage"))

        assert runtime.prepare(Image("registry.test/mine:2", "never"), lambda: True) == str(charliecloud)

    def test_an_open_network_is_told(
        self, runtime: Runtime, charliecloud: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Once, and only if the task did not ask for it."""
        place = Place(runtime, tmp_path, str(charliecloud))

        place.run(":", Limits(network=True))
        silent = not caplog.records
        place.run(":")
        place.run(":")

        assert silent
        assert [getattr(record, "action", None) for record in caplog.records] == ["network_open"]


class TestApptainer:
    """What only this runtime has to do; checked against the documented command line, for lack of a package."""

    @pytest.fixture
    def runtime(self, apptainer: Apptainer, tmp_path: Path) -> Runtime:
        """One without a guard."""
        return runtimes.load("apptainer", OrphanGuard(), Cache(tmp_path / "cache", 2**30))

    @pytest.fixture
    def place(self, runtime: Runtime, apptainer: Apptainer, tmp_path: Path) -> Place:
        """For its payloads."""
        room = tmp_path / "room"
        room.mkdir()
        return Place(runtime, room, apptainer.image)

    def test_the_command_line(self, place: Place, apptainer: Apptainer, tmp_path: Path) -> None:
        """Contained, without a network, everything mounted by name, secrets nowhere in it."""
        data = tmp_path / 'with, "odd": name'
        data.mkdir()
        place.inputs = (data,)

        exit_, output = place.run("ls -d with*", Limits(gpus=("0", "1")), SECRET="s3cr3t")
        words = apptainer.calls()[-1]["words"]

        assert words[:9] == [
            "--silent",
            "exec",
            "--containall",
            "--cleanenv",
            "--no-home",
            "--pwd=/gridtune",
            f"--mount=type=bind,src={place.folder}/.gridtune/tmp,dst=/tmp",
            f"--mount=type=bind,src={place.folder},dst=/gridtune",
            '--mount=type=bind,"src={0}","dst={0}",ro'.format(str(data).replace('"', '""')),
        ]
        assert words[9:13] == ["--nv", "--net", "--network", "none"]
        assert "s3cr3t" not in " ".join(words)
        assert exit_.code != 0, output

    def test_a_network_that_is_asked_for_is_there(self, place: Place, apptainer: Apptainer) -> None:
        """It is the node's."""
        place.run(":", Limits(network=True))

        assert not {"--net", "--nv"} & set(apptainer.calls()[-1]["words"])

    def test_what_no_shell_can_hold_is_refused(self, place: Place) -> None:
        """As by an operating system."""
        with pytest.raises(ValueError, match="A holds a null character"):
            place.start(":", A="\0")

    @pytest.mark.parametrize("is_known", [True, False])
    def test_sites_without_process_namespaces(self, is_known: bool, tmp_path: Path) -> None:
        """There SIGTERM goes to the process group, and not to all processes of the user."""
        if os.getuid() != 0:
            pytest.skip("only root can make a node that is no great loss")
        command = "sh -c 'trap \"touch saved; exit 7\" TERM; touch ready; sleep 60 & wait'"
        node = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", NODE]

        done = subprocess.run(
            [*node, CHILD_SCRIPT, command, "known" if is_known else ""], cwd=tmp_path, capture_output=True, check=True
        )

        assert done.stdout == b"7 True\n"
        assert (tmp_path / "saved").exists()

    def test_only_some_gpus_are_seen(self, place: Place) -> None:
        """By CUDA programs."""
        _, output = place.run("echo $CUDA_VISIBLE_DEVICES", Limits(gpus=("0", "1")))

        assert output == "0,1\n"

    def test_sigterm_leaves_the_image_in_place(self, place: Place, apptainer: Apptainer) -> None:
        """What serves the image's files does not get the signal, so a payload can load what it needs to save."""
        handle = place.start(
            'trap \'python3 -c "open(\\"saved\\", \\"w\\")"; exit 7\' TERM; touch ready; sleep 60 & wait'
        )
        await_file(place.folder / "ready")

        handle.terminate()
        exit_ = wait(handle)
        handle.close()

        assert exit_ == Exit(7)
        assert (place.folder / "saved").exists()
        assert "the image is gone" not in apptainer.calls()

    def test_images_are_fetched_once_for_all_agents(self, place: Place, apptainer: Apptainer, tmp_path: Path) -> None:
        """Unless the task wants them anew."""
        image = apptainer.image
        cache = Cache(tmp_path / "cache", 2**30)

        digests = {runtimes.load("apptainer", OrphanGuard(), cache).prepare(Image(image), lambda: True) for _ in "12"}
        once = [call["words"] for call in apptainer.calls() if call["words"][0] == "pull"]
        runtimes.load("apptainer", OrphanGuard(), cache).prepare(Image(image, "always"), lambda: True)

        assert digests == {"sif:00010203-0405-0607-0809-0a0b0c0d0e0f"}
        assert [words[-1] for words in once] == [image]
        assert len([call for call in apptainer.calls() if call["words"][0] == "pull"]) == 2

    def test_a_plain_reference_is_one_of_docker(self, runtime: Runtime, apptainer: Apptainer) -> None:
        """As for the other engines."""
        runtime.prepare(Image("registry.test/python:1"), lambda: True)

        assert apptainer.calls()[0]["words"][-1] == "docker://registry.test/python:1"

    def test_files_and_folders_are_taken_as_they_are(
        self, runtime: Runtime, apptainer: Apptainer, charliecloud: Path
    ) -> None:
        """Nothing is fetched for them."""
        file = apptainer.folder / "registry" / "registry.test" / "python:1"

        digests = [runtime.prepare(Image(str(path)), lambda: True) for path in (file, charliecloud)]

        assert digests == ["sif:00010203-0405-0607-0809-0a0b0c0d0e0f", str(charliecloud)]
        assert all("pull" not in call["words"] for call in apptainer.calls())

    def test_what_cannot_be_had_is_told(self, runtime: Runtime) -> None:
        """With what is wrong."""
        for name, words, is_missing in (
            ("docker://registry.test/other", "there is no image", True),
            ("shub://registry.test/other", "Unsupported transport", False),
            ("/nowhere.sif", "there is no /nowhere.sif", False),
            ("nowhere.sif", "write the whole path", False),
        ):
            with pytest.raises(ImageUnavailable, match=words) as raised:
                runtime.prepare(Image(name), lambda: True)
            assert raised.value.is_missing == is_missing

    def test_a_fetch_can_be_ended(self, runtime: Runtime, apptainer: Apptainer, tmp_path: Path) -> None:
        """Nothing of it is left."""
        (apptainer.folder / "bin" / "apptainer").write_text("#!/bin/sh\ntouch $3; sleep 60\n")
        deadline = time.monotonic() + 0.5

        with pytest.raises(FetchInterrupted):
            runtime.prepare(Image("python:3.12"), lambda: time.monotonic() < deadline)

        assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []

    def test_sites_without_network_namespaces(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Payloads run there all the same, and it is said once."""
        monkeypatch.setenv("STAND_IN_NETWORK", "none of yours")
        place.runtime = runtimes.load("apptainer", OrphanGuard(), Cache(place.folder.parent / "cache", 2**30))

        exits = [place.run(":")[0] for _ in "12"]

        assert exits == [Exit(0)] * 2
        assert [record.action for record in caplog.records if hasattr(record, "action")].count("network_open") == 1


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "sh"]], ids=lambda words: words[0])
class TestLifeline:
    """How a container knows that its agent is gone."""

    @pytest.fixture
    def node(self, shell: list[str], tmp_path: Path) -> list[str]:
        """What runs a payload, to be named after it, as the first process of its own few."""
        if os.getuid() != 0 or shutil.which(shell[0]) is None:
            pytest.skip(f"only root can make a node that is no great loss, and it needs {shell[0]}")
        script = ["-c", SCRIPT, "gridtune"]
        return ["env", f"GRIDTUNE_DIR={tmp_path}", "unshare", "--pid", "--fork", "--kill-child", *shell, *script]

    def test_the_payload_lives_as_long_as_its_agent(self, node: list[str], tmp_path: Path) -> None:
        """Whoever writes to the lifeline ends nothing."""
        alive = open_lifeline(tmp_path, None)
        payload = "trap 'exit 4' TERM; touch ready; while :; do sleep 0.1; done"
        with subprocess.Popen([*node, payload, str(tmp_path / "log")], cwd=tmp_path) as first:
            await_file(tmp_path / "ready")
            (tmp_path / "alive").write_text("x\n")
            time.sleep(0.3)
            meanwhile = first.poll()

            assert alive is not None
            os.close(alive)

            assert (meanwhile, first.wait(5)) == (None, 4)

    def test_an_agent_that_is_gone_at_the_start(self, node: list[str], tmp_path: Path) -> None:
        """The pipe has no writer then, which is no reason to wait for one."""
        alive = open_lifeline(tmp_path, None)
        assert alive is not None
        os.close(alive)

        done = subprocess.run([*node, "sleep 60", str(tmp_path / "log")], cwd=tmp_path, timeout=20, check=False)

        assert done.returncode in {137, 143}

    def test_nothing_is_said_of_it(self, node: list[str], tmp_path: Path) -> None:
        """The payload's output is the payload's alone, with and without a lifeline."""
        without = subprocess.run([*node, "echo 1", str(tmp_path / "log")], check=False)
        alive = open_lifeline(tmp_path, None)
        done = subprocess.run([*node, "echo 2; exit 3", str(tmp_path / "log")], check=False)

        assert alive is not None
        os.close(alive)
        assert (without.returncode, done.returncode) == (0, 3)
        assert (tmp_path / "log").read_text() == "1\n2\n"


@pytest.mark.parametrize("name", ["apptainer", "charliecloud"])
def test_a_missing_program_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an agent can say why it cannot run an image."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RuntimeUnavailable, match="in PATH"):
        runtimes.load(name, OrphanGuard(), Cache(tmp_path, 0))
