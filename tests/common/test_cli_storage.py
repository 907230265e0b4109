"""The commands that show what is stored: logs and storage."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

import fake_steering
from fake_steering import CREATED, FakeSteering, make_evaluation, make_point
from gridtune_common import protocol
from gridtune_common.cli import main
from gridtune_common.cli.commands import logs
from gridtune_common.protocol import EvaluationState, ObjectKind, PointState

POINT = "/tasks/t2t2t2t2/points/4"


@pytest.fixture
def steering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeSteering]:
    """A fake service that the command line finds by itself."""
    with fake_steering.served() as fake:
        fake_steering.configure(fake, monkeypatch, tmp_path)
        monkeypatch.setattr(logs, "_POLL_SECONDS", 0.0)
        yield fake


def detail(*evaluations: protocol.Evaluation, state: PointState = PointState.DONE) -> protocol.PointDetail:
    """A point whose second evaluation has a stored log."""
    log = protocol.StoredObject("o1", ObjectKind.LOG, 4, "e2", 9, "0" * 64, "gz", CREATED, committed_at=CREATED)
    ended_at = None if state is PointState.RUNNING else CREATED
    return protocol.PointDetail(make_point(4, state=state, ended_at=ended_at), list(evaluations), [], [log])


FAILED = make_evaluation(id="e1", output_tail="no data\n")
DONE = make_evaluation(id="e2", state=EvaluationState.DONE, message="", attempt=2)
RUNNING = make_evaluation(id="e3", state=EvaluationState.RUNNING, message="", attempt=3)


def store_log(steering: FakeSteering, content: bytes) -> None:
    """Have a stored log answered from an address of the service itself."""
    steering.on("GET", "/tasks/t2t2t2t2/objects/o1", protocol.Download("/api/v1/objects/o1?signature=s", 60.0))
    steering.on("GET", "/objects/o1", content)


def test_logs_of_all_evaluations_are_printed_in_order(
    steering: FakeSteering, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Stored ones whole, of others the end that came with their last word; heads go to stderr."""
    steering.on("GET", POINT, detail(FAILED, DONE))
    store_log(steering, gzip.compress(b"epoch 1\nepoch 2\n"))

    assert main(["logs", "t2t2t2t2", "4"]) == 0

    printed = capsysbinary.readouterr()
    assert printed.out == b"no data\nepoch 1\nepoch 2\n"
    assert printed.err.startswith(b"--- evaluation e1, attempt 1 by node-1/0, failed: the command ended with code 1\n")


def test_no_token_goes_to_the_store(steering: FakeSteering) -> None:
    """Its address is signed; whoever keeps objects is not to learn tokens."""
    steering.on("GET", POINT, detail(DONE))
    store_log(steering, gzip.compress(b"x"))

    main(["logs", "t2t2t2t2", "4"])

    [fetched] = [asked for asked in steering.asked if asked.path == "/objects/o1"]
    assert (fetched.token, fetched.query) == ("", {"signature": "s"})


def test_only_the_last_evaluation_if_wished(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """--last leaves the others out."""
    steering.on("GET", POINT, detail(DONE, FAILED))

    main(["logs", "t2t2t2t2", "4", "--last"])

    assert capsys.readouterr().out == "no data\n"


def test_a_damaged_log_is_a_clear_error(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the evaluation."""
    steering.on("GET", POINT, detail(DONE))
    store_log(steering, b"no gzip at all")

    assert main(["logs", "t2t2t2t2", "4"]) != 0

    assert "the stored log of evaluation e2 is damaged" in capsys.readouterr().err


def test_a_running_evaluation_is_followed_to_the_end(
    steering: FakeSteering, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each piece once, whatever overlaps."""
    looks = iter(
        [
            protocol.LiveOutput(EvaluationState.RUNNING, "e3", 3),
            protocol.LiveOutput(EvaluationState.RUNNING, "e3", 3, 0, 3, "one"),
            protocol.LiveOutput(EvaluationState.RUNNING, "e3", 3, 2, 9, "e\ntwo\né"),
            protocol.LiveOutput(EvaluationState.DONE, "e3", 3),
        ]
    )
    details = iter([detail(RUNNING, state=PointState.RUNNING)] * 2)
    steering.on("GET", POINT, lambda _asked: next(details, detail(RUNNING)))
    steering.on("GET", f"{POINT}/output", lambda _asked: next(looks))

    assert main(["logs", "t2t2t2t2", "4", "--follow"]) == 0

    printed = capsys.readouterr()
    assert printed.out == "one\ntwo\né"
    assert printed.err.endswith("point 4 has ended\n")


def test_storage_is_a_table_with_its_sum(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Deleted tasks are there as long as their objects are."""
    items = [
        protocol.StorageUse("t2", "digits", "ada", 3, 3 * 2**30, 0, 2**30),
        protocol.StorageUse("t3", "", "ada", 1, 2**20, 512, 2**20),
    ]
    steering.on("GET", "/storage", protocol.Storage(items, 10 * 2**30, None))

    assert main(["storage"]) == 0

    header, first, second, total = capsys.readouterr().out.splitlines()
    assert header.split() == "task name objects stored pending doomed owner".split()
    assert first.split() == "t2 digits 3 3 GiB 0 B 1 GiB ada".split()
    assert "(deleted)" in second
    assert total == "3 GiB in all; quota: 10 GiB for each task"


def test_a_point_that_was_not_tried_says_so(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Rather than printing nothing."""
    steering.on("GET", POINT, detail(state=PointState.READY))

    main(["logs", "t2t2t2t2", "4"])

    assert "was not tried yet" in capsys.readouterr().err
