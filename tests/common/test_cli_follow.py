"""Following a task: which views are made of what the service answers, and how it ends."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import fake_steering
from fake_steering import FakeSteering, Problem, make_best, make_point, make_summary, make_task
from gridtune_common import protocol
from gridtune_common.cli import follow, live, main
from gridtune_common.client import Client
from gridtune_common.errors import Refused, Unreachable

NOW = datetime(2026, 3, 1, 12, 2, tzinfo=UTC)


@pytest.fixture
def steering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeSteering]:
    """A fake service with a task at work, that the command line finds by itself."""
    with fake_steering.served() as fake:
        fake_steering.configure(fake, monkeypatch, tmp_path)
        monkeypatch.setattr(follow, "_POLL_SECONDS", 0.0)
        report = protocol.StoredReport("e1", 2, {"loss": 0.5}, fake_steering.CREATED)
        running = make_point(9, state=protocol.PointState.RUNNING, value=None, ended_at=None, worker="node-1/0")
        pages = {
            "done": [make_point(3, ended_at="3"), make_point(1, value=0.4, ended_at="1"), make_point(2, value=0.9)],
            "running": [running],
            "failed": [make_point(4, state=protocol.PointState.FAILED, message="exit code 1\nmore")],
        }
        fake.on("GET", "/tasks/t2t2t2t2", make_task())
        fake.on("GET", "/tasks/t2t2t2t2/points", lambda asked: protocol.PointPage(pages[asked.query["state"]]))
        fake.on("GET", "/tasks/t2t2t2t2/points/9", protocol.PointDetail(running, [], [report]))
        fake.on("GET", "/tasks/t2t2t2t2/best", make_best())
        yield fake


@pytest.fixture
def client(steering: FakeSteering) -> Iterator[Client]:
    """A client of the fake service."""
    client = Client(steering.url, "abc", retry_for=0.0)
    yield client
    client.close()


@pytest.fixture
def follower(client: Client) -> follow.Follower:
    """A follower with clocks that stand still."""
    return follow.Follower(client, "t2t2t2t2", monotonic=lambda: 0.0, now=lambda: NOW)


def test_a_view_is_put_together_from_the_service(follower: follow.Follower) -> None:
    """Progress, best, curve, running points with their reports, and failures are all there."""
    assert follower.look() == live.View(
        name="digits",
        id="t2t2t2t2",
        state=protocol.TaskState.RUNNING,
        counts=protocol.PointCounts(ready=1, running=2, done=5, failed=1),
        objective="loss",
        goal="minimize",
        budget=20,
        elapsed_seconds=120.0,
        eta_seconds=280.0,
        best=0.123456789,
        best_point=3,
        best_parameters={"learning_rate": 0.01, "optimizer": "adam"},
        curve=(0.4, 0.4, 0.123456789),
        running=(live.RunningPoint(9, "node-1/0", 120.0, "loss=0.5 at step 2"),),
        failures=(live.FailedPoint(4, "exit code 1"),),
    )


def test_a_view_says_why_the_task_fits_nobody(steering: FakeSteering, follower: follow.Follower) -> None:
    """As the service says it."""
    steering.on("GET", "/tasks/t2t2t2t2", replace(make_task(), unfit="gpus is 0"))

    assert follower.look().unfit == "gpus is 0"


def test_what_cannot_have_changed_is_not_asked_again(steering: FakeSteering, follower: follow.Follower) -> None:
    """A second look without news asks for the task and its running points only."""
    follower.look()
    steering.asked.clear()

    follower.look()

    assert [asked.path for asked in steering.asked] == [
        "/tasks/t2t2t2t2",
        "/tasks/t2t2t2t2/points",
        "/tasks/t2t2t2t2/points/9",
    ]


def test_the_curve_goes_on_with_the_best_of_each_look(steering: FakeSteering, follower: follow.Follower) -> None:
    """New results extend the curve without fetching all points again."""
    follower.look()
    steering.on("GET", "/tasks/t2t2t2t2", make_task(counts=protocol.PointCounts(done=6), best=0.1, best_point=8))

    assert follower.look().curve == (0.4, 0.4, 0.123456789, 0.1)


def test_a_service_that_goes_away_is_waited_for(steering: FakeSteering, follower: follow.Follower) -> None:
    """The last view stays, with a notice, until the service is back."""
    before = follower.look()
    steering.on("GET", "/tasks/t2t2t2t2", Problem(503))
    away = follower.look()
    steering.on("GET", "/tasks/t2t2t2t2", make_task())

    assert (away.notice, away.counts) == ("service away, retrying ...", before.counts)
    assert follower.look() == before


def test_a_service_that_was_never_there_is_an_error(steering: FakeSteering, follower: follow.Follower) -> None:
    """There is nothing to show yet, so the error is told."""
    steering.on("GET", "/tasks/t2t2t2t2", Problem(503))

    with pytest.raises(Unreachable):
        follower.look()


def test_a_task_that_is_gone_is_an_error(steering: FakeSteering, follower: follow.Follower) -> None:
    """A refusal is no outage."""
    follower.look()
    steering.on("GET", "/tasks/t2t2t2t2", Problem(404, {"detail": "there is no task t2t2t2t2"}))

    with pytest.raises(Refused, match="there is no task t2t2t2t2"):
        follower.look()


@pytest.mark.parametrize(("state", "done", "code"), [("finished", 1, 0), ("finished", 0, 1), ("cancelled", 5, 1)])
def test_the_exit_code_tells_how_a_task_ended(state: str, done: int, code: int) -> None:
    """Finished with at least one done point is success; all else is not."""
    summary = make_summary(state=protocol.TaskState(state), counts=protocol.PointCounts(done=done))

    assert follow.exit_code(summary) == code


def test_watch_ends_with_the_task(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Each piece of news is a line when stdout is no terminal."""
    ended = make_task(state=protocol.TaskState.FINISHED, counts=protocol.PointCounts(done=19, failed=1))
    answers = iter([make_task(), make_task(), Problem(503)])
    steering.on("GET", "/tasks/t2t2t2t2", lambda asked: next(answers, ended))

    assert main(["watch", "t2t2t2t2"]) == 0

    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert [line.split(",")[0] for line in lines] == [
        "digits running: 5/20 done",
        "digits running: 5/20 done",
        "digits finished: 19/20 done",
    ]
    assert lines[1].endswith("service away, retrying ...")


def test_watch_ends_when_the_service_paused_the_task(
    steering: FakeSteering, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says why, what was printed last and how to go on, and the exit code is 1 whatever was done before."""
    halted = make_task(state=protocol.TaskState.PAUSED, reason="it fails everywhere", stopped_by="same_failure")
    details = [{"output_tail": "old"}, {"output_tail": "No module named 'torch'\n"}]
    events = [protocol.Event(n, "", "gridtune/retries", "task.paused", details=item) for n, item in enumerate(details)]
    pages = {"": protocol.EventPage(events[:1], "1"), "1": protocol.EventPage(events[1:], "2")}
    steering.on("GET", "/tasks/t2t2t2t2", halted)
    steering.on(
        "GET", "/tasks/t2t2t2t2/events", lambda asked: pages.get(asked.query.get("after", ""), protocol.EventPage([]))
    )

    assert main(["watch", "t2t2t2t2"]) == 1

    assert capsys.readouterr().err.splitlines() == [
        "the service paused task t2t2t2t2: it fails everywhere",
        "the end of its output:",
        "  No module named 'torch'",
        "once the cause is gone, go on with: gridtune resume t2t2t2t2",
        "if the task itself has to change: gridtune cancel t2t2t2t2, and submit it anew",
    ]


def test_watch_waits_while_a_person_has_paused_the_task(steering: FakeSteering) -> None:
    """Whoever paused it can resume it, and the watching goes on."""
    paused = make_task(state=protocol.TaskState.PAUSED, reason="paused by ada")
    answers = iter([paused, paused])
    ended = make_task(state=protocol.TaskState.FINISHED)
    steering.on("GET", "/tasks/t2t2t2t2", lambda asked: next(answers, ended))

    assert main(["watch", "t2t2t2t2"]) == 0


def test_a_tick_can_end_the_following(client: Client) -> None:
    """What a caller looks after while it follows may fail, and the client's patience is restored."""
    client.retry_for = 7.0

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow.follow(client, "t2t2t2t2", follow.silent(), tick=fail)

    assert client.retry_for == 7.0
