"""A service that is lost goes on elsewhere from its backup, which was made while agents worked."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gridtune_common.cli import main
from gridtune_common.protocol import EvaluationState, Export, PointState, Scope, TaskState
from real_service import GRIDTUNE, RealService, wait_for
from servers.postgres import Postgres
from service_bench import document

#: Long enough that some are under way whenever the service dies.
TRAIN = """
import json, time
time.sleep(1.0)
x = json.load(open("input.json"))["x"]
json.dump({"loss": (x - 1) ** 2}, open("output.json", "w"))
"""


@dataclass
class Backups:
    """Backs a service up and restores it, as docs/operating.md says."""

    folder: Path
    server: Postgres | None = None
    kept: Path = field(init=False)

    def __post_init__(self) -> None:
        self.kept = self.folder / "backup"

    def new_settings(self) -> dict[str, str]:
        """A service's settings, with a database of its own."""
        return {"GRIDTUNE_STEERING_DATABASE": self.server.new_database()} if self.server is not None else {}

    def make(self, service: RealService) -> None:
        """The database, while everybody works; then what else is in the data folder."""
        data = service.folder / "data"
        if self.server is None:
            subprocess.run([*GRIDTUNE, "backup", str(self.kept), "--data", str(data)], check=True, timeout=60)
        else:
            self.kept.mkdir(mode=0o700)
            database = service.settings["GRIDTUNE_STEERING_DATABASE"]
            self.server.run("pg_dump", "--format=custom", f"--file={self._dump}", database)
            for name in ("service.key", "operator.token"):
                shutil.copy(data / name, self.kept)
        if (data / "objects").exists():
            shutil.copytree(data / "objects", self.kept / "objects", ignore_dangling_symlinks=True)

    def lose(self, service: RealService) -> None:
        """Nothing is left of it."""
        service.kill()
        shutil.rmtree(service.folder / "data")
        if self.server is not None:
            self.server.drop(service.settings["GRIDTUNE_STEERING_DATABASE"])

    def restore(self, port: int) -> RealService:
        """The same service at the same address, on another folder and another database."""
        (self.folder / "elsewhere").mkdir()
        restored = RealService(self.folder / "elsewhere", port=port, settings=self.new_settings())
        shutil.copytree(self.kept, restored.folder / "data")
        if self.server is not None:
            database = restored.settings["GRIDTUNE_STEERING_DATABASE"]
            self.server.run("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={database}", str(self._dump))
        return restored

    @property
    def _dump(self) -> Path:
        assert self.server is not None
        return self.server.folder / "data" / f"{self.folder.name}.dump"


@pytest.fixture(params=["sqlite", "postgresql"])
def backups(request: pytest.FixtureRequest, tmp_path: Path) -> Backups:
    """For a service on each kind of database."""
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    return Backups(tmp_path, server)


def done(exported: Export) -> dict[int, tuple[Any, ...]]:
    """Results: what they are, and who brought them."""
    return {
        evaluation.point: (evaluation.id, evaluation.metrics, evaluation.ended_at)
        for evaluation in exported.evaluations
        if evaluation.state is EvaluationState.DONE
    }


def running(exported: Export) -> set[str]:
    """Evaluations under way."""
    return {e.id for e in exported.evaluations if e.state is EvaluationState.RUNNING}


@pytest.mark.slow
def test_a_lost_service_goes_on_from_its_backup(backups: Backups, tmp_path: Path) -> None:
    """What was acknowledged before the backup is there, what came after is done again, and no agent is any wiser."""
    (tmp_path / "first").mkdir()
    service = RealService(tmp_path / "first", settings=backups.new_settings())
    service.start()
    payload = {"command": "python train.py", "files": ["train.py"]}
    task = service.submit(document(points=32, payload=payload), train_py=TRAIN)
    agents = [service.start_agent(task, "--slots", "2", name=name) for name in ("one", "two")]
    wait_for("results", lambda: len(done(service.export(task))) >= 3)
    before = service.export(task)

    backups.make(service)
    kept = len(done(service.export(task)))
    wait_for("more results", lambda: len(done(service.export(task))) >= kept + 6)
    after = service.export(task)
    backups.lose(service)
    restored = backups.restore(service.port)
    try:
        restored.start()
        with restored.client() as client:
            assert client.whoami().scope is Scope.OPERATOR
            found = restored.export(task)
            wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED, timeout=180)
        codes = [agent.wait(60) for agent in agents]
        end = restored.export(task)
    finally:
        restored.end()
        for agent in agents:
            agent.kill()
            agent.wait()

    assert done(before).items() <= done(found).items()
    assert done(before).items() <= done(end).items()
    assert [point.state for point in end.points] == [PointState.DONE] * 32
    assert done(after).keys() - done(found).keys()  # what was acknowledged after the backup had to be done again
    unknown = running(after) - {evaluation.id for evaluation in found.evaluations}
    assert unknown  # and some agents worked for evaluations that the restored service has never heard of
    assert codes == [0, 0]
    logs = "".join((service.folder / f"{name}.log").read_text() for name in ("one", "two"))
    assert "Traceback" not in logs + (restored.folder / "serve.log").read_text()


def test_a_backup_is_private_and_whole(service: RealService) -> None:
    """A folder like the service's own, each file for its owner alone, with nothing in a journal beside it."""
    service.submit(document())
    target = service.folder / "kept" / "monday"

    subprocess.run([*GRIDTUNE, "backup", str(target), "--data", str(service.folder / "data")], check=True)

    names = {path.name for path in target.iterdir()}
    assert names == {"gridtune.db", "service.key", "operator.token"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [target, *target.iterdir()]} == {0o700, 0o600}
    with sqlite3.connect(target / "gridtune.db") as copied:
        assert copied.execute("SELECT count(*) FROM tasks").fetchone() == (1,)
    copied.close()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "there is no database"),
        ({"GRIDTUNE_STEERING_DATABASE": "postgresql://ann:hidden@127.0.0.1/tune"}, "pg_dump --format=custom"),
    ],
    ids=["nothing there", "postgresql"],
)
def test_what_cannot_be_backed_up_is_told(
    settings: dict[str, str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what to do instead; nothing is left behind."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    code = main(["backup", str(tmp_path / "copy"), "--data", str(tmp_path)])

    said = capsys.readouterr().err
    assert (code, words in said, "hidden" in said) == (2, True, False)
    assert list(tmp_path.iterdir()) == []


def test_a_backup_never_replaces_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a damaged database makes none."""
    (tmp_path / "gridtune.db").write_bytes(os.urandom(9000))
    (tmp_path / "old").mkdir()

    codes = [main(["backup", str(tmp_path / name), "--data", str(tmp_path)]) for name in ("old", "new")]

    said = capsys.readouterr().err
    assert codes == [2, 2]
    assert "exists; name a folder that does not" in said
    assert "file is not a database" in said
    assert {path.name for path in tmp_path.iterdir()} == {"gridtune.db", "old"}
