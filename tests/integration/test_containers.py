"""An image that knows nothing of gridtune, from one container to the next, whatever happens to them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gridtune_common.protocol import EvaluationState, Export, TaskState
from real_service import RealService, wait_for
from servers.docker import Docker
from servers.images import IMAGE
from service_bench import document

EXAMPLE = Path(__file__).parents[2] / "examples" / "container_image"
SPIRALS = "localhost/tests/spirals:1"
#: A training of some seconds; an epoch takes a tenth of one.
SETTINGS = {"features": 60, "scale": 1.5, "decay": 1e-4, "epochs": 500}


@pytest.fixture
def engine(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """An engine that has the example's image; agents use it."""
    docker.run("build", "--build-arg", f"BASE_IMAGE={IMAGE}", "--tag", SPIRALS, str(EXAMPLE))
    monkeypatch.setenv("DOCKER_HOST", docker.address)
    return docker


def spirals(points: int, **payload: Any) -> dict[str, Any]:
    """A task on the example's image."""
    section = {
        "image": SPIRALS,
        "pull": "never",
        "command": "python3 /app/train.py input.json",
        "result": {"stdout": {"error": "final error = ([0-9.]+)"}},
        "checkpoint": {"paths": ["model.json"], "interval": "1s"},
        "grace": "3s",
    }
    task = document(points=points, algorithm="sobol", payload={**section, **payload})
    space = {"learning_rate": {"type": "float", "low": 0.01, "high": 0.5, "scale": "log"}}
    return {**task, "space": space, "constants": SETTINGS, "objective": {"metric": "error", "goal": "minimize"}}


def is_saved(exported: Export) -> bool:
    """Whether there is a checkpoint."""
    return any(event.kind == "checkpoint.committed" for event in exported.events)


def by_hand(folder: Path, **settings: Any) -> float:
    """What the example's training comes to without gridtune, and without a container."""
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({**SETTINGS, **settings}))
    words = [sys.executable, str(EXAMPLE / "train.py"), "settings.json"]
    printed = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(re.findall("final error = ([0-9.]+)", printed)[-1])


@pytest.mark.slow
def test_short_walltimes(service: RealService, engine: Docker, tmp_path: Path) -> None:
    """Each container goes on where the one before it ended, and the result is that of one long training."""
    task = service.submit(spirals(points=1))
    stretches = 0
    with service.client() as client:
        while client.task(task).summary.state is TaskState.RUNNING:
            assert service.start_agent(task, "--walltime", "10", name=f"short-{stretches}").wait(60) == 0
            stretches += 1
            assert stretches < 20

    exported = service.export(task)
    [point] = exported.points
    last = exported.evaluations[-1]
    assert stretches > 1
    assert point.value == by_hand(tmp_path / "by-hand", **point.parameters)
    assert point.attempts == 0
    assert last.resumed_from is not None
    assert last.usage is not None
    assert last.usage.runtime == "docker"
    assert last.usage.image == engine.run("images", "--quiet", "--no-trunc", SPIRALS)
    assert {e.state for e in exported.evaluations} == {EvaluationState.DONE, EvaluationState.RELEASED}
    assert engine.run("ps", "--all", "--quiet") == ""


@pytest.mark.slow
def test_a_killed_agent(service: RealService, engine: Docker, tmp_path: Path) -> None:
    """Its container is gone within seconds; another agent goes on from the last checkpoint."""
    task = service.submit(spirals(points=1))
    first = service.start_agent(task, name="first")
    with service.client() as client:
        wait_for("a checkpoint", lambda: is_saved(service.export(task)))
        first.kill()
        wait_for("an engine without containers", lambda: engine.run("ps", "--all", "--quiet") == "", timeout=20)
        service.start_agent(task, name="second")
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED, timeout=60)

    exported = service.export(task)
    [point] = exported.points
    assert [e.state for e in exported.evaluations] == [EvaluationState.LOST, EvaluationState.DONE]
    assert exported.evaluations[-1].resumed_from is not None
    assert point.value == by_hand(tmp_path / "by-hand", **point.parameters)
    assert engine.run("ps", "--all", "--quiet") == ""
