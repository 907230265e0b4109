"""Images built from our definitions, and the deployment made of them, do what they are for."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
import yaml

from gridtune_common.client import new_request_id
from gridtune_common.protocol import CreateToken, PointState, Scope
from gridtune_steering import agentfile
from real_service import GRIDTUNE, RealService, free_port, wait_for
from servers.ceph import Ceph
from servers.docker import Docker
from servers.images import IMAGE, write_base, write_nginx
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


@pytest.fixture(scope="module")
def steering_image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The service's image, built without a network from wheels."""
    context = tmp_path_factory.mktemp("context") / "source"
    left_out = (
        ".git",
        ".venv",
        ".*_cache",
        ".hypothesis",
        "__pycache__",
        "build",
        "dist",
        "tests",
        "wheels",
        "gridtune-*",
    )
    shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(*left_out))
    subprocess.run(["make", "--quiet", "wheels", f"PYTHON={sys.base_prefix}/bin/python3"], cwd=context, check=True)
    write_base(context.with_name("base"))
    docker.build("localhost/tests/base", context.with_name("base"))
    options = {"BASE_IMAGE": "localhost/tests/base", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/source/wheels"}
    words = [f"--build-arg={name}={text}" for name, text in options.items()]
    docker.build("localhost/tests/steering", context, "--file", str(context / "containers/steering.Dockerfile"), *words)
    return "localhost/tests/steering"


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


@dataclass
class Deployment:
    """What ``deploy/up`` starts, on this machine's network and on free ports of it."""

    docker: Docker
    folder: Path
    port: int
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"https://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Run the one command."""
        subprocess.run([self.folder / "up", "127.0.0.1", "localhost"], env=self.environment, check=True)

    def compose(self, *words: str) -> str:
        """What a command of docker-compose prints."""
        command = ["docker-compose", *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def secrets(self) -> dict[str, bytes]:
        """What was made: name and content of each file."""
        return {path.name: path.read_bytes() for path in (self.folder / "secrets").iterdir()}

    def shown(self) -> str:
        """All logs and command lines."""
        texts = [self.compose("logs", "--no-color")]
        for container in self.compose("ps", "--quiet").split():
            texts.append(self.docker.run("inspect", "--format={{.Path}} {{.Args}} {{.Config.Cmd}}", container))
        return "\n".join(texts)

    def gridtune(self, *words: str) -> str:
        """What our command line prints, with nothing but what ``up`` has made."""
        variables = {
            "GRIDTUNE_SERVER": self.url,
            "GRIDTUNE_CA": f"{self.folder}/secrets/ca.crt",
            "GRIDTUNE_TOKEN_FILE": f"{self.folder}/secrets/operator.token",
        }
        command = [*GRIDTUNE, *words]
        return subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, check=True
        ).stdout


@pytest.fixture(scope="module")
def nginx_image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of nginx; where a program is missing, tests of deployments are skipped, but not in CI."""
    if not all(shutil.which(program) for program in ("docker-compose", "nginx")):
        assert "CI" not in os.environ, "CI has docker-compose and nginx-light"
        pytest.skip("docker-compose or nginx is not installed")
    context = tmp_path_factory.mktemp("nginx")
    write_nginx(context)
    docker.build("localhost/tests/nginx", context)
    return "localhost/tests/nginx"


@pytest.fixture
def deployment(docker: Docker, nginx_image: str, steering_image: str, tmp_path: Path) -> Iterator[Deployment]:
    """A copy of deploy/ for an engine that has no networks: the definitions are changed in that alone."""
    folder, port, inner = tmp_path / "deploy", free_port(), free_port()
    shutil.copytree(ROOT / "deploy", folder, ignore=shutil.ignore_patterns("secrets", ".env", "compose.override.yaml"))
    conf = (folder / "nginx.conf").read_text()
    conf = conf.replace("listen 8443", f"listen 127.0.0.1:{port}").replace("steering:8470", f"127.0.0.1:{inner}")
    (folder / "nginx.conf").write_text(conf)
    definition = yaml.safe_load((folder / "compose.yaml").read_text())
    for service in definition["services"].values():
        service["network_mode"] = "host"
    del definition["services"]["proxy"]["ports"]
    definition["services"]["steering"]["command"] = f"gridtune serve --host 127.0.0.1 --port {inner}"
    (folder / "compose.yaml").write_text(yaml.safe_dump(definition))
    images = {"NGINX_IMAGE": nginx_image, "STEERING_IMAGE": steering_image}
    names = {"DOCKER_HOST": docker.address, "COMPOSE_PROJECT_NAME": "tests", "HTTPS_PORT": str(port)}
    deployment = Deployment(docker, folder, port, {**os.environ, **images, **names})
    yield deployment
    deployment.compose("down", "--volumes")


def evaluate_with_long_logs(deployment: Deployment, folder: Path) -> str:
    """Submit a task and evaluate it with an agent that knows nothing but the proxy; returns the task."""
    train = "import gridtune; print('word ' * 99_999); gridtune.result(loss=gridtune.params()['x'])\n"
    (folder / "train.py").write_text(train)
    (folder / "task.json").write_text(json.dumps(document(points=2, payload=PAYLOAD)))
    said = deployment.gridtune("submit", str(folder / "task.json"), "--json")
    task: str = json.loads(said)["summary"]["id"]
    deployment.gridtune("agent", "--task", task, "--work-dir", str(folder / "work"))
    return task


@pytest.mark.slow
def test_one_command_starts_a_service_behind_tls(deployment: Deployment, tmp_path: Path) -> None:
    """Submit, evaluate and keep a long log through the proxy, trusting the authority that was made for it."""
    deployment.up()

    task = evaluate_with_long_logs(deployment, tmp_path)

    assert json.loads(deployment.gridtune("show", task, "--json"))["summary"]["counts"]["done"] == 2
    assert deployment.gridtune("logs", task, "0").count("word") == 99_999
    assert "signature" not in deployment.compose("logs", "--no-color")
    certificates = [f"{deployment.folder}/secrets/{name}.crt" for name in ("ca", "tls")]
    subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", *certificates], check=True)


@pytest.mark.slow
def test_a_deployment_keeps_objects_in_s3(deployment: Deployment, ceph: Ceph, tmp_path: Path) -> None:
    """Where its settings say so, with credentials from there."""
    client = boto3.client(
        "s3",
        endpoint_url=ceph.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ceph.key_id,
        aws_secret_access_key=ceph.secret,
    )
    client.create_bucket(Bucket="deployment")
    (deployment.folder / "secrets").mkdir()
    (deployment.folder / "secrets" / "settings.env").write_text(
        f"GRIDTUNE_STEERING_OBJECT_STORE=s3://deployment/here?endpoint={ceph.endpoint}\n"
        f"GRIDTUNE_STEERING_S3_KEY_ID={ceph.key_id}\nGRIDTUNE_STEERING_S3_SECRET={ceph.secret}\n"
    )
    deployment.up()

    task = evaluate_with_long_logs(deployment, tmp_path)

    assert deployment.gridtune("logs", task, "0").count("word") == 99_999
    assert client.list_objects_v2(Bucket="deployment", Prefix="here/")["KeyCount"] == 2
    assert ceph.secret not in deployment.shown()


@pytest.mark.slow
def test_a_deployments_secrets_stay_where_they_are(deployment: Deployment) -> None:
    """They are their owner's alone, the same after the next start, and in no command line and no log."""
    deployment.up()
    before = deployment.secrets()

    deployment.up()

    assert deployment.secrets() == before
    files = [deployment.folder / "secrets", *(deployment.folder / "secrets").iterdir()]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    shown = deployment.shown()
    assert before["operator.token"].decode().strip() not in shown
    assert before["tls.key"].decode().splitlines()[1] not in shown


def done(service: RealService, task: str) -> list[int]:
    """The numbers of the task's points that are done."""
    return [point.number for point in service.export(task).points if point.state is PointState.DONE]
