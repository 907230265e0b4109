"""Images built from our definitions do what they are for."""

from __future__ import annotations

import io
import json
import os
import subprocess
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import CreateToken, PointState, Scope
from gridtune_steering import agentfile
from real_service import GRIDTUNE, RealService, wait_for
from servers.docker import Docker
from servers.images import IMAGE
from service_bench import document

ROOT = Path(__file__).parents[2]
#: Somebody without a name, as clusters like it.
ANYBODY = "12345:12345"
TRAIN = "import gridtune; gridtune.result(loss=(gridtune.params()['x'] - 1) ** 2)\n"
PAYLOAD = {"command": "python3 train.py", "files": ["train.py"]}


def test_an_image_with_the_agent_evaluates_its_own_tasks(service: RealService, docker: Docker, tmp_path: Path) -> None:
    """The payload of a task that names the image runs beside the agent in it, whoever the user is."""
    agentfile.write(agentfile.agent_file(), tmp_path / "dist")
    image = "localhost/tests/with-agent"
    definition = str(ROOT / "containers" / "evaluation.Dockerfile")
    docker.build(image, tmp_path / "dist", "--file", definition, f"--build-arg=BASE_IMAGE={IMAGE}")
    task = service.submit(document(points=2, payload={**PAYLOAD, "image": image}), train_py=TRAIN)
    with service.client() as client:
        secret = client.create_token(CreateToken(new_request_id(), Scope.TASK, task=task)).secret
    flags = ["--rm", "--network=host", f"--user={ANYBODY}", f"--env=GRIDTUNE_TOKEN={secret}"]

    docker.run("run", *flags, image, "gridtune-agent", "--server", service.url, "--task", task)

    assert [point.state for point in service.export(task).points] == [PointState.DONE] * 2


@dataclass
class Container:
    """The service in a container on this machine's network, with its state in a volume."""

    docker: Docker
    image: str
    service: RealService
    id: str = field(default="", init=False)

    def start(self) -> None:
        """Start it and wait until Docker calls it healthy."""
        listen = ["gridtune", "serve", "--host", "127.0.0.1", "--port", str(self.service.port)]
        self.id = self.docker.run(
            "run", "--detach", "--init", "--network=host", "--volume=state:/data", self.image, *listen
        )
        self.wait()
        (self.service.folder / "data").mkdir()
        (self.service.folder / "data" / "operator.token").write_text(
            self.docker.run("exec", self.id, "cat", "/data/operator.token")
        )

    def wait(self) -> None:
        """Wait until it is healthy."""
        wait_for("health", lambda: self.look("{{.State.Health.Status}}") == "healthy")

    def look(self, what: str) -> str:
        """What Docker knows of it."""
        return self.docker.run("inspect", "--format", what, self.id)


@pytest.fixture
def container(docker: Docker, steering_image: str, tmp_path: Path) -> Iterator[Container]:
    """A healthy service."""
    container = Container(docker, steering_image, RealService(tmp_path))
    container.start()
    yield container
    container.service.end()
    docker.run("rm", "--force", "--volumes", container.id)
    docker.run("volume", "rm", "state")


@pytest.mark.slow
def test_the_services_image_holds_no_secret(docker: Docker, steering_image: str) -> None:
    """Its user is nobody's name, its data folder is empty, and it does not say where packages came from."""
    [image] = json.loads(docker.run("image", "inspect", steering_image))
    history = docker.run("history", "--no-trunc", steering_image)
    listed = docker.run("run", "--rm", "--network=none", steering_image, "sh", "-c", "ls -A /data; id -u")

    assert (image["Config"]["User"], listed) == ("10001:10001", "10001")
    assert "PIP_" not in history + json.dumps(image)


@pytest.mark.slow
def test_the_service_in_a_container_loses_nothing(container: Container, tmp_path: Path) -> None:
    """Submitted by the command line, killed with its container in mid-task, it goes on where it was."""
    service = container.service
    train = "import time, gridtune; time.sleep(0.5); gridtune.result(loss=gridtune.params()['x'])\n"
    (tmp_path / "train.py").write_text(train)
    (tmp_path / "task.json").write_text(json.dumps(document(points=8, payload=PAYLOAD)))
    submit = [*GRIDTUNE, "submit", str(tmp_path / "task.json"), "--server", service.url, "--json"]
    environment = {**os.environ, "GRIDTUNE_TOKEN": service.token}
    said = subprocess.run(submit, env=environment, capture_output=True, text=True, check=True).stdout
    task = json.loads(said)["summary"]["id"]
    agent = service.start_agent(task)
    wait_for("results", lambda: done(service, task) if len(done(service, task)) >= 2 else None)

    container.docker.run("kill", container.id)
    container.docker.run("start", container.id)
    container.wait()

    assert agent.wait(60) == 0
    assert len(done(service, task)) == 8
    assert len(service.export(task).evaluations) == 8


@pytest.mark.slow
def test_the_service_in_a_container_hands_out_agents_for_python_39(container: Container) -> None:
    """Whatever Python it runs on itself."""
    address = f"{container.service.url}/api/v1/agent/{agentfile.NAME}"
    with urllib.request.urlopen(address) as answer, zipfile.ZipFile(io.BytesIO(answer.read())) as file:  # noqa: S310
        main = file.read("__main__.py").decode()

    assert "needs Python 3.9 or newer" in main


def done(service: RealService, task: str) -> list[int]:
    """The numbers of the task's points that are done."""
    return [point.number for point in service.export(task).points if point.state is PointState.DONE]
