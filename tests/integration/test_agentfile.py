"""The agent in one file does the whole work of an agent, wherever there is a Python."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import CreateToken, PointState, Scope
from gridtune_steering import agentfile
from old_python import PYTHON39
from real_service import RealService
from servers.docker import Docker
from servers.images import IMAGE
from service_bench import document

ROOT = Path(__file__).parents[2]
#: It also finds the payload's side of gridtune, and none of the agent's libraries.
TRAIN = """
import importlib.util, gridtune
assert not [name for name in ("requests", "urllib3") if "gridtune" in str(importlib.util.find_spec(name))]
gridtune.report(1, loss=9)
gridtune.result(loss=(gridtune.params()["x"] - 1) ** 2)
"""
#: Fetch, verify, run: what a job does on a node that has nothing but a Python.
JOB = """
set -e
cd /tmp
python3 -c 'import urllib.request
for name in ("gridtune-agent.pyz", "gridtune-agent.pyz.sha256"):
    urllib.request.urlretrieve("SERVER/api/v1/agent/" + name, name)'
sha256sum --check gridtune-agent.pyz.sha256
exec python3 gridtune-agent.pyz --server SERVER --token-file /job/token --task TASK
"""


def token_for(service: RealService, task: str) -> str:
    """What travels to worker nodes."""
    with service.client() as client:
        return client.create_token(CreateToken(new_request_id(), Scope.TASK, task=task)).secret


def submit(service: RealService, python: str, points: int = 3) -> str:
    """A task whose training is run by a Python."""
    payload = {"command": f"{python} train.py", "files": ["train.py"]}
    return service.submit(document(points=points, payload=payload), train_py=TRAIN)


def states(service: RealService, task: str) -> list[PointState]:
    """How far the task's points have come."""
    return [point.state for point in service.export(task).points]


def fetch(service: RealService, folder: Path) -> str:
    """The agent, from the service."""
    path = str(folder / agentfile.NAME)
    address = f"{service.url}/api/v1/agent/{agentfile.NAME}"
    subprocess.run(["curl", "--fail", "--silent", "--output", path, address], check=True)
    return path


@pytest.fixture
def service39(tmp_path: Path) -> Iterator[RealService]:
    """A service that has the agent's libraries for Python 3.9."""
    if PYTHON39 is None:
        assert "CI" not in os.environ, "CI has Python 3.9"
        pytest.skip("no Python 3.9 here")
    libraries = tmp_path / "libraries"
    pip = [PYTHON39, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(libraries)]
    subprocess.run([*pip, "-r", str(ROOT / "agent-constraints.txt")], check=True)
    service = RealService(tmp_path, settings={"GRIDTUNE_STEERING_AGENT_LIBRARIES": str(libraries)})
    service.start()
    yield service
    service.end()


def test_it_runs_on_python_39(service39: RealService, tmp_path: Path) -> None:
    """A whole task on the oldest Python, which sees nothing that is installed."""
    assert PYTHON39 is not None
    task = submit(service39, PYTHON39)
    agent = [PYTHON39, "-I", "-S", fetch(service39, tmp_path), "--server", service39.url, "--task", task]

    run = subprocess.run(
        [*agent, "--work-dir", str(tmp_path / "work")],
        env={"PATH": os.environ["PATH"], "GRIDTUNE_TOKEN": token_for(service39, task)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert run.returncode == 0, run.stderr
    assert states(service39, task) == [PointState.DONE] * 3


def test_it_brings_certificates(service39: RealService, tmp_path: Path) -> None:
    """A node may have none; the file that TLS needs of them is unpacked, also by the oldest Python."""
    assert PYTHON39 is not None
    code = "import sys; sys.path.insert(0, sys.argv[1]); import requests, ssl; print('.pyz' in requests.__file__);"
    code += "print(len(ssl.create_default_context(cafile=requests.certs.where()).get_ca_certs()) > 50)"

    run = subprocess.run(
        [PYTHON39, "-I", "-c", code, fetch(service39, tmp_path)], capture_output=True, text=True, check=True
    )

    assert (run.stdout, run.stderr) == ("True\nTrue\n", "")


def test_it_runs_in_a_bare_container(service: RealService, docker: Docker, tmp_path: Path) -> None:
    """Fetched, verified and run by a job in an image that has a Python and a shell."""
    task = submit(service, "python3")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "token").write_text(token_for(service, task))
    job = JOB.replace("SERVER", service.url).replace("TASK", task)

    said = docker.run("run", "--rm", "--network=host", f"--volume={tmp_path}/job:/job:ro", IMAGE, "sh", "-c", job)

    assert said == "gridtune-agent.pyz: OK"
    assert states(service, task) == [PointState.DONE] * 3


def test_the_documented_job_works(service: RealService, tmp_path: Path) -> None:
    """The script of docs/agents.md, as it stands there."""
    task = submit(service, "python3")
    text = (ROOT / "docs" / "agents.md").read_text()
    (tmp_path / "job.sh").write_text(text[text.index("#!/bin/sh\n# job.sh") :].partition("```")[0])
    (tmp_path / "token").write_text(token_for(service, task))

    run = subprocess.run(
        ["sh", "job.sh", service.url, task, "token"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert states(service, task) == [PointState.DONE] * 3


def test_a_killed_agent_leaves_no_payload(service: RealService, tmp_path: Path) -> None:
    """The warden starts from inside the file: after kill -9 of the agent, all that held the pipe open has gone."""
    os.mkfifo(tmp_path / "alive")
    reader = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    command = f"exec 9> {shlex.quote(str(tmp_path))}/alive; echo x >&9; sleep 60 & wait"
    task = service.submit(document(points=1, payload={"command": command}))
    words = [sys.executable, "-I", fetch(service, tmp_path), "--server", service.url, "--task", task]
    environment = {**os.environ, "GRIDTUNE_TOKEN": token_for(service, task)}
    with subprocess.Popen([*words, "--work-dir", str(tmp_path / "work")], env=environment) as agent:
        began = select.select([reader], [], [], 20)[0] and os.read(reader, 2)

        agent.send_signal(signal.SIGKILL)

        assert began == b"x\n"
        assert select.select([reader], [], [], 10)[0]
        assert os.read(reader, 1) == b""
    os.close(reader)
