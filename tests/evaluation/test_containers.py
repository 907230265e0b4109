"""What becomes of evaluations in containers of a real engine, when all goes well and when it does not."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gridtune_common.protocol import Advice, Fail, FailureCause, ObjectKind, Release, ReleaseCause, Tell
from gridtune_evaluation.runtimes.port import RuntimeUnavailable
from gridtune_evaluation.slot import End
from gridtune_evaluation.steering import Final
from gridtune_evaluation.testing import FakeCarrier, FakeSteering, make_lease, make_payload
from payload_scripts import agent_running, report, result, run_agent, steps
from servers.docker import Docker
from servers.images import IMAGE


@pytest.fixture(autouse=True)
def engine(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    """Agents use the tests' engine; no test leaves a container behind."""
    monkeypatch.setenv("DOCKER_HOST", docker.address)
    monkeypatch.setenv("GRIDTUNE_CONTAINER_NETWORK", "host")
    yield docker
    assert docker.run("ps", "--all", "--quiet") == ""


def evaluate(work: Path, command: str, *, image: str = IMAGE, **payload: Any) -> Final:
    """The last word about one point."""
    lease = make_lease(x=3, kind="a b")
    fake = FakeSteering(make_payload(command, image=image, **payload), [lease], files=payload.get("files"))
    run_agent(fake, work, carrier=FakeCarrier())
    [(_, word)] = fake.ends
    return word


def failed(word: Final) -> Fail:
    """A last word that is a failure."""
    assert isinstance(word, Fail), word
    return word


def test_an_image_that_knows_nothing_of_gridtune(tmp_path: Path, docker: Docker) -> None:
    """Input, variables, placeholders, files and result are those of plain processes; the image's digest is noted."""
    code = "import json, os; p = json.load(open('input.json')); assert os.environ['GRIDTUNE_PARAM_KIND'] == 'a b'"
    command = f"""python3 -c "{code}; print('loss:', p['x'] * 2)" && cat shipped && test {{kind}} = 'a b'"""

    word = evaluate(
        tmp_path, command, files={"shipped": b"here"}, result={"stdout": {"loss": r"loss: (\d+)"}}, pull="never"
    )

    assert isinstance(word, Tell), word
    assert word.metrics == {"loss": 6}
    assert word.output_tail == "loss: 6\nhere"
    assert word.usage is not None
    assert word.usage.runtime == "docker"
    assert word.usage.image == docker.run("images", "--quiet", "--no-trunc", IMAGE)


def test_who_and_where_a_payload_is(tmp_path: Path) -> None:
    """Not root, no capabilities, a root that cannot be written to, no network; but a home and temporary files."""
    command = steps(
        "id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status",
        "touch /etc/x 2>&1; touch $HOME/h && touch /tmp/t && touch $TMPDIR/d && echo written",
        "ls /sys/class/net; env | grep -c GRIDTUNE_TOKEN",
        "exit 3",
    )

    word = failed(evaluate(tmp_path, command))

    assert word.output_tail.splitlines() == [
        "65534",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "touch: cannot touch '/etc/x': Read-only file system",
        "written",
        "lo",
        "0",
    ]


def test_the_network_only_if_asked_for(tmp_path: Path) -> None:
    """With `resources.network` a server on this machine can be reached, else not."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = f"import socket; socket.create_connection(('127.0.0.1', {server.server_port}), 5)"
    command = f'python3 -c "{code}" && {result(loss=1)}'

    without = evaluate(tmp_path / "a", command)
    with_network = evaluate(tmp_path / "b", command, resources={"network": True})
    server.shutdown()
    server.server_close()

    assert isinstance(without, Fail)
    assert isinstance(with_network, Tell), with_network


def test_inputs_are_seen_and_cannot_be_changed(tmp_path: Path) -> None:
    """Links to the node's cache lead somewhere in the container, too; also `file://` ones."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("7")
    source = {"url": (tmp_path / "data").as_uri()}
    made = {"command": "echo 5 > {target}"}
    command = "cat in/a.txt made; echo 8 > in/a.txt; echo 8 > made; " + result(loss=1)

    word = evaluate(tmp_path / "work", command, data={"in": source, "made": made})

    assert isinstance(word, Tell), word
    assert word.output_tail.startswith("75\n")
    assert word.output_tail.count("Read-only file system") == 2
    assert (tmp_path / "data" / "a.txt").read_text() == "7"


def test_too_much_memory(tmp_path: Path) -> None:
    """The point fails, with the limit in the message, and what was asked for."""
    greedy = "kept = [bytearray(2**20 * 8) for _ in range(40)]"

    word = failed(evaluate(tmp_path, f"python3 -c '{greedy}'", resources={"memory": "100MiB"}))

    assert word.cause is FailureCause.OUT_OF_MEMORY
    assert word.message.startswith("killed because it took more memory than resources.memory (100 MiB)")


def test_an_image_that_does_not_exist(tmp_path: Path) -> None:
    """The registry's word is the message's; nothing is left of the attempt."""
    with registry({}) as address:
        word = failed(evaluate(tmp_path, "true", image=f"{address}/no/such:image"))

    assert word.cause is FailureCause.NO_IMAGE
    assert "there is no image" in word.message
    assert "correct payload.image" in word.message


def test_a_registry_that_is_away(tmp_path: Path) -> None:
    """Nobody listens there."""
    word = failed(evaluate(tmp_path, "true", image="localhost:1/some/image:1"))

    assert word.cause is FailureCause.INFRASTRUCTURE
    assert word.message.startswith("the image localhost:1/some/image:1 cannot be fetched: ")


def test_an_image_that_must_not_be_fetched(tmp_path: Path) -> None:
    """With `pull: never` what is not there is not there."""
    word = failed(evaluate(tmp_path, "true", image="localhost:1/some/image:1", pull="never"))

    assert word.message == "the image localhost:1/some/image:1 is not on this node, and payload.pull is never"


def test_an_image_without_a_shell(tmp_path: Path, docker: Docker) -> None:
    """The message says what an image needs."""
    empty = tmp_path / "empty.tar"
    subprocess.run(["tar", "-cf", str(empty), "-C", str(tmp_path), "--files-from", "/dev/null"], check=True)
    docker.run("import", str(empty), "localhost/tests/empty:1")

    word = failed(evaluate(tmp_path / "work", "true", image="localhost/tests/empty:1", pull="never"))

    assert word.cause is FailureCause.INFRASTRUCTURE
    assert "the image needs a shell at /bin/sh" in word.message


def test_a_payload_that_ignores_sigterm(tmp_path: Path) -> None:
    """It is killed when its grace is over, and its point goes back."""
    command = f"trap '' TERM; {report(step=1, loss=5)}; while :; do sleep 0.1; done"
    fake = FakeSteering(make_payload(command, image=IMAGE, grace="1s"), [make_lease(heartbeat_seconds=0.1)])

    with agent_running(fake, tmp_path):
        fake.wait_until(lambda fake: bool(fake.reports))
        fake.advise(Advice.STOP, "enough")
        fake.wait_until(lambda fake: bool(fake.ends))

    [(_, word)] = fake.ends
    assert isinstance(word, Release)
    assert word.cause is ReleaseCause.STOPPED


def test_a_container_that_somebody_stops(tmp_path: Path, docker: Docker) -> None:
    """The training saves and leaves; that counts as a failed attempt, from which the next one goes on."""
    save = "echo 1 > state; exit 0"
    command = f"trap '{save}' TERM; {report(step=1, loss=5)}; while :; do sleep 0.1; done"
    payload = make_payload(command, image=IMAGE, checkpoint={"paths": ["state"], "interval": "1h"})
    fake = FakeSteering(payload, [make_lease()])

    with agent_running(fake, tmp_path, carrier=FakeCarrier()):
        fake.wait_until(lambda fake: bool(fake.reports))
        docker.run("stop", docker.run("ps", "--quiet"))
        fake.wait_until(lambda fake: bool(fake.ends))

    word = failed(fake.ends[0][1])
    assert word.cause is FailureCause.SIGNAL
    assert "was asked to leave by SIGTERM from outside" in word.message
    assert [upload.kind for _, upload in fake.uploads].count(ObjectKind.CHECKPOINT) == 1


def test_a_full_disk(small_disk: Path) -> None:
    """That is the node's failure, not the training's."""
    word = failed(evaluate(small_disk, "dd if=/dev/zero of=large bs=1M count=64; exit 1"))

    assert word.cause is FailureCause.INFRASTRUCTURE
    assert word.message.startswith(f"the disk of {small_disk}")
    assert "is full" in word.message


def test_two_slots_have_cpus_of_their_own(tmp_path: Path) -> None:
    """Seen from inside, by every payload; one that takes too much memory dies alone."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one CPU")
    mask = "sum(2**c for c in os.sched_getaffinity(0))"
    show = f"import json, os; json.dump({{'loss': 1, 'cpus': {mask}}}, open('output.json', 'w'))"
    greedy = "kept = [bytearray(2**20 * 8) for _ in range(40)]"
    command = f'sleep 1; python3 -c "{show}"; test {{greedy}} = no || exec python3 -c "{greedy}"'
    payload = make_payload(command, image=IMAGE, parameters=["greedy"], resources={"memory": "100MiB"})
    fake = FakeSteering(payload, [make_lease(0, greedy="no"), make_lease(1, greedy="yes"), make_lease(2, greedy="no")])

    run_agent(fake, tmp_path, slots=2)

    words = {evaluation: word for evaluation, word in fake.ends}
    cpus = [int(word.metrics["cpus"] or 0) for word in words.values() if isinstance(word, Tell)]
    assert failed(words["e1-1"]).cause is FailureCause.OUT_OF_MEMORY
    assert len(cpus) == 2
    assert all(mask & mask - 1 == 0 for mask in cpus), "each has one"
    assert {ask.resources.cpus for ask in fake.asks} == {1}


def test_containers_of_dead_agents_are_removed(tmp_path: Path, docker: Docker) -> None:
    """What neither the agent nor its warden could end, the next agent ends; those of living agents go on."""
    folder = tmp_path / "t1"
    folder.mkdir(parents=True)
    container = ["run", "--detach", "--network=none", "--entrypoint=/bin/sleep", "--label"]
    docker.run(*container, f"org.gridtune.room={folder}/3-1-dead", IMAGE, "60")
    elsewhere = docker.run(*container, f"org.gridtune.room={tmp_path}/unseen/3-1-x", IMAGE, "60")

    run_agent(FakeSteering(make_payload(result(loss=1), image=IMAGE), [make_lease()]), tmp_path)

    assert docker.run("ps", "--all", "--quiet", "--no-trunc") == elsewhere
    docker.run("rm", "--force", elsewhere)


def test_no_engine_is_told_before_the_first_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent says why each way to run images is not there."""
    fake = FakeSteering(make_payload("true", image=IMAGE), [make_lease()])

    with monkeypatch.context() as bare:
        bare.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        bare.setenv("CONTAINER_HOST", f"unix://{tmp_path}/none.sock")
        bare.setenv("PATH", str(tmp_path))
        with pytest.raises(RuntimeUnavailable, match=r"nothing that runs images \(docker: no engine answers at") as it:
            run_agent(fake, tmp_path)

    assert not fake.ends
    assert all(f"{name}: " in str(it.value) for name in ("podman", "apptainer", "charliecloud"))


def test_the_agent_inside_the_image(tmp_path: Path) -> None:
    """Told so, it runs the command without the image."""
    fake = FakeSteering(make_payload(result(loss=1), image="some/image"), [make_lease()])

    assert run_agent(fake, tmp_path, runtime="process") is End.TASK_ENDED
    assert isinstance(fake.ends[0][1], Tell)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "none", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)  # the engine still has it


@contextmanager
def registry(images: dict[str, Any]) -> Iterator[str]:
    """A registry on this machine that has no image; its address."""

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_base = self.path == "/v2/"
            body = {} if is_base else {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            self.send_response(200 if is_base else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
