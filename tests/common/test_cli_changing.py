"""The commands that change something: what they send, and what they say is now true."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import fake_steering
from fake_steering import FakeSteering, make_task
from gridtune_common import protocol
from gridtune_common.cli import main

SECRET = "gt_0123456789"


@pytest.fixture
def steering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeSteering]:
    """A fake service that the command line finds by itself."""
    with fake_steering.served() as fake:
        fake_steering.configure(fake, monkeypatch, tmp_path)
        yield fake


@pytest.fixture
def tokens(steering: FakeSteering) -> FakeSteering:
    """A fake service with one token."""
    token = protocol.Token("k1", "", "ada", protocol.Scope.TASK, fake_steering.CREATED, task="t2t2t2t2")
    steering.on("POST", "/tokens", protocol.CreatedToken(token, SECRET))
    steering.on("GET", "/tokens", protocol.TokenList([token]))
    steering.on("DELETE", "/tokens/k1", None)
    return steering


@pytest.mark.parametrize(
    ("words", "state", "sent", "said"),
    [
        (["pause", "t2t2t2t2"], "paused", "pause", "is paused; running evaluations go on to their end"),
        (["resume", "t2t2t2t2"], "running", "resume", "hands out points again"),
        (["cancel", "t2t2t2t2"], "cancelled", "cancel", "is cancelled; what was found is kept"),
        (["extend", "t2t2t2t2", "10"], "running", "extend", "is running and may make 20 points in all"),
    ],
)
def test_a_change_is_confirmed_in_one_line(
    words: list[str],
    state: str,
    sent: str,
    said: str,
    steering: FakeSteering,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each change is sent with a request id, and the answer tells what is now true."""
    steering.on("PATCH", "/tasks/t2t2t2t2", make_task(state=protocol.TaskState(state)))

    assert main(words) == 0

    body = steering.asked[0].body
    assert (body["action"], body["points"]) == (sent, int((*words, "0")[2]))
    assert len(body["request_id"]) == 32
    assert capsys.readouterr().out == f"digits (t2t2t2t2) {said}\n"


def test_deleting_names_what_is_gone(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """A name is looked up first, so that the very task that is named is deleted, by its id."""
    steering.on("GET", "/tasks/t2t2t2t2", make_task())
    steering.on("DELETE", "/tasks/t2t2t2t2", None)

    assert main(["delete", "t2t2t2t2"]) == 0

    assert capsys.readouterr().out == "digits (t2t2t2t2) is deleted\n"
    assert "request_id" in steering.asked[1].query


def test_a_token_for_a_task_goes_to_stdout_alone(tokens: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """``$(gridtune token create --task T)`` is the secret and nothing else."""
    assert main(["token", "create", "--task", "t2t2t2t2", "--lifetime", "7d"]) == 0

    body = tokens.asked[0].body
    assert (body["scope"], body["task"], body["lifetime_seconds"]) == ("task", "t2t2t2t2", 604800.0)
    assert capsys.readouterr() == (f"{SECRET}\n", "token k1: task for task t2t2t2t2, user ada\n")


def test_a_token_is_made_for_a_task_by_its_name(tokens: FakeSteering) -> None:
    """The service gets the id."""
    task = make_task()
    tokens.on("GET", "/whoami", protocol.Identity("ada", protocol.Scope.USER, "k1"))
    tokens.on("GET", "/tasks", protocol.TaskPage([task.summary]))

    assert main(["token", "create", "--task", "digits"]) == 0

    assert tokens.asked[-1].body["task"] == "t2t2t2t2"


def test_a_port_beyond_all_ports_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is made on disk."""
    assert main(["serve", "--port", "99999"]) == 2
    assert "no port from 0 to 65535" in capsys.readouterr().err


def test_a_token_can_be_written_for_its_owner_only(
    tokens: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With -o the secret is in a file with mode 0600, and on no stream."""
    assert main(["token", "create", "--task", "t2t2t2t2", "-o", "token"]) == 0

    assert (tmp_path / "token").read_text() == f"{SECRET}\n"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize("words", [["--scope", "task"], ["--scope", "user", "--task", "t2t2t2t2"]])
def test_scope_and_task_belong_together(
    words: list[str], tokens: FakeSteering, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task token without a task, or the other way round, is wrong usage."""
    assert main(["token", "create", *words]) == 2
    assert capsys.readouterr().err == "error: --scope task and --task TASK belong together\n"


def test_tokens_are_listed_without_secrets(tokens: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """A token is a row."""
    assert main(["token", "list"]) == 0

    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == "id scope user task created expires name".split()
    assert row.startswith("k1  task   ada   t2t2t2t2  20")


def test_a_token_is_revoked_by_its_id(tokens: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Revoking says what is now true."""
    assert main(["token", "revoke", "k1"]) == 0
    assert capsys.readouterr().out == "token k1 is revoked\n"


def test_a_host_is_forgiven_by_its_name(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """With its site, if it is given; the answer says which hosts get points again."""
    host = protocol.WorkerHost("cern", "node-1", fake_steering.CREATED)
    steering.on("POST", "/workers/forgive", protocol.WorkerHosts([host]))

    assert main(["workers", "--forgive", "node-1", "--site", "cern"]) == 0

    body = steering.asked[0].body
    assert (body["host"], body["site"], len(body["request_id"])) == ("node-1", "cern", 32)
    assert capsys.readouterr().out == "node-1 at cern gets points again\n"


def test_a_site_is_for_forgiving(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """A listing has all sites."""
    assert main(["workers", "--site", "cern"]) == 2
    assert capsys.readouterr().err == "error: --site belongs to --forgive HOST\n"


def test_submit_prints_how_to_start_workers(
    steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task's id and address come with the lines that start an agent."""
    steering.on("POST", "/tasks", make_task())
    (tmp_path / "task.json").write_text(TASK_FILE)

    assert main(["submit", "task.json"]) == 0

    assert steering.asked[0].body["document"]["name"] == "digits"
    assert steering.asked[0].body["source"] == TASK_FILE
    assert capsys.readouterr().out.splitlines() == [
        "task digits, id t2t2t2t2",
        f"{steering.url}/api/v1/tasks/t2t2t2t2",
        "",
        "start workers, here or on any machine that reaches the service:",
        "  export GRIDTUNE_TOKEN=$(gridtune token create --task t2t2t2t2)",
        f"  gridtune agent --server {steering.url} --task t2t2t2t2",
    ]


def test_submit_looks_tasks_to_start_warm_from_up(
    steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The service gets ids; what became of their results is the first thing to be said."""
    task = make_task()
    task.document["warm_start"] = ["t2t2t2t2", "t3t3t3t3"]
    details = {"source": "task t2t2t2t2", "taken": 38, "skipped": 2, "why": "2 outside of the space"}
    steering.on("GET", "/whoami", protocol.Identity("ada", protocol.Scope.USER, "k1"))
    steering.on("GET", "/tasks", protocol.TaskPage([task.summary]))
    steering.on("POST", "/tasks", task)
    event = protocol.Event(1, fake_steering.CREATED, "ada", "results.imported", details=details)
    steering.on("GET", "/tasks/t2t2t2t2/events", protocol.EventPage([event]))
    document = {**json.loads(TASK_FILE), "warm_start": ["digits", "t3t3t3t3"]}
    (tmp_path / "task.json").write_text(json.dumps(document))

    assert main(["submit", "task.json"]) == 0

    [submitted] = [asked.body for asked in steering.asked if asked.method == "POST"]
    assert submitted["document"]["warm_start"] == ["t2t2t2t2", "t3t3t3t3"]
    assert json.loads(submitted["source"])["warm_start"] == ["digits", "t3t3t3t3"]
    assert capsys.readouterr().out.splitlines()[0] == (
        "warm start: 38 results of task t2t2t2t2 taken, 2 skipped (2 outside of the space)"
    )


def test_submit_can_wait_for_the_end(
    steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--wait follows the task, and its exit code tells how it ended."""
    ended = make_task(state=protocol.TaskState.CANCELLED, counts=protocol.PointCounts(cancelled=3), best_point=None)
    steering.on("POST", "/tasks", make_task())
    steering.on("GET", "/tasks/t2t2t2t2", ended)
    (tmp_path / "task.json").write_text(TASK_FILE)

    assert main(["submit", "task.json", "--wait"]) == 1
    assert "digits cancelled: 0/20 done" in capsys.readouterr().out.splitlines()[-1]


def test_submit_does_not_wait_for_a_task_that_was_halted(
    steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON document stays clean; why the task does not go on is on stderr."""
    why = {"reason": "it fails everywhere", "stopped_by": "same_failure"}
    halted = make_task(state=protocol.TaskState.PAUSED, counts=protocol.PointCounts(ready=5), best_point=None, **why)
    steering.on("POST", "/tasks", make_task())
    steering.on("GET", "/tasks/t2t2t2t2", halted)
    (tmp_path / "task.json").write_text(TASK_FILE)

    assert main(["submit", "task.json", "--wait", "--json"]) == 1

    out, err = capsys.readouterr()
    assert json.loads(out)["summary"]["stopped_by"] == "same_failure"
    assert "the service paused task t2t2t2t2: it fails everywhere" in err.splitlines()


def test_validate_sums_the_task_up(steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A valid file is described, and no service is asked."""
    (tmp_path / "task.json").write_text(TASK_FILE)

    assert main(["validate", "task.json"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "task.json is a valid task"
    assert "size of the space: 4 points" in lines
    assert steering.asked == []


def test_validate_names_flaws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be used is exit code 2."""
    path = tmp_path / "task.json"
    path.write_text(TASK_FILE.replace('"int"', '"itn"'))

    assert main(["validate", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} cannot be used:\n  - space.layers")


TASK_FILE = """{
  "name": "digits",
  "space": {"layers": {"type": "int", "low": 1, "high": 4}},
  "objective": {"metric": "loss", "goal": "minimize"},
  "payload": {"command": "true"},
  "stop": {"points": 20}
}
"""
