"""What a training image gets: requests and nothing else, and an agent that works so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import CreateToken, Scope
from real_service import RealService
from service_bench import document

ROOT = Path(__file__).parents[2]
TRAIN = "import gridtune; gridtune.result(loss=(gridtune.params()['x'] - 1) ** 2)\n"
#: What requests itself needs; pip and setuptools may come with the environment.
ALLOWED = {"gridtune", "requests", "certifi", "charset-normalizer", "idna", "urllib3", "pip", "setuptools"}


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with a plain ``pip install gridtune``; returns its folder of programs."""
    folder = tmp_path_factory.mktemp("thin")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    constraints = ["-c", str(ROOT / "constraints.txt")]
    source = folder / "source"  # a copy, so that building leaves nothing behind in the checkout
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "gridtune-*", "__pycache__", "tests"))
    subprocess.run([programs / "python", "-m", "pip", "install", "-q", *constraints, source], check=True)
    return programs


def test_nothing_but_requests_comes_along(thin: Path) -> None:
    """No framework reaches a user's image."""
    run = subprocess.run(
        [thin / "python", "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    listed = json.loads(run.stdout)

    assert {package["name"].lower() for package in listed} <= ALLOWED


def test_the_wheel_holds_every_module(thin: Path) -> None:
    """A folder missing from the build would give a smaller wheel in silence."""
    run = subprocess.run(
        [
            thin / "python",
            "-c",
            "import gridtune_common, pathlib; print(pathlib.Path(gridtune_common.__file__).parents[1])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = Path(run.stdout.strip())
    folders = {
        "common": ["gridtune_common"],
        "evaluation": ["gridtune", "gridtune_evaluation"],
        "steering": ["gridtune_steering"],
    }

    for root, packages in folders.items():
        for package in packages:
            files = [path for path in (ROOT / root / package).rglob("*") if path.is_file()]
            names = [path.relative_to(ROOT / root) for path in files if "__pycache__" not in path.parts]
            assert [str(name) for name in names if not (installed / name).exists()] == []


def test_the_agent_finishes_a_task(thin: Path, service: RealService) -> None:
    """Lease, train, tell: with the standard library and requests."""
    payload = {"command": f"{thin / 'python'} train.py", "files": ["train.py"]}
    task = service.submit(document(points=3, payload=payload), train_py=TRAIN)
    with service.client() as client:
        secret = client.create_token(CreateToken(new_request_id(), Scope.TASK, task=task)).secret

    agent = subprocess.run(
        [thin / "gridtune", "agent", "--server", service.url, "--task", task, "--work-dir", service.folder / "work"],
        env={**os.environ, "GRIDTUNE_TOKEN": secret},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert agent.returncode == 0, agent.stderr
    with service.client() as client:
        assert client.best(task).n_done == 3


@pytest.mark.parametrize("command", ["serve", "validate task.yaml", "run task.yaml"])
def test_a_missing_extra_names_the_line_that_cures_it(thin: Path, tmp_path: Path, command: str) -> None:
    """One line, no traceback."""
    (tmp_path / "task.yaml").write_text("name: t\n")

    run = subprocess.run(
        [thin / "gridtune", *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert run.returncode == 2
    assert "pip install 'gridtune[" in run.stderr
    assert "Traceback" not in run.stderr
