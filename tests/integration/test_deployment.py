"""What one command starts: a service behind TLS on PostgreSQL and an object store, which loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from gridtune_common import wire
from gridtune_common.client import Client
from gridtune_common.protocol import EvaluationState, Export, PointState, TaskState
from real_service import GRIDTUNE, free_port, wait_for
from servers import stand_ins
from servers.ceph import Ceph
from servers.docker import Docker
from service_bench import document

ROOT = Path(__file__).parents[2]
PROGRAMS = ("docker-compose", "nginx", "curl", "openssl", "postgres", "radosgw")
#: Sixteen steps, each of which changes a state that a later worker goes on with.
TRAIN = """
import json, os, signal, sys, time
import gridtune
leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(1))
step = json.load(open("state.json")) if os.path.exists("state.json") else 0
while step < 16:
    time.sleep(0.4)
    step += 1
    with open("draft", "w") as draft:
        json.dump(step, draft)
    os.replace("draft", "state.json")
    gridtune.report(step, loss=step)
    if leaving:
        sys.exit(0)
print("word " * 9_999)
gridtune.result(loss=(gridtune.params()["x"] - 1) ** 2)
"""


@dataclass
class Deployment:
    """What ``deploy/up`` starts, on this machine's network and on free ports of it."""

    docker: Docker
    folder: Path
    port: int
    environment: Mapping[str, str]
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"https://127.0.0.1:{self.port}"

    def up(self, *names: str) -> None:
        """Run the one command."""
        done = subprocess.run(
            [self.folder / "up", *names], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def compose(self, *words: str) -> str:
        """What a command of docker-compose prints."""
        command = ["docker-compose", *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def container(self, service: str) -> str:
        """The id of a service's container; empty if there is none."""
        return self.compose("ps", "--quiet", service).strip()

    def look(self, service: str, what: str) -> str:
        """What Docker knows of a service's container."""
        return self.docker.run("inspect", "--format", what, self.container(service))

    def kill(self, service: str) -> None:
        """Kill a container's first process by ``kill -9``, and wait until Docker has started another one."""
        pid = int(self.look(service, "{{.State.Pid}}"))
        os.kill(pid, signal.SIGKILL)
        wait_for("a new life", lambda: int(self.look(service, "{{.State.Pid}}")) not in (0, pid))

    def wait_for_health(self, service: str) -> None:
        """Wait until Docker calls a container healthy."""
        wait_for(f"health of {service}", lambda: self.look(service, "{{.State.Health.Status}}") == "healthy")

    def secrets(self) -> dict[str, bytes]:
        """What was made: path and content of each file."""
        folder = self.folder / "secrets"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def shown(self) -> str:
        """All logs and command lines."""
        texts = [self.compose("logs", "--no-color")]
        for container in self.compose("ps", "--quiet").split():
            texts.append(self.docker.run("inspect", "--format={{.Path}} {{.Args}} {{.Config.Cmd}}", container))
        return "\n".join(texts)

    def command(self, *words: str) -> tuple[list[str], Mapping[str, str]]:
        """Our command line, with nothing but what ``up`` has made."""
        variables = {
            "GRIDTUNE_SERVER": self.url,
            "GRIDTUNE_CA": f"{self.folder}/secrets/ca.crt",
            "GRIDTUNE_TOKEN_FILE": f"{self.folder}/secrets/operator.token",
        }
        return [*GRIDTUNE, *words], {**os.environ, **variables}

    def gridtune(self, *words: str) -> str:
        """What our command line prints."""
        command, environment = self.command(*words)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def start_agent(self, task: str, work: Path) -> subprocess.Popen[bytes]:
        """Start an agent that knows nothing but the proxy."""
        command, environment = self.command("agent", "--task", task, "--slots", "2", "--work-dir", str(work))
        agent = subprocess.Popen(command, env=environment)
        self.agents.append(agent)
        return agent

    def end(self) -> None:
        """End whatever still runs, and remove what it has stored."""
        for agent in self.agents:
            agent.kill()
            agent.wait()
        self.compose("down", "--volumes", "--timeout", "1")

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """A client with the operator's token."""
        token = (self.folder / "secrets" / "operator.token").read_text().strip()
        authority = str(self.folder / "secrets" / "ca.crt")
        with contextlib.closing(Client(self.url, token, retry_for=60, verify=authority)) as client:
            yield client


@pytest.fixture(scope="module")
def own_images(docker: Docker, steering_image: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Images of what this machine has; where a program is missing, deployments are skipped, but not in CI."""
    path = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    if missing := [program for program in PROGRAMS if shutil.which(program, path=path) is None]:
        assert "CI" not in os.environ, f"CI has {', '.join(PROGRAMS)}"
        pytest.skip(f"{', '.join(missing)}: not installed")
    context = tmp_path_factory.mktemp("images")
    writers = {"nginx": stand_ins.write_nginx, "postgres": stand_ins.write_postgres, "ceph": stand_ins.write_ceph}
    for name, write in writers.items():
        write(context / name)
        docker.build(f"localhost/tests/{name}", context / name)
        shutil.rmtree(context / name)
    definition = str(ROOT / "containers" / "objectstore.Dockerfile")
    base = "--build-arg=BASE_IMAGE=localhost/tests/ceph"
    docker.build("localhost/tests/objectstore", ROOT / "containers", "--file", definition, base)
    return {
        "NGINX_IMAGE": "localhost/tests/nginx",
        "POSTGRES_IMAGE": "localhost/tests/postgres",
        "OBJECTSTORE_IMAGE": "localhost/tests/objectstore",
        "STEERING_IMAGE": steering_image,
    }


@pytest.fixture(scope="module")
def deployment(
    docker: Docker, own_images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A copy of deploy/ for an engine that has no networks: the definitions are changed in that alone."""
    folder = tmp_path_factory.mktemp("deployment") / "deploy"
    shutil.copytree(ROOT / "deploy", folder, ignore=shutil.ignore_patterns("secrets", ".env", "compose.override.yaml"))
    shutil.copytree(ROOT / "containers", folder.with_name("containers"))
    port, web, database, objects, monitor = (free_port() for _ in range(5))
    addresses = {
        "listen 8443": f"listen 127.0.0.1:{port}",
        "127.0.0.1:8443": f"127.0.0.1:{port}",
        "web:8470": f"127.0.0.1:{web}",
        "8470": str(web),
        "0.0.0.0": "127.0.0.1",  # noqa: S104
        "postgres:5432": f"127.0.0.1:{database}",
        "objectstore:8480": f"127.0.0.1:{objects}",
    }
    for name in ("nginx.conf", "compose.yaml", "up"):
        text = (folder / name).read_text()
        for old, new in addresses.items():
            text = text.replace(old, new)
        (folder / name).write_text(text)
    definition: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())
    for service in definition["services"].values():
        service["network_mode"] = "host"
    del definition["services"]["proxy"]["ports"]
    definition["services"]["postgres"]["environment"] = {"PGPORT": str(database)}
    definition["services"]["objectstore"]["environment"] |= {
        "OBJECTSTORE_LISTEN": f"127.0.0.1:{objects}",
        "OBJECTSTORE_MONITOR_PORT": str(monitor),
    }
    (folder / "compose.yaml").write_text(yaml.safe_dump(definition))
    names = {
        "DOCKER_HOST": docker.address,
        "COMPOSE_PROJECT_NAME": "tests",
        "HTTPS_PORT": str(port),
        "OBJECTSTORE_GIB": "2",
    }
    deployment = Deployment(docker, folder, port, {**os.environ, **own_images, **names})
    yield deployment
    deployment.end()


def submit(deployment: Deployment, folder: Path, points: int) -> str:
    """Submit a task of trainings with checkpoints by the command line; returns its id."""
    rule = {"paths": ["state.json"], "interval": "0.5s"}
    payload = {"command": "python3 train.py", "files": ["train.py"], "checkpoint": rule, "grace": "5s"}
    (folder / "train.py").write_text(TRAIN)
    (folder / "task.json").write_text(json.dumps(document(points=points, payload=payload)))
    said = deployment.gridtune("submit", str(folder / "task.json"), "--json")
    task: str = json.loads(said)["summary"]["id"]
    return task


def export(client: Client, task: str) -> Export:
    """All that is known of a task."""
    return wire.decode(Export, json.loads(client.export(task)))


def wait_for_reports(client: Client, task: str, n: int) -> None:
    """Wait until trainings have reported so many more steps."""
    before = len(export(client, task).reports)
    wait_for(f"{n} reports", lambda: len(export(client, task).reports) >= before + n, pace=0.5)


def n_repeated(exported: Export) -> int:
    """Steps that were trained more than once."""
    point_of = {evaluation.id: evaluation.point for evaluation in exported.evaluations}
    trained = Counter((point_of[report.evaluation], report.step) for report in exported.reports)
    return sum(trained.values()) - len(trained)


@pytest.mark.slow
def test_one_command_starts_a_service_that_loses_nothing(deployment: Deployment, tmp_path: Path) -> None:
    """A task goes on from its checkpoints in the object store, though its worker leaves and all else is killed."""
    deployment.up("127.0.0.1", "localhost")
    task = submit(deployment, tmp_path, points=8)
    with deployment.client() as client:
        first = deployment.start_agent(task, tmp_path / "first")
        wait_for_reports(client, task, 10)
        first.terminate()
        assert first.wait(30) == 0
        second = deployment.start_agent(task, tmp_path / "second")
        for service in ("web", "host", "postgres"):
            wait_for_reports(client, task, 6)
            deployment.kill(service)
        wait_for_reports(client, task, 6)
        deployment.docker.run("restart", *map(deployment.container, ("postgres", "web", "host", "proxy")))
        still_running = client.task(task).summary.state is TaskState.RUNNING
        assert second.wait(120) == 0
        exported = export(client, task)

    assert still_running
    assert [point.state for point in exported.points] == [PointState.DONE] * 8
    states = Counter(evaluation.state for evaluation in exported.evaluations)
    assert states == {EvaluationState.DONE: 8, EvaluationState.RELEASED: 2}
    assert sum(evaluation.resumed_from is not None for evaluation in exported.evaluations) == 2
    assert n_repeated(exported) == 0
    assert deployment.gridtune("logs", task, "0").count("word") == 9_999
    assert "ignature" not in deployment.compose("logs", "--no-color")


@pytest.mark.slow
def test_the_containers_are_healthy_and_nobody_is_root(deployment: Deployment) -> None:
    """Each runs as a user that may do nothing else; the last one that made the database has ended."""
    deployment.up("127.0.0.1", "localhost")
    services = ["proxy", "web", "host", "postgres", "objectstore"]
    for service in services:
        deployment.wait_for_health(service)

    owners = {os.stat(f"/proc/{deployment.look(service, '{{.State.Pid}}')}").st_uid for service in services}
    capabilities = {deployment.look(service, "{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}}") for service in services}

    assert 0 not in owners
    assert capabilities == {"[] [ALL]"}
    assert deployment.look("migrate", "{{.State.Status}} {{.State.ExitCode}}") == "exited 0"


@pytest.mark.slow
def test_a_deployments_secrets_stay_where_they_are(deployment: Deployment) -> None:
    """They are their owner's alone, the same after the next start, and in no command line and no log."""
    deployment.up("127.0.0.1", "localhost")
    before = deployment.secrets()

    deployment.up()

    assert deployment.secrets() == before
    files = [path for path in (deployment.folder / "secrets").glob("**/*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in [deployment.folder / "secrets", *files]} == {0}
    shown = deployment.shown()
    for name in ("operator.token", "database.key", "objects.key"):
        assert before[name].decode().strip() not in shown
    assert before["tls.key"].decode().splitlines()[1] not in shown
    certificates = [f"{deployment.folder}/secrets/{name}.crt" for name in ("ca", "tls")]
    subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", *certificates], check=True)


@pytest.mark.slow
def test_a_deployment_keeps_objects_in_an_s3_of_yours(deployment: Deployment, ceph: Ceph, tmp_path: Path) -> None:
    """Where its settings say so, with credentials from there, and without a store of its own."""
    client = boto3.client(
        "s3",
        endpoint_url=ceph.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ceph.key_id,
        aws_secret_access_key=ceph.secret,
    )
    client.create_bucket(Bucket="deployment")
    settings = deployment.folder / "secrets" / "settings.env"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(
        f"GRIDTUNE_STEERING_OBJECT_STORE=s3://deployment/here?endpoint={ceph.endpoint}\n"
        f"GRIDTUNE_STEERING_S3_KEY_ID={ceph.key_id}\nGRIDTUNE_STEERING_S3_SECRET={ceph.secret}\n"
    )
    deployment.up("127.0.0.1", "localhost")

    task = submit(deployment, tmp_path, points=1)
    assert deployment.start_agent(task, tmp_path / "work").wait(60) == 0

    assert deployment.gridtune("logs", task, "0").count("word") == 9_999
    assert client.list_objects_v2(Bucket="deployment", Prefix="here/")["KeyCount"] >= 2
    assert deployment.container("objectstore") == ""
    assert ceph.secret not in deployment.shown()
    settings.write_text("")
