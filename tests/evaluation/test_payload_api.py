"""What a training script imports: `import gridtune`."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

import gridtune
from gridtune_common.errors import GridtuneError


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory as an agent furnishes it; the current directory is another one."""
    room = tmp_path / "room"
    (room / ".gridtune").mkdir(parents=True)
    (room / "input.json").write_text('{"lr": 0.1, "epochs": 3}')
    monkeypatch.setenv("GRIDTUNE_DIR", str(room / ".gridtune"))
    monkeypatch.chdir(tmp_path)
    return room


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that somebody just runs."""
    monkeypatch.delenv("GRIDTUNE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_params_are_the_point(room: Path) -> None:
    """Parameters and constants come as one dict, wherever the script has gone."""
    assert gridtune.params() == {"lr": 0.1, "epochs": 3}


def test_params_by_hand_need_a_default(by_hand: Path) -> None:
    """Without gridtune there is no point, and the error says what to do."""
    with pytest.raises(GridtuneError, match=r"gridtune\.params\(default="):
        gridtune.params()
    assert gridtune.params(default={"lr": 1}) == {"lr": 1}


def test_default_does_not_matter_when_evaluated(room: Path) -> None:
    """The default is for running by hand alone."""
    assert gridtune.params(default={"lr": 1})["lr"] == 0.1


def test_reports_are_lines(room: Path) -> None:
    """Each report is a line of strict JSON; numbers of any kind are welcome."""
    gridtune.report(1, loss=Fraction(1, 2))
    gridtune.report(2, loss=math.nan, auc=1)

    lines = (room / ".gridtune" / "reports.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": None, "auc": 1.0},
    ]


@pytest.mark.parametrize("value", ["0.5", True, None, [1]])
def test_metrics_are_numbers(room: Path, value: object) -> None:
    """What is no number is refused where it was written."""
    with pytest.raises(TypeError, match="is no number"):
        gridtune.report(1, loss=value)  # type: ignore[arg-type]


def test_no_metric_is_called_step(room: Path) -> None:
    """The step has its own place."""
    with pytest.raises(TypeError, match="step"):
        gridtune.report(1, step=2)


def test_result_is_written_whole(room: Path) -> None:
    """The result is output.json, and no draft is left."""
    gridtune.result(loss=0.5)
    gridtune.result(loss=0.25, auc=0.9)

    assert json.loads((room / "output.json").read_text()) == {"loss": 0.25, "auc": 0.9}
    assert sorted(path.name for path in room.iterdir()) == [".gridtune", "input.json", "output.json"]


def test_result_goes_where_the_task_wants_it(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRIDTUNE_RESULT_FILE names another file."""
    monkeypatch.setenv("GRIDTUNE_RESULT_FILE", str(room / "other.json"))

    gridtune.result(loss=0.5)

    assert (room / "other.json").exists()


def test_stop_is_a_file(room: Path) -> None:
    """A payload should stop once the agent says so."""
    before = gridtune.should_stop()
    (room / ".gridtune" / "stop").touch()

    assert (before, gridtune.should_stop()) == (False, True)


def test_by_hand_nobody_listens(by_hand: Path) -> None:
    """Run by hand, reports and results do nothing, and there is no reason to stop."""
    gridtune.report(1, loss=0.5)
    gridtune.result(loss=0.5)

    assert not gridtune.should_stop()
    assert gridtune.control_dir() is None
    assert (gridtune.attempt(), gridtune.resume_step()) == (1, None)
    assert list(by_hand.iterdir()) == []


def test_checkpoints_have_a_folder(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint folder is made where the agent wants it, else right here."""
    here = gridtune.checkpoint_dir()
    monkeypatch.setenv("GRIDTUNE_CHECKPOINT_DIR", str(room / "saved"))
    there = gridtune.checkpoint_dir()

    assert (here, there) == (Path.cwd() / "checkpoint", room / "saved")
    assert here.is_dir()
    assert there.is_dir()


def test_resumed_training_knows_its_step(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempt and step are numbers."""
    monkeypatch.setenv("GRIDTUNE_ATTEMPT", "2")
    monkeypatch.setenv("GRIDTUNE_RESUME_STEP", "30")

    assert (gridtune.attempt(), gridtune.resume_step()) == (2, 30)


def test_names_are_complete() -> None:
    """Every public name exists; others do not."""
    assert all(getattr(gridtune, name) for name in gridtune.__all__)
    with pytest.raises(AttributeError, match="minimise"):
        _ = gridtune.minimise


def test_minimize_stays_a_function() -> None:
    """Loading what is behind minimize does not put a module in its place."""
    code = "import gridtune.minimizing, gridtune; assert callable(gridtune.minimize)"

    run_python(code)


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("gridtune", {"requests", "urllib3", "http.client", "argparse", "logging", "pandas", "numpy"}),
        ("gridtune_evaluation.runtimes.process", {"requests", "urllib3", "pandas", "numpy"}),
    ],
)
def test_import_is_free(package: str, heavy: set[str]) -> None:
    """Importing for a training script loads nothing heavy, and no network."""
    loaded = run_python(f"import {package}, sys; sys.stdout.write(' '.join(sys.modules))").split()

    assert not heavy & set(loaded)


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
