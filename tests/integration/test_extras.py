"""Each optimizer library's extra by itself: a fresh environment with that one alone finds points."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SEARCH = """
import sys, warnings
from gridtune_common.taskfile import parse_task
from gridtune_steering import optimizers
from gridtune_steering.campaign import Campaign, Credit, Suggest, Told
from gridtune_steering.optimizers.port import Problem

for name in sys.argv[1:]:
    task = parse_task({
        "space": {"x": {"type": "float", "low": -5, "high": 5}, "kind": ["a", "b"]},
        "objective": {"metric": "loss"},
        "stop": {"points": 14},
        "algorithm": name,
    })
    problem = Problem(space=task.space, budget=14, seed=7)
    optimizer = optimizers.create(name, problem, {})
    campaign = Campaign(objectives=task.objectives, stop=task.stop, problem=problem, optimizer=optimizer)
    for number in range(14):
        [point] = [action for action in campaign.handle(Credit(1)) if isinstance(action, Suggest)]
        end = campaign.handle(Told(number, {"loss": point.parameters["x"] ** 2}))
    print(name, end[0].reason)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves nothing behind in the checkout."""
    copy = tmp_path_factory.mktemp("extras") / "source"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "gridtune-*", "__pycache__", "tests"))
    return copy


@pytest.mark.parametrize(
    ("extra", "names"),
    [
        ("hyperopt", ["hyperopt/tpe", "hyperopt/anneal"]),
        ("nevergrad", ["nevergrad/NGOpt", "nevergrad/TwoPointsDE"]),
        ("optuna", ["optuna/tpe", "optuna/cmaes", "optuna/qmc"]),
        ("skopt", ["skopt/rf", "skopt/gbrt"]),
        ("sobol", ["sobol"]),
    ],
)
def test_one_library_alone_finds_points(extra: str, names: list[str], source: Path, tmp_path: Path) -> None:
    """With that extra and nothing else, its optimizers go through a task; another library's say what is missing."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), f"{source}[{extra}]"]
    subprocess.run(install, check=True)

    run = subprocess.run([python, "-c", SEARCH, *names], capture_output=True, text=True, check=False)
    other = "hyperopt/tpe" if extra != "hyperopt" else "skopt/rf"
    missing = subprocess.run([python, "-c", SEARCH, other], capture_output=True, text=True, check=False)

    assert run.stdout.splitlines() == [f"{name} all 14 points have ended" for name in names], run.stderr
    assert f"pip install 'gridtune[{other.partition('/')[0]}]'" in missing.stderr
