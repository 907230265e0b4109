"""``gridtune run``: service, workers and bookkeeping as processes on this machine, from a task file to its results."""

import csv
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from real_service import wait_for

GOOD = """echo '{"step": 1, "loss": {x}}' >> "$GRIDTUNE_DIR/reports.jsonl"; echo '{"loss": {x}}' > output.json"""
SLOW = "sleep 60"
BAD = "echo there is no data; exit 3"


@pytest.fixture(autouse=True)
def heeds_interrupts() -> Iterator[None]:
    """Children heed SIGINT, also when the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def write_task(folder: Path, command: str, points: int = 4) -> None:
    """Write ``task.json``."""
    document = {
        "name": "parabola",
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "objective": {"metric": "loss", "goal": "minimize"},
        "algorithm": {"name": "random", "seed": 1},
        "payload": {"command": command, "grace": "1s"},
        "retry": {"attempts": 1},
        "stop": {"points": points},
    }
    (folder / "task.json").write_text(json.dumps(document))


def command(*words: str) -> list[str]:
    """The command line of gridtune."""
    return [sys.executable, "-P", "-m", "gridtune_common", *words]


def environment(folder: Path) -> Mapping[str, str]:
    """An environment without settings of the person who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRIDTUNE_")}
    return {**kept, "HOME": str(folder), "TMPDIR": str(folder)}


def gridtune(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run gridtune in *folder* to its end."""
    return subprocess.run(
        command(*words), cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=120, check=False
    )


def only(folder: Path) -> Path:
    """The one thing in *folder*."""
    (found,) = folder.iterdir()
    return found


def test_a_task_file_becomes_results(tmp_path: Path) -> None:
    """Every point is done, the best is told, the files are written, and nothing stays behind."""
    write_task(tmp_path, GOOD)

    done = gridtune(tmp_path, "run", "task.json", "--workers", "2")

    assert done.returncode == 0, done.stderr
    folder = only(tmp_path / "gridtune-results")
    rows = list(csv.DictReader((folder / "points.csv").read_text().splitlines()))
    assert {path.name for path in folder.iterdir()} == {"points.csv", "task.json", "report.html"}
    assert len(rows) == 4
    assert "\nbest loss " in done.stdout
    assert not (tmp_path / "gridtune-data" / "service.json").exists()


def test_the_points_flag_overrides_the_file(tmp_path: Path) -> None:
    """--points is how many points are made; --results is where the files go."""
    write_task(tmp_path, GOOD)

    done = gridtune(tmp_path, "run", "task.json", "--points", "1", "--results", "here", "--workers", "1")

    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "here" / "points.csv").read_text().splitlines()) == 2


def test_a_task_without_any_result_shows_what_was_printed(tmp_path: Path) -> None:
    """With every point failed, the exit code is 1 and the first failure's output is shown."""
    write_task(tmp_path, BAD, points=2)

    done = gridtune(tmp_path, "run", "task.json", "--workers", "1")

    assert done.returncode == 1, done.stderr
    assert "2 of 2 points failed; point 0: " in done.stdout
    assert "the end of its output:\n  there is no data\n" in done.stdout


def test_an_invalid_file_starts_nothing(tmp_path: Path) -> None:
    """Flaws are found before any process is started."""
    write_task(tmp_path, GOOD, points=0)

    done = gridtune(tmp_path, "run", "task.json")

    assert done.returncode == 2
    assert done.stderr.startswith("error: task.json cannot be used:\n  - stop.points")
    assert not (tmp_path / "gridtune-data").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_later(tmp_path: Path, number: signal.Signals) -> None:
    """The task is paused, its running point is given back, and --resume finishes the same task."""
    write_task(tmp_path, f"test -e go || {SLOW}; {GOOD}".replace("test -e go", f"test -e {tmp_path}/go"), points=2)
    process = subprocess.Popen(
        command("run", "task.json", "--workers", "1"),
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.send_signal(number)
        words = process.stderr.read()
    (tmp_path / "go").touch()

    resumed = gridtune(tmp_path, "run", "--resume", "task.json", "--workers", "1")

    assert "parabola running: 0/2 done" in first
    assert process.returncode == 130
    assert words.splitlines()[-1] == "paused; go on with: gridtune run --resume task.json --workers 1"
    assert resumed.returncode == 0, resumed.stderr
    assert "2/2 done" in resumed.stdout
    assert len(list((tmp_path / "gridtune-results").iterdir())) == 1


def test_a_killed_run_leaves_nothing_running(tmp_path: Path) -> None:
    """Kill -9 of the command ends its service, its agent and their payloads, and the task can be resumed."""
    write_task(tmp_path, "echo $$ > ../../../pid; " + SLOW)
    run = subprocess.Popen(
        command("run", "task.json"), cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.DEVNULL
    )
    payload = wait_for("a payload", lambda: next(iter(tmp_path.rglob("pid")), None))
    wait_for("its process id", payload.read_text)
    note = tmp_path / "gridtune-data" / "service.json"
    pids = [int(payload.read_text()), json.loads(note.read_text())["pid"]]

    run.kill()
    run.wait()

    wait_for("their end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert not note.exists()


def test_inputs_reach_every_point(tmp_path: Path) -> None:
    """payload.data is fetched once for all workers of this machine, and read by each point."""
    content = b"0.25"
    (tmp_path / "there").write_bytes(content)
    write_task(tmp_path, 'cat in/here; echo "{\\"loss\\": $(cat in/here)}" > output.json')
    document = json.loads((tmp_path / "task.json").read_text())
    fetch = f"echo >> {tmp_path}/fetched; cp {tmp_path}/there {{target}}"
    source = {"command": fetch, "sha256": hashlib.sha256(content).hexdigest(), "size": "4B"}
    document["payload"]["data"] = {"in/here": source, "folder": tmp_path.as_uri()}
    (tmp_path / "task.json").write_text(json.dumps(document))

    done = gridtune(tmp_path, "run", "task.json", "--workers", "2", "--results", "here")

    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "here" / "points.csv").read_text().splitlines()))
    assert [float(row["metric.loss"]) for row in rows] == [0.25] * 4
    assert (tmp_path / "fetched").read_text() == "\n"


@pytest.mark.slow
def test_a_training_that_fails_everywhere_ends_the_run(tmp_path: Path) -> None:
    """After a few points, with what it printed and how to go on, not after all of them."""
    write_task(tmp_path, BAD, points=50)

    done = gridtune(tmp_path, "run", "task.json", "--workers", "2")

    assert done.returncode == 1, done.stderr
    # the other worker's point may end before the task is paused
    assert re.search("your script fails everywhere: the same failure on [56] different points", done.stderr)
    assert "exit code 3: there is no data" in done.stderr
    assert "go on with: gridtune run --resume task.json --workers 2" in done.stderr
    with sqlite3.connect(tmp_path / "gridtune-data" / "gridtune.db") as database:
        assert database.execute("SELECT state, stopped_by FROM tasks").fetchall() == [("paused", "same_failure")]
        assert database.execute("SELECT count(*) FROM points").fetchone()[0] < 15


def test_a_machine_that_does_not_fit_the_task_says_so_at_once(tmp_path: Path) -> None:
    """The run ends with what is missing and a code of its own instead of waiting for other workers."""
    write_task(tmp_path, GOOD)
    document = json.loads((tmp_path / "task.json").read_text())
    (tmp_path / "task.json").write_text(json.dumps({**document, "resources": {"gpus": 8}}))

    done = gridtune(tmp_path, "run", "task.json", "--workers", "2")

    assert done.returncode == 6, done.stderr
    *_, error, reason, fix = done.stderr.splitlines()
    assert error == "error: this machine does not fit the task"
    assert reason.endswith("seen in the last hour fits: gpus is 0, the task requires >= 8")
    assert fix == "ask for less under resources, or submit the task to a service with other workers"
    assert "paused; go on with: gridtune run --resume task.json --workers 2" in done.stderr
