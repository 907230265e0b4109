"""Worker nodes have old Pythons: the thin side runs on 3.9."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import CreateToken, Scope
from old_python import PYTHON39
from real_service import RealService
from service_bench import document

ROOT = Path(__file__).parents[2]
TRAIN = "import gridtune; gridtune.report(1, loss=9); gridtune.result(loss=(gridtune.params()['x'] - 1) ** 2)\n"


@pytest.mark.skipif(
    PYTHON39 is None, reason="no Python 3.9 here; `make lint` checks the sources with vermin all the same"
)
def test_the_agent_runs_on_python_39(service: RealService, tmp_path: Path) -> None:
    """A whole task on the oldest Python, from the sources, with requests beside them."""
    assert PYTHON39 is not None
    libraries = tmp_path / "libraries"
    subprocess.run([PYTHON39, "-m", "pip", "install", "-q", "--target", libraries, "requests"], check=True)
    path = os.pathsep.join(str(folder) for folder in (ROOT / "common", ROOT / "evaluation", libraries))
    payload = {"command": f"{PYTHON39} train.py", "files": ["train.py"]}
    task = service.submit(document(points=3, payload=payload), train_py=TRAIN)
    with service.client() as client:
        secret = client.create_token(CreateToken(new_request_id(), Scope.TASK, task=task)).secret

    agent = subprocess.run(
        [PYTHON39, "-m", "gridtune_evaluation", "--server", service.url, "--task", task, "--work-dir", tmp_path / "w"],
        env={**os.environ, "GRIDTUNE_TOKEN": secret, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert agent.returncode == 0, agent.stderr
    exported = service.export(task)
    assert [point.state.value for point in exported.points] == ["done"] * 3
    assert len(exported.reports) == 3
