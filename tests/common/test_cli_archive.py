"""``gridtune archive``: which tasks it chooses, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import fake_steering
from fake_steering import FakeSteering, Problem, make_summary
from gridtune_common import protocol
from gridtune_common.cli import main
from gridtune_common.protocol import TaskState


@pytest.fixture
def steering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeSteering]:
    """A fake service with an old, a young and an archived task, on two pages."""
    with fake_steering.served() as fake:
        fake_steering.configure(fake, monkeypatch, tmp_path)
        fake.on("GET", "/tasks", _page)
        for task in ("ant22222", "ant33333"):
            fake.on("POST", f"/tasks/{task}/archive", make_summary(id=task, archived_at=ago(0)))
        yield fake


def ago(days: float) -> str:
    """A moment so many days ago."""
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def _page(asked: fake_steering.Asked) -> protocol.TaskPage:
    if asked.query["state"] == "cancelled":
        return protocol.TaskPage([make_summary(id="ant33333", state=TaskState.CANCELLED, ended_at=ago(200))])
    if "after" in asked.query:
        return protocol.TaskPage([make_summary(id="new22222", state=TaskState.FINISHED, ended_at=ago(3))])
    there = make_summary(id="was22222", state=TaskState.FINISHED, ended_at=ago(400), archived_at=ago(300))
    return protocol.TaskPage([make_summary(id="ant22222", state=TaskState.FINISHED, ended_at=ago(91)), there], "c2")


def archived(steering: FakeSteering) -> list[str]:
    """What was sent away."""
    return [asked.path for asked in steering.asked if asked.method == "POST"]


def test_old_tasks_are_archived(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """All that ended long enough ago, of all pages and both states, but for those that are archived."""
    assert main(["archive", "--older-than", "90d"]) == 0

    assert archived(steering) == ["/tasks/ant22222/archive", "/tasks/ant33333/archive"]
    first, second = capsys.readouterr().out.splitlines()
    assert (first.startswith("digits (ant22222), 91d"), first.endswith("is archived")) == (True, True)
    assert "(ant33333)" in second


def test_a_rehearsal_changes_nothing(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which tasks it would be."""
    assert main(["archive", "--older-than", "90d", "--dry-run"]) == 0

    assert archived(steering) == []
    assert capsys.readouterr().out.count("would be archived") == 2


def test_a_task_that_goes_on_is_left_out(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are archived all the same, and the exit code tells."""
    steering.on("POST", "/tasks/ant22222/archive", Problem(409, {"detail": "the task is running"}))

    assert main(["archive", "--older-than", "90d"]) == 1

    said = capsys.readouterr()
    assert "the task is running" in said.err
    assert "(ant33333)" in said.out


def test_tasks_are_archived_by_their_ids(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Without looking at their age; a refusal of the caller ends it."""
    assert main(["archive", "ant22222"]) == 0
    steering.on("POST", "/tasks/ant33333/archive", Problem(403, {"detail": "only operators archive tasks"}))
    assert main(["archive", "ant33333"]) == 5

    said = capsys.readouterr()
    assert said.out == "ant22222 is archived\n"
    assert "only operators" in said.err


@pytest.mark.parametrize("words", [[], ["t2t2t2t2", "--older-than", "1d"]], ids=["neither", "both"])
@pytest.mark.usefixtures("steering")
def test_what_is_meant_has_to_be_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks or an age."""
    assert main(["archive", *words]) == 2
    assert "name tasks, or give --older-than AGE" in capsys.readouterr().err


def test_archived_tasks_are_listed_as_such(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """In place of the state that they ended in, which JSON still has."""
    steering.on("GET", "/tasks", protocol.TaskPage([make_summary(state=TaskState.FINISHED, archived_at=ago(1))]))

    assert main(["tasks"]) == 0

    assert "  archived  " in capsys.readouterr().out


def test_an_archived_task_is_deleted_by_its_id(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Though it cannot be looked at any more."""
    gone = {"type": "urn:gridtune:problem:TaskArchived", "detail": "task 't2t2t2t2' was archived"}
    steering.on("GET", "/tasks/t2t2t2t2", Problem(410, gone))
    steering.on("DELETE", "/tasks/t2t2t2t2", None)

    assert main(["delete", "t2t2t2t2"]) == 0

    assert capsys.readouterr().out == "t2t2t2t2 is deleted\n"
