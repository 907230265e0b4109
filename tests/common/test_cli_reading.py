"""The commands that read from the service: what they ask, and what they print."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fake_steering
from fake_steering import FakeSteering, make_best, make_evaluation, make_point, make_summary, make_task
from gridtune_common import protocol, wire
from gridtune_common.cli import main, text
from gridtune_common.cli.commands import best


@pytest.fixture
def steering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeSteering]:
    """A fake service that the command line finds by itself."""
    with fake_steering.served() as fake:
        fake_steering.configure(fake, monkeypatch, tmp_path)
        yield fake


@pytest.fixture
def points(steering: FakeSteering) -> FakeSteering:
    """A fake service with a done and a failed point."""
    failed = make_point(
        4,
        state=protocol.PointState.FAILED,
        value=None,
        metrics={},
        attempts=3,
        message="exit code 1",
    )
    steering.on("GET", "/tasks/t2t2t2t2/points", protocol.PointPage([make_point(), failed]))
    steering.on("GET", "/tasks/t2t2t2t2", make_task())
    return steering


#: What some worker has.
FOUR = protocol.WorkerResources(cpus=4)


def as_json(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed, as JSON."""
    return json.loads(capsys.readouterr().out)


def test_tasks_are_listed_in_columns(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """A task is a row; the token travels as a header."""
    steering.on("GET", "/tasks", protocol.TaskPage([make_summary(ended_at=fake_steering.CREATED)]))

    assert main(["tasks", "--state", "running"]) == 0

    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == "id name state done failed best objective age owner".split()
    assert row.startswith("t2t2t2t2  digits  running  5/20       1  0.123457  minimize loss  ")
    assert (steering.asked[0].query, steering.asked[0].token) == ({"state": "running", "limit": "20"}, "abc")


def test_all_tasks_are_one_json_document(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """--all --json puts the pages together."""
    first = protocol.TaskPage([make_summary(id="t2")], next="t2")
    second = protocol.TaskPage([make_summary(id="t2t2t2t2")])
    steering.on("GET", "/tasks", lambda asked: second if asked.query.get("after") else first)

    assert main(["tasks", "--all", "--json"]) == 0

    page = wire.decode(protocol.TaskPage, as_json(capsys))
    assert ([task.id for task in page.items], page.next) == (["t2", "t2t2t2t2"], None)


def test_a_listing_that_was_cut_says_so(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """With more tasks than the limit, stderr tells how to see them."""
    steering.on("GET", "/tasks", protocol.TaskPage([make_summary()], next="t2t2t2t2"))

    main(["tasks", "--limit", "1"])

    assert capsys.readouterr().err == "there are more: --all\n"


def test_a_task_goes_by_its_name_too(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """A name stands for the caller's own newest task of that name, and for nobody else's."""
    task = make_task()
    steering.on("GET", "/whoami", protocol.Identity("ada", protocol.Scope.OPERATOR, "k1"))
    steering.on("GET", "/tasks", protocol.TaskPage([task.summary]))
    steering.on("GET", "/tasks/t2t2t2t2", task)

    assert main(["show", "digits"]) == 0

    listing = next(asked for asked in steering.asked if asked.path == "/tasks")
    assert listing.query == {"name": "digits", "owner": "ada", "limit": "1"}
    assert "t2t2t2t2" in capsys.readouterr().out


def test_an_unknown_name_is_exit_code_4(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to take instead."""
    steering.on("GET", "/whoami", protocol.Identity("ada", protocol.Scope.USER, "k1"))
    steering.on("GET", "/tasks", protocol.TaskPage([]))

    assert main(["show", "digits"]) == 4
    assert capsys.readouterr().err == "error: you have no task called 'digits'\n"


def test_a_task_is_shown_with_its_space(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that is needed to understand the task is there."""
    steering.on("GET", "/tasks/t2t2t2t2", make_task(state=protocol.TaskState.PAUSED, reason="by ada"))

    assert main(["show", "t2t2t2t2"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "name       digits",
        "id         t2t2t2t2",
        "state      paused (by ada)",
        "owner      ada",
        "objective  minimize loss",
        "algorithm  hyperopt/tpe, seed 7",
        "points     5 of 20 done, 1 ready, 2 running, 1 failed",
        "best       loss 0.123457 at point 3",
        "created    " + text_local(),
        "versions   gridtune=0.1.0",
        "",
        "parameter      type         values",
        "learning_rate  float        1e-05 to 0.1, log scale",
        "optimizer      categorical  adam, sgd",
        "momentum       float        0.5 to 0.99 (when optimizer is sgd)",
        "",
        "size of the space: infinite (2 of 3 parameters continuous)",
        "constants: epochs=30",
    ]


def text_local() -> str:
    """The fake's only time, in this machine's time zone."""
    return text.local(fake_steering.CREATED)


def test_the_task_file_can_be_had_again(steering: FakeSteering, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """--source prints what was submitted, byte for byte."""
    steering.on("GET", "/tasks/t2t2t2t2", make_task())

    assert main(["show", "t2t2t2t2", "--source"]) == 0
    assert capsysbinary.readouterr().out == b"name: digits\n"


def test_best_is_shown_beside_the_median(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """The best point comes with its parameters and its gain."""
    steering.on("GET", "/tasks/t2t2t2t2/best", make_best())

    assert main(["best", "t2t2t2t2"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "best loss 0.123457 at point 3 (minimize)",
        "  learning_rate  0.01",
        "  optimizer      adam",
        "other metrics: accuracy=0.9",
        "median 0.5 over 5 done points; the best is 0.376543 lower (75.3 %)",
    ]


OBJECTIVES = [protocol.Objective("loss", "minimize"), protocol.Objective("size", "maximize")]


def test_best_of_several_objectives_is_the_front(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole front is a table: objectives, other metrics, parameters."""
    front = [
        make_point(3, metrics={"accuracy": 0.9, "loss": 0.123456789, "size": 10.0}),
        make_point(11, value=0.5, metrics={"accuracy": None, "loss": 0.5, "size": 12.0}),
    ]
    steering.on("GET", "/tasks/t2t2t2t2/best", make_best(point=front[0], objectives=OBJECTIVES, front=front))

    assert main(["best", "t2t2t2t2"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "front of 2 points among 5 done (minimize loss, maximize size)",
        "point      loss  size  accuracy  parameters",
        "    3  0.123457    10       0.9  learning_rate=0.01 optimizer=adam",
        "   11       0.5    12         -  learning_rate=0.01 optimizer=adam",
    ]


def test_a_long_front_can_be_cut() -> None:
    """A run on this machine ends with the first of them, and says how many there are."""
    front = [make_point(number) for number in range(12)]

    lines = best.lines(make_best(objectives=OBJECTIVES, front=front), most=10)

    assert lines[0].startswith("front of 12 points")
    assert (len(lines), lines[-1]) == (13, "and 2 more")


def test_a_front_without_points_says_so() -> None:
    """There is nothing to compare before the first point is done."""
    assert best.lines(make_best(point=None, median=None, objectives=OBJECTIVES, front=[])) == ["no point is done yet"]


def test_a_task_with_several_objectives_tells_its_front(
    steering: FakeSteering, capsys: pytest.CaptureFixture[str]
) -> None:
    """All objectives are named, and the size of the front stands beside the best of the first."""
    task = make_task(objectives=OBJECTIVES, n_front=7)
    steering.on("GET", "/tasks/t2t2t2t2", task)
    steering.on("GET", "/tasks", protocol.TaskPage([task.summary]))

    assert (main(["show", "t2t2t2t2"]), main(["tasks"])) == (0, 0)

    printed = capsys.readouterr().out
    assert "\nobjective  minimize loss, maximize size\n" in printed
    assert "\nbest       loss 0.123457 at point 3\nfront      7 points\n" in printed
    assert "  0.123457  minimize loss, maximize size (front of 7)  " in printed


def test_points_are_listed_in_columns(points: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Every metric has its column, the objective the first; a failed point says why."""
    assert main(["points", "t2t2t2t2"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "point  state       loss  accuracy  failures  time   parameters",
        "    3  done    0.123457       0.9         1  1m15s  learning_rate=0.01 optimizer=adam",
        "    4  failed         -         -         3  1m15s  exit code 1 | learning_rate=0.01 optimizer=adam",
    ]


def test_metrics_without_a_column_are_named(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """A training with very many metrics leaves room for the parameters."""
    many = make_point(metrics={"loss": 0.5, **{f"m{number}": 1.0 for number in range(8)}})
    steering.on("GET", "/tasks/t2t2t2t2/points", protocol.PointPage([many]))
    steering.on("GET", "/tasks/t2t2t2t2", make_task())

    assert main(["points", "t2t2t2t2"]) == 0

    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == "point state loss m0 m1 m2 m3 m4 m5 failures time parameters".split()
    assert err == "not shown: m6, m7 (--json has all)\n"


def test_points_as_json_are_a_page(points: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints the wire message, which can be read back."""
    assert main(["points", "t2t2t2t2", "--json"]) == 0
    assert wire.decode(protocol.PointPage, as_json(capsys)).items[0] == make_point()


def test_one_point_is_shown_with_its_output(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """--number shows evaluations, reports and the end of the output."""
    report = protocol.StoredReport("e1", 2, {"loss": 0.5}, fake_steering.CREATED)
    detail = protocol.PointDetail(make_point(4, metrics={}), [make_evaluation()], [report])
    steering.on("GET", "/tasks/t2t2t2t2/points/4", detail)

    assert main(["points", "t2t2t2t2", "--number", "4"]) == 0

    printed = capsys.readouterr().out
    assert "\nevaluations\ntry  state   worker    site   time  exit  why\n" in printed
    assert "\n  1  failed  node-1/0  local  2.0s     1  exit_code: the command ended with code 1\n" in printed
    assert "\nreports\nstep  metrics\n   2  loss=0.5\n" in printed
    assert printed.endswith("end of the output of try 1\n  Traceback\n  ValueError: no data\n")


def test_a_point_tells_what_its_tries_had_and_used(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each try of which something is known, without columns of which nothing is."""
    usage = protocol.Usage(cpu_seconds=75.0, peak_memory_bytes=2**30, runtime="process")
    tries = [
        make_evaluation(),
        make_evaluation(attempt=2, resources=FOUR),
        make_evaluation(attempt=3, usage=usage),
        make_evaluation(attempt=4, usage=protocol.Usage(cpu_seconds=5.0)),
    ]
    steering.on("GET", "/tasks/t2t2t2t2/points/4", protocol.PointDetail(make_point(4), tries, []))

    assert main(["points", "t2t2t2t2", "--number", "4"]) == 0

    printed = capsys.readouterr().out
    assert "\nworkers\ntry  host    has\n  2  node-1  4 cpus\n\nused\n" in printed
    assert "\ntry  cpu time  memory  runtime\n  3  1m15s     1 GiB   process\n  4  5.0s      -       -\n" in printed


def test_output_of_others_cannot_steer_the_terminal(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in a worker's name or output are shown as question marks."""
    evil = make_evaluation(worker="a\x1b[2J", output_tail="\x1b]0;title\x07ok\n")
    steering.on("GET", "/tasks/t2t2t2t2/points/4", protocol.PointDetail(make_point(4), [evil], []))

    main(["points", "t2t2t2t2", "--number", "4"])

    assert "\x1b" not in capsys.readouterr().out


def make_event(number: int) -> protocol.Event:
    """An event of the audit log."""
    return protocol.Event(number, fake_steering.CREATED, "ada", "point.done", "t2t2t2t2", 3, "e1", {"value": 0.5})


def test_events_are_fetched_to_the_end(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Pages are followed until one is empty; each event is a line."""
    pages = {None: protocol.EventPage([make_event(1)], "1"), "1": protocol.EventPage([], "1")}
    steering.on("GET", "/tasks/t2t2t2t2/events", lambda asked: pages[asked.query.get("after")])

    assert main(["events", "t2t2t2t2", "--kind", "point.done"]) == 0

    assert capsys.readouterr().out == f"{text_local()}  point.done point 3  by ada  value=0.5\n"
    assert steering.asked[0].query == {"kind": "point.done", "limit": "500"}


def test_following_events_ends_with_the_task(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """After the task's end a last look is taken, so that nothing is missed; --json gives a line each."""
    answers = iter(
        [
            protocol.EventPage([make_event(1)], "1"),
            protocol.EventPage([], "1"),
            protocol.EventPage([make_event(2)], "2"),
            protocol.EventPage([], "2"),
        ]
    )
    steering.on("GET", "/tasks/t2t2t2t2/events", lambda asked: next(answers))
    steering.on("GET", "/tasks/t2t2t2t2", make_task(state=protocol.TaskState.FINISHED))

    assert main(["events", "t2t2t2t2", "--follow", "--json"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [1, 2]


def test_an_export_goes_to_its_file(steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name of the file decides the format."""
    steering.on("GET", "/tasks/t2t2t2t2/export", b"number,loss\n")

    assert main(["export", "t2t2t2t2", "-o", "points.csv"]) == 0

    assert (tmp_path / "points.csv").read_bytes() == b"number,loss\n"
    assert capsys.readouterr().out == "wrote points.csv\n"
    assert steering.asked[0].query == {"format": "csv"}


def test_an_export_that_cannot_be_written_says_why(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """An output path that is a folder, or in one that is not there, is a usage error."""
    steering.on("GET", "/tasks/t2t2t2t2/export", b"{}")

    assert main(["export", "t2t2t2t2", "-o", "mistyped/points.csv"]) == 2
    assert capsys.readouterr().err == "error: cannot write mistyped/points.csv: No such file or directory\n"
    assert main(["export", "t2t2t2t2", "-o", "."]) == 2
    assert capsys.readouterr().err == "error: cannot write .: Is a directory\n"


def test_whoami_names_user_and_scope(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """The identity comes with the server that was asked."""
    steering.on("GET", "/whoami", protocol.Identity("ada", protocol.Scope.USER, "k1"))

    assert main(["whoami"]) == 0
    assert capsys.readouterr().out == f"server  {steering.url}\nuser    ada\nscope   user\ntoken   k1\n"


def test_a_service_that_says_no_is_exit_code_4(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """The problem's detail is the message."""
    assert main(["show", "t9t9t9t9"]) == 4
    assert capsys.readouterr().err == "error: there is no /tasks/t9t9t9t9\n"


def test_a_service_that_is_away_is_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, steering: FakeSteering, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens at the address."""
    monkeypatch.setenv("GRIDTUNE_SERVER", "http://127.0.0.1:9")

    assert main(["tasks"]) == 3
    assert capsys.readouterr().err.startswith("error: cannot reach http://127.0.0.1:9: ")


def test_a_warning_of_the_settings_reaches_stderr(
    steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An open token file is warned of, and the command goes on."""
    (tmp_path / "token").write_text("abc")
    (tmp_path / "token").chmod(0o644)
    steering.on("GET", "/tasks", protocol.TaskPage([]))

    assert main(["tasks", "--token-file", "token"]) == 0
    assert capsys.readouterr() == (
        "no tasks\n",
        "warning: token holds a token and others can read it: chmod 600 token\n",
    )


@pytest.mark.parametrize(
    ("value", "median", "words"),
    [
        (0.2, 0.5, "the best is 0.3 lower (60 %)"),
        (-1.0, 0.5, "the best is 1.5 lower"),
        (3.0, 0.01, "the best is 2.99 higher"),
    ],
    ids=["of one sign", "of two signs", "far from a small median"],
)
def test_a_gain_is_a_share_only_where_that_means_something(value: float, median: float, words: str) -> None:
    """Percents of a median near zero, or on its other side, say nothing."""
    point = protocol.Point(7, protocol.PointState.DONE, {}, {}, 0, "", value=value)

    assert best.median(protocol.Best("minimize", "loss", point, median=median, n_done=20)).endswith(words)


def test_points_of_the_users_own_are_marked(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """The algorithm's points, which are most, are not."""
    user, initial = protocol.PointOrigin.USER, protocol.PointOrigin.INITIAL
    points = [make_point(0, origin=initial), make_point(1, origin=user), make_point(2)]
    steering.on("GET", "/tasks/t2t2t2t2", make_task())
    steering.on("GET", "/tasks/t2t2t2t2/points", protocol.PointPage(points))

    assert main(["points", "t2t2t2t2"]) == 0

    what = [line.partition("learning_rate")[0].split()[-1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert what == ["[initial]", "[user]", "1m15s"]


def test_show_tells_what_waits_and_what_is_known(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Points of the user's own that wait, and results from elsewhere."""
    steering.on("GET", "/tasks/t2t2t2t2", replace(make_task(), wished=2, known=40))

    assert main(["show", "t2t2t2t2"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert "wished     2 of your own points wait" in lines
    assert "known      40 results from elsewhere" in lines


def make_host(**changes: Any) -> protocol.WorkerHost:
    """A host that was set aside."""
    host = protocol.WorkerHost(
        site="cern",
        host="node-1",
        last_seen_at=fake_steering.CREATED,
        workers=2,
        tasks=["t2t2t2t2"],
        done=5,
        failed=4,
        lost=1,
        failures_in_a_row=4,
        set_aside_until=fake_steering.CREATED,
        reason="4 failures in a row here",
    )
    return replace(host, **changes)


def test_workers_are_listed_by_host(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """All pages; a host that is set aside says until when and why."""
    first = protocol.WorkerHosts([make_host()], next="n")
    second = protocol.WorkerHosts([make_host(site="", host="node-2", tasks=[], set_aside_until=None, resources=[FOUR])])
    steering.on("GET", "/workers", lambda asked: second if asked.query.get("after") else first)

    assert main(["workers", "--all"]) == 0

    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == "site host workers done failed lost in a row seen tasks has set aside".split()
    assert rows[0].split()[:7] == ["cern", "node-1", "2", "5", "4", "1", "4"]
    assert re.search(rf"ago  t2t2t2t2  - +until {text_local()}: 4 failures in a row here$", rows[0])
    assert (rows[1].split()[:2], rows[1].split()[-4:]) == (["-", "node-2"], ["-", "4", "cpus", "-"])
    assert [asked.query["all"] for asked in steering.asked] == ["true", "true"]


def test_workers_of_many_kinds_are_cut_short(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """The first kinds are written out, the others counted."""
    gpu = protocol.WorkerResources(gpus=2, gpu_model="A100", gpu_memory_bytes=40 * 2**30, arch="x86_64")
    labelled = protocol.WorkerResources(memory_bytes=2**30, labels={"rack": "7"})
    steering.on("GET", "/workers", protocol.WorkerHosts([make_host(resources=[gpu, labelled, FOUR])]))

    assert main(["workers"]) == 0

    assert "  2 gpus (A100, 40 GiB), x86_64 | 1 GiB, rack=7 | and 1 more  " in capsys.readouterr().out


def test_workers_can_be_had_as_json(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """--json is the wire message; without --all only those seen lately are asked for."""
    steering.on("GET", "/workers", protocol.WorkerHosts([make_host()]))

    assert main(["workers", "--json"]) == 0

    assert wire.decode(protocol.WorkerHosts, as_json(capsys)).items == [make_host()]
    assert "all" not in steering.asked[0].query


def test_no_workers_are_said_to_be_none(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would say nothing."""
    steering.on("GET", "/workers", protocol.WorkerHosts([]))

    assert main(["workers"]) == 0
    assert capsys.readouterr().out == "no workers\n"


def test_show_says_why_a_task_fits_nobody(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing of it if it fits."""
    steering.on("GET", "/tasks/t2t2t2t2", replace(make_task(), unfit="gpus is 0, the task requires >= 1"))

    main(["show", "t2t2t2t2"])

    assert "unfit      gpus is 0, the task requires >= 1" in capsys.readouterr().out.splitlines()
