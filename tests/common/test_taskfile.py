"""The task file: reading, writing, loading from disk, its commands and its schema."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_common.errors import InvalidDocument, MissingExtra
from gridtune_common.space import Int, SearchSpace
from gridtune_common.space import parsing as space_parsing
from gridtune_common.taskfile import (
    Algorithm,
    Checkpoint,
    DataSource,
    Objective,
    Payload,
    Resources,
    ResultRule,
    Retry,
    StopRules,
    Task,
    fill,
    load_task,
    loading,
    parse_payload,
    parse_task,
    parse_text,
    parsing,
    placeholders,
    task_schema,
)
from gridtune_common.taskfile.command import join_arguments
from strategies import json_values, payload_documents, task_documents

SPACE = {"width": {"type": "int", "low": 16, "high": 512}}
MINIMAL = {"space": SPACE, "objective": {"metric": "val_loss"}, "stop": {"points": 60}}

DIGITS = """\
name: digits-mlp
space:
  learning_rate: {type: float, low: 1e-5, high: 1.0e-1, scale: log}
  layers:        {type: int, low: 1, high: 6}
  width:         {type: int, low: 16, high: 512, scale: log}
  dropout:       {type: float, low: 0.0, high: 0.5, step: 0.05}
  optimizer:     {type: categorical, choices: [adam, sgd]}
  batch_size:    {type: ordinal, choices: [16, 32, 64, 128]}
  momentum:      {type: float, low: 0.5, high: 0.99, when: {optimizer: sgd}}
constants: {epochs: 30}
objective: {metric: val_loss, goal: minimize}
algorithm: {name: hyperopt/tpe, seed: 7, options: {}}
payload:
  command: python train.py --lr {learning_rate} --epochs {epochs} > ${LOG}
  image: registry.example/me/train:1.2
  checkpoint: {paths: [model.pt], interval: 5m}
resources: {cpus: 2, gpus: 0, memory: 4GiB}
stop: {points: 60, target: 0.02, wall_time: 6h, patience: 20}
retry: {attempts: 3}
"""


SOURCE = {"url": "s3://bucket/b", "sha256": "9F86" * 16, "size": "12GiB"}


def with_data(path: str = "a.npz", /, source: Any = None, **payload: Any) -> dict[str, Any]:
    """A task with one input."""
    return with_section("payload", command="x", data={path: source or "https://example.org/a"}, **payload)


def with_section(section: str, /, **fields: Any) -> dict[str, Any]:
    """A task that is right but for one section."""
    return {**MINIMAL, section: fields}


def flaws_of(document: Any) -> list[str]:
    """What is said about a task."""
    with pytest.raises(InvalidDocument) as caught:
        parse_task(document)
    return [str(flaw) for flaw in caught.value.flaws]


def write(folder: Path, document: Any, name: str = "task.json") -> Path:
    """Put a task file into a folder."""
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def shipping(*files: str) -> dict[str, Any]:
    """A task that ships files."""
    return with_section("payload", command="python train.py", files=list(files))


# --- reading and writing ------------------------------------------------------------------------------------


@given(task_documents())
def test_a_task_survives_json(document: dict[str, Any]) -> None:
    """Writing a task as JSON and reading it gives an equal task."""
    task = parse_task(document)

    assert parse_task(json.loads(json.dumps(task.to_json()))) == task


@given(task_documents())
def test_canonical_json_is_a_fixed_point(document: dict[str, Any]) -> None:
    """Reading the canonical document and writing it changes nothing."""
    written = json.dumps(parse_task(document).to_json())

    assert json.dumps(parse_task(json.loads(written)).to_json()) == written


@given(payload_documents())
def test_a_payload_is_read_by_itself(document: dict[str, Any]) -> None:
    """The side that evaluates needs the payload section alone."""
    payload = parse_payload(document)

    assert parse_payload(payload.to_json()) == payload


@given(json_values(), st.sampled_from(["", *parsing.KEYS[""]]))
def test_any_document_is_read_or_refused(value: Any, section: str) -> None:
    """Whatever is written in place of a section, there is an answer and never an internal error."""
    document = {**MINIMAL, section: value} if section else value

    with contextlib.suppress(InvalidDocument):
        assert parse_task(document).to_json()


def test_the_example_means_what_it_says() -> None:
    """Every section of a full task file is where one expects it."""
    task = parse_task(parse_text(DIGITS, "yaml"))

    assert task.name == "digits-mlp"
    assert task.space.names[-1] == "momentum"
    assert task.constants == {"epochs": 30}
    assert task.objectives == (Objective("val_loss", "minimize"),)
    assert task.algorithm == Algorithm("hyperopt/tpe", seed=7)
    assert task.payload == Payload(
        "python train.py --lr {learning_rate} --epochs {epochs} > ${LOG}",
        image="registry.example/me/train:1.2",
        checkpoint=Checkpoint(("model.pt",), 300.0),
    )
    assert task.resources == Resources(cpus=2, memory_bytes=4 * 2**30)
    assert task.stop == StopRules(points=60, target=0.02, wall_time_seconds=21600.0, patience=20)
    assert task.retry == Retry(3)


def test_the_canonical_document_writes_every_default() -> None:
    """Whoever reads the canonical document need not know any default."""
    document = {**MINIMAL, "payload": {"command": "python train.py"}}

    assert parse_task(document).to_json() == {
        "name": "task",
        "space": {"width": {"type": "int", "low": 16, "high": 512, "scale": "linear", "step": 1}},
        "constants": {},
        "objective": {"metric": "val_loss", "goal": "minimize"},
        "algorithm": {"name": "auto", "options": {}},
        "scheduler": {"name": "none"},
        "payload": {
            "command": "python train.py",
            "runtime": "auto",
            "pull": "missing",
            "files": [],
            "environment": {},
            "result": {"file": "output.json", "stdout": {}},
            "grace": "30s",
        },
        "resources": {"cpus": 1, "gpus": 0, "network": False},
        "stop": {"points": 60},
        "retry": {"attempts": 3, "lost": 3, "infrastructure": 5, "stalled": 10, "same_failure": 5},
    }


def test_a_task_without_a_payload_is_one_that_programs_ask_for() -> None:
    """No payload is no flaw."""
    assert parse_task(MINIMAL).payload is None


@pytest.mark.parametrize("empty", [None, "absent"])
def test_null_counts_as_left_out(empty: Any) -> None:
    """A section without content, or a key with the value null, means the default."""
    optional = dict.fromkeys(["name", "constants", "algorithm", "payload", "resources", "retry", "scheduler"])
    document = {**MINIMAL, **(optional if empty is None else {})}

    assert parse_task(document) == parse_task(MINIMAL)


def test_names_alone_are_short_for_algorithm_and_scheduler() -> None:
    """``algorithm: random`` needs no braces."""
    task = parse_task({**MINIMAL, "algorithm": "random", "scheduler": "none"})

    assert task.algorithm == Algorithm("random")
    assert task.scheduler.name == "none"


def test_numbers_in_the_environment_become_text() -> None:
    """Nobody need put the number of threads in quotes."""
    payload = parse_payload({"command": "x", "environment": {"OMP_NUM_THREADS": 4, "LR": 0.5, "MODE": "a"}})

    assert payload.environment == {"OMP_NUM_THREADS": "4", "LR": "0.5", "MODE": "a"}


def test_paths_have_one_form() -> None:
    """``./a/`` and ``a`` are the same path."""
    assert parse_payload({"command": "x", "files": ["./a/", "b//c.py"]}).files == ("a", "b/c.py")


def test_an_address_is_short_for_a_source() -> None:
    """``train.npz: https://…`` needs no braces, and paths and checksums have one form."""
    payload = parse_payload({"command": "x", "data": {"./in//a.npz": "https://example.org/a", "b": SOURCE}})

    assert payload.data == {
        "in/a.npz": DataSource("https://example.org/a"),
        "b": DataSource("s3://bucket/b", sha256="9f86" * 16, size_bytes=12 * 2**30),
    }
    assert payload.to_json()["data"]["in/a.npz"] == {"url": "https://example.org/a", "timeout": "21600s"}


def test_an_input_may_lie_among_files_that_travel() -> None:
    """A folder that travels with the task takes inputs beside its files."""
    payload = parse_payload({"command": "x", "files": ["in"], "data": {"in/a.npz": "https://example.org/a"}})

    assert list(payload.data) == ["in/a.npz"]


def test_a_task_shares_nothing_with_its_document() -> None:
    """Changing the document afterwards, or what was written, does not change the task."""
    document: dict[str, Any] = {**MINIMAL, "constants": {"layers": [1, 2]}}
    task = parse_task(document)

    document["constants"]["layers"].append(3)
    task.to_json()["constants"]["layers"].append(4)

    assert task.constants == {"layers": [1, 2]}


@pytest.mark.parametrize(("goal", "better"), [("minimize", True), ("maximize", False)])
def test_better_means_strictly_better(goal: str, better: bool) -> None:
    """Equal values are not better than each other."""
    objective = Objective("val_loss", goal)

    assert objective.better(0.1, 0.2) is better
    assert objective.better(0.2, 0.1) is not better
    assert not objective.better(0.1, 0.1)


def test_values_are_valid_from_birth() -> None:
    """Constructors refuse with the same words as the parser."""
    space = SearchSpace((Int("width", 1, 2),))

    with pytest.raises(ValueError, match="names no end of the task"):
        StopRules()
    with pytest.raises(ValueError, match=r"constants\.width: is also a parameter"):
        Task("t", space, (Objective("loss"),), StopRules(points=1), constants={"width": 1})
    with pytest.raises(ValueError, match=r"stdout\.loss: .* has 0 groups"):
        ResultRule(stdout={"loss": "loss=.*"})


# --- refusals -----------------------------------------------------------------------------------------------

PARENTHESES = "put one pair of parentheses around the number, and write (?:…) for others"


@pytest.mark.parametrize(
    ("document", "flaw"),
    [
        pytest.param(None, "the task is empty; write at least space, objective, stop and a payload", id="empty"),
        pytest.param([1], "[1] is no mapping; write it as keys and values", id="a list"),
        pytest.param({**MINIMAL, "sapce": 1}, "sapce: unknown key; did you mean space?", id="unknown section"),
        pytest.param(
            {**MINIMAL, "optimizer": "tpe"}, "optimizer: unknown key; write algorithm", id="section of others"
        ),
        pytest.param(
            {**MINIMAL, "space": None},
            "space: is missing; write space: {width: {type: int, low: 16, high: 512}}",
            id="no space",
        ),
        pytest.param(
            {**MINIMAL, "objective": None},
            "objective: is missing; write objective: {metric: val_loss, goal: minimize}",
            id="no objective",
        ),
        pytest.param({**MINIMAL, "stop": None}, "stop: is missing; write stop: {points: 60}", id="no stop"),
        pytest.param(
            {**MINIMAL, "stop": {}},
            "stop: names no end of the task; give points, target, wall_time or patience, such as stop: {points: 60}",
            id="stop empty",
        ),
        pytest.param(with_section("stop", points=0), "stop.points: 0 is too small; the least is 1", id="points"),
        pytest.param(
            with_section("stop", points=True),
            "stop.points: true is no whole number; write one, such as 1",
            id="points boolean",
        ),
        pytest.param(
            with_section("stop", target=float("nan")),
            "stop.target: NaN is not finite; write a plain number",
            id="target nan",
        ),
        pytest.param(
            with_section("stop", wall_time=300),
            "stop.wall_time: 300 has no unit; write the unit, such as 300s",
            id="no unit",
        ),
        pytest.param(
            with_section("stop", wall_time="5 weeks"),
            "stop.wall_time: '5 weeks' is no duration; write it with its unit, such as 30s, 5m, 1h30m or 2d",
            id="unknown unit",
        ),
        pytest.param(
            with_section("stop", wall_time="40000d"),
            "stop.wall_time: is longer than a hundred years; make it shorter, or leave it out for no limit",
            id="a hundred years",
        ),
        pytest.param(
            with_section("stop", trials=3, points=3), "stop.trials: unknown key; write points", id="key of others"
        ),
        pytest.param({**MINIMAL, "name": "a b"}, 'name: "a b" cannot be used; write it like digits-mlp', id="name"),
        pytest.param({**MINIMAL, "name": "a" * 101}, "name: has 101 characters; the most is 100", id="name too long"),
        pytest.param({**MINIMAL, "name": 3}, "name: 3 is no text; write one, such as digits-mlp", id="name no text"),
        pytest.param(
            {**MINIMAL, "objective": "loss"},
            'objective: "loss" is no mapping; write objective as keys and values',
            id="objective no mapping",
        ),
        pytest.param(
            {**MINIMAL, "objective": []},
            "objective: is empty; write {metric: val_loss, goal: minimize}",
            id="objective empty",
        ),
        pytest.param(
            {**MINIMAL, "objective": [{"goal": "minimize"}]},
            "objective[0].metric: is missing; write metric: val_loss",
            id="metric missing",
        ),
        pytest.param(
            {**MINIMAL, "objective": [{"metric": "a"}, {"metric": "a"}]},
            'objective[1].metric: "a" is also objective[0]; keep one of the two',
            id="metric twice",
        ),
        pytest.param(
            with_section("objective", metric=" a"),
            'objective.metric: " a" has blanks around it or characters that do not print; remove them',
            id="metric with blanks",
        ),
        pytest.param(
            with_section("objective", metric="a", goal="min"),
            'objective.goal: "min" is not known; did you mean minimize?',
            id="goal",
        ),
        pytest.param(
            with_section("algorithm", name="a b"),
            'algorithm.name: "a b" cannot be used; write it like hyperopt/tpe',
            id="algorithm",
        ),
        pytest.param(
            with_section("algorithm", seed=2**32),
            "algorithm.seed: 4294967296 is too large; the most is 4294967295",
            id="seed",
        ),
        pytest.param(
            with_section("algorithm", options=[1]),
            "algorithm.options: [1] is no mapping; write one, such as {gamma: 0.25}",
            id="options",
        ),
        pytest.param(
            with_section("scheduler", name="asha", min=1),
            'scheduler.name: "asha" is not known; known are none',
            id="scheduler",
        ),
        pytest.param(
            with_section("retry", attempts=101), "retry.attempts: 101 is too large; the most is 100", id="attempts"
        ),
        pytest.param(with_section("retry", lost=0), "retry.lost: 0 is too small; the least is 1", id="lost"),
        pytest.param(
            with_section("retry", same_failure=-1),
            "retry.same_failure: -1 is too small; the least is 0",
            id="same failure",
        ),
        pytest.param(with_section("resources", cpus=0), "resources.cpus: 0 is too small; the least is 1", id="cpus"),
        pytest.param(
            with_section("resources", network="yes"),
            'resources.network: "yes" is neither true nor false; write one of them',
            id="network",
        ),
        pytest.param(
            with_section("resources", site="CERN"),
            "resources.site: unknown key; write requires: {site: …}",
            id="requirement in the wrong place",
        ),
        pytest.param(
            with_section("payload", command="x", image="python:3.12", runtime="process"),
            "payload.image: is not used by runtime process; leave one of the two out",
            id="image without container",
        ),
        pytest.param(
            with_section("payload", command="x", runtime="docker"),
            "payload.image: is missing; runtime docker needs one, such as python:3.12-slim",
            id="container without image",
        ),
        pytest.param(
            with_section("payload", command="x", runtime="singularity"),
            'payload.runtime: "singularity" is not known; '
            "known are auto, process, docker, podman, apptainer, charliecloud",
            id="runtime",
        ),
        pytest.param(
            with_section("payload", command="x", pull="alway"),
            'payload.pull: "alway" is not known; did you mean always?',
            id="pull",
        ),
        pytest.param(
            with_section("resources", memory=4),
            "resources.memory: 4 has no unit; write the unit, such as 4GiB",
            id="memory without unit",
        ),
        pytest.param(
            with_section("stop", wall_time="9" * 10**6 + "s"),
            f'stop.wall_time: "{"9" * 58}… is no quantity; write a number with its unit, such as 5s',
            id="a million digits",
        ),
        pytest.param(
            with_section("resources", memory="9" * 390 + "GiB"),
            f'resources.memory: "{"9" * 58}… is too large; write less',
            id="memory beyond all",
        ),
        pytest.param(
            with_section("constants", width=3),
            "constants.width: is also a parameter of the space; remove one of the two",
            id="constant and parameter",
        ),
        pytest.param(
            with_section("constants", inf=float("inf")),
            "constants.inf: Infinity is not finite; write a plain number",
            id="constant infinite",
        ),
        pytest.param(
            with_section("constants", a={"b": [{1: 2}]}),
            "constants.a.b[0].1: the key 1 is no text; put it in quotes",
            id="constant with a number for a key",
        ),
        pytest.param(
            {**MINIMAL, "constants": [1]},
            "constants: [1] is no mapping of names to values; write one, such as {epochs: 30}",
            id="constants no mapping",
        ),
        pytest.param(
            {**MINIMAL, "constants": {"in": 1}},
            "constants.in: in is a word of the Python language; write in_ or another name",
            id="constant's name",
        ),
        pytest.param(
            with_section("payload", image="x"),
            "payload.command: is missing; write command: python train.py",
            id="no command",
        ),
        pytest.param(
            with_section("payload", command=" "),
            "payload.command: is empty; write a text, such as python train.py",
            id="command empty",
        ),
        pytest.param(
            with_section("payload", command=["python", True]),
            "payload.command[1]: true is no text; put it in quotes",
            id="argument no text",
        ),
        pytest.param(
            with_section("payload", command="x {widht}"),
            "payload.command: {widht} is no parameter or constant; did you mean {width}? "
            "(write {{widht}} for the text itself)",
            id="placeholder",
        ),
        pytest.param(
            with_section("payload", command="x", files=["/etc/passwd"]),
            "payload.files[0]: /etc/passwd is absolute; write it relative, such as train.py",
            id="file absolute",
        ),
        pytest.param(
            with_section("payload", command="x", files=["a/../../b"]),
            "payload.files[0]: a/../../b leads out of the folder; write it without ..",
            id="file outside",
        ),
        pytest.param(
            with_section("payload", command="x", files=["a\\b"]),
            "payload.files[0]: a\\b has a backslash; write / between folders",
            id="file with backslash",
        ),
        pytest.param(
            with_section("payload", command="x", files=["a", "./a"]),
            "payload.files[1]: ./a is written twice; keep one",
            id="file twice",
        ),
        pytest.param(
            with_section("payload", command="x", files="train.py"),
            'payload.files: "train.py" is no list; write one, such as [train.py]',
            id="files no list",
        ),
        pytest.param(
            with_section("payload", command="x", environment={"A-B": "1"}),
            'payload.environment.A-B: "A-B" cannot be used; write it like OMP_NUM_THREADS',
            id="variable's name",
        ),
        pytest.param(
            with_section("payload", command="x", environment={"GRIDTUNE_DIR": "1"}),
            "payload.environment.GRIDTUNE_DIR: names that begin with GRIDTUNE_ are the agent's own; choose another",
            id="variable reserved",
        ),
        pytest.param(
            with_section("payload", command="x", environment={"A": True}),
            "payload.environment.A: true is no text; put it in quotes",
            id="variable boolean",
        ),
        pytest.param(
            with_section("payload", command="x", timeout="0s"), "payload.timeout: '0s' is not above zero", id="timeout"
        ),
        pytest.param(
            with_section("payload", command="x", data=["a"]),
            'payload.data: ["a"] is no mapping of paths to sources; write one, such as {train.npz: https://example.org/train.npz}',
            id="data no mapping",
        ),
        pytest.param(
            with_data(source=[1]),
            "payload.data.a.npz: [1] is no mapping; write payload.data.a.npz as keys and values",
            id="source no mapping",
        ),
        pytest.param(
            with_data(source={"sha256": "9f" * 32}),
            "payload.data.a.npz: says not where to fetch it; write url: https://example.org/train.npz, or a command",
            id="source of nothing",
        ),
        pytest.param(
            with_data(source={"url": "https://a/b", "command": "x"}),
            "payload.data.a.npz: has a url and a command; keep one of the two",
            id="two sources",
        ),
        pytest.param(
            with_data(source={"url": "https://a/b", "checksum": "x"}),
            "payload.data.a.npz.checksum: unknown key; write sha256",
            id="source key of others",
        ),
        pytest.param(
            with_data(source={"url": "https://a/b", "sha256": "abc"}),
            'payload.data.a.npz.sha256: "abc" is no checksum; write the 64 digits that sha256sum prints',
            id="checksum",
        ),
        pytest.param(
            with_data(source={"url": "https://a/b", "size": 12}),
            "payload.data.a.npz.size: 12 has no unit; write the unit, such as 12GiB",
            id="size without unit",
        ),
        pytest.param(
            with_data(source="data/a.npz"),
            'payload.data.a.npz.url: "data/a.npz" cannot be fetched; '
            "write https://…, s3://bucket/key or file:///path, or a command that fetches it",
            id="no address",
        ),
        pytest.param(
            with_data(source="https:///a"),
            'payload.data.a.npz.url: "https:///a" names no host; write it like https://example.org/train.npz',
            id="no host",
        ),
        pytest.param(
            with_data(source="https://me:secret@example.org/a"),
            "payload.data.a.npz.url: has a user or password in it, which everybody who sees the task could read; "
            "leave them out and use a signed address, ~/.netrc on the nodes, or a command",
            id="password",
        ),
        pytest.param(
            with_data(source="s3://bucket"),
            'payload.data.a.npz.url: "s3://bucket" names no object; write it like s3://bucket/key',
            id="bucket alone",
        ),
        pytest.param(
            with_data(source="file://data/a"),
            'payload.data.a.npz.url: "file://data/a" is no path on the node; '
            "write it like file:///cvmfs/example.org/train.npz",
            id="file elsewhere",
        ),
        pytest.param(
            with_data("../a"),
            "payload.data.../a: ../a leads out of the folder; write it without ..",
            id="input outside",
        ),
        pytest.param(
            with_data("./"),
            "payload.data../: is the working directory itself; write the path of a file in it, such as train.npz",
            id="input everywhere",
        ),
        pytest.param(
            with_data("input.json"),
            "payload.data.input.json: is in the way of input.json (the agent's own); write another path",
            id="input and the point",
        ),
        pytest.param(
            with_data(".gridtune/a"),
            "payload.data..gridtune/a: is in the way of .gridtune (the agent's own); write another path",
            id="input and control",
        ),
        pytest.param(
            with_data("out", result={"file": "out/result.json"}),
            "payload.data.out: is in the way of out/result.json (the result file); write another path",
            id="input and result",
        ),
        pytest.param(
            with_data("in", files=["in/a.py"]),
            "payload.data.in: is in the way of in/a.py (under payload.files); write another path",
            id="input and file",
        ),
        pytest.param(
            with_section("payload", command="x", data={"a": "https://a/b", "a/b": "https://a/c"}),
            "payload.data.a/b: is in the way of a (another input); write another path",
            id="input in input",
        ),
        pytest.param(
            with_section("payload", command="x", checkpoint={"interval": "5m"}),
            "payload.checkpoint.paths: is missing; write paths: [model.pt]",
            id="checkpoint without paths",
        ),
        pytest.param(
            with_section("payload", command="x", checkpoint={"paths": []}),
            "payload.checkpoint.paths: is empty; name what to save, such as [model.pt]",
            id="checkpoint of nothing",
        ),
        pytest.param(
            with_section("payload", command="x", result={"file": "input.json"}),
            "payload.result.file: input.json holds the point's values; write another name, such as output.json",
            id="result file",
        ),
        pytest.param(
            with_section("payload", command="x", result={"stdout": {"loss": "(a)(b)"}}),
            f'payload.result.stdout.loss: "(a)(b)" has 2 groups; {PARENTHESES}',
            id="two groups",
        ),
        pytest.param(
            with_section("payload", command="x", result={"stdout": {"loss": "("}}),
            'payload.result.stdout.loss: "(" is no regular expression: '
            "missing ), unterminated subpattern at position 0; correct it",
            id="no expression",
        ),
    ],
)
def test_each_flaw_has_its_own_message(document: Any, flaw: str) -> None:
    """One thing wrong gives one message, which names the place and the fix."""
    assert flaws_of(document) == [flaw]


def test_all_flaws_are_found_at_once() -> None:
    """Reading does not end at the first flaw, nor at the first section."""
    document = {
        "space": {"width": {"type": "int", "low": 600, "high": 512}},
        "objective": {"metric": "", "gaol": "minimize"},
        "stop": {"wall_time": 60},
        "resources": {"cpu": 2},
        "payload": {"command": "x {width} {depth}", "grace": 5},
        "constants": {"width": 1},
    }

    assert {flaw.split(":")[0] for flaw in flaws_of(document)} == {
        "space.width.low",
        "objective.metric",
        "objective.gaol",
        "stop.wall_time",
        "resources.cpu",
        "payload.command",
        "payload.grace",
        "constants.width",
    }


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("train --lr {lr} --lr2={lr}", {"lr"}),
        ("echo ${HOME} ${lr} {1..3} {a,b} {} { x }", set()),
        ("""run '{"a": {"b": 1}}' '{"lr": {lr}}'""", {"lr"}),
        ("awk '{{print}}' docker -f '{{.State}}'", set()),
        ("echo ${OUT:-{lr}}", {"lr"}),
    ],
    ids=["plain", "shell", "json", "literal", "inside a default"],
)
def test_only_names_in_braces_are_placeholders(command: str, names: set[str]) -> None:
    """The braces of shells, JSON and templates stay theirs."""
    assert placeholders(command) == names


@pytest.mark.parametrize(
    ("command", "filled"),
    [
        ("x {lr} {tag} {flag} {nothing} {many}", "x 1e-05 'a b; rm *' true null '[1, 2]'"),
        ("x --m={momentum} {elsewhere}", "x --m= {elsewhere}"),
        ("x ${lr} {{lr}} '{\"a\": {lr}}'", "x ${lr} {lr} '{\"a\": 1e-05}'"),
    ],
    ids=["values", "inactive and unknown", "left alone"],
)
def test_values_are_put_in_place(command: str, filled: str) -> None:
    """Values are quoted for the shell, and whatever is no placeholder stays."""
    values = {"lr": 1e-5, "tag": "a b; rm *", "flag": True, "nothing": None, "many": [1, 2]}

    assert fill(command, values, {"momentum", *values}) == filled


@given(
    st.lists(st.text(st.characters(blacklist_characters="\0{}", blacklist_categories=["Cs"])), min_size=1), st.text()
)
def test_a_list_of_arguments_reaches_the_program_as_it_is(arguments: list[str], value: str) -> None:
    """Neither arguments nor values can break out of their place."""
    command = join_arguments([*arguments, "--tag={tag}!"])

    assert shlex.split(fill(command, {"tag": value}, ())) == [*arguments, f"--tag={value}!"]


# --- loading ------------------------------------------------------------------------------------------------


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    """The form of a task file is no difference."""
    from_yaml = load_task(write(tmp_path, DIGITS, "a.yaml"))
    from_json = load_task(write(tmp_path, from_yaml.document, "b.json"))

    assert from_yaml.task == from_json.task
    assert from_yaml.source == DIGITS
    assert from_json.document == from_yaml.document


def test_a_task_is_called_like_its_file_if_it_has_no_name(tmp_path: Path) -> None:
    """The name also enters the document, so that it does not depend on the file any more."""
    loaded = load_task(write(tmp_path, MINIMAL, "my nice task (2).json"))

    assert loaded.task.name == "my-nice-task-2"
    assert loaded.document["name"] == "my-nice-task-2"
    assert parse_task(loaded.document) == loaded.task


@pytest.mark.parametrize(
    ("text", "form", "flaw"),
    [
        ('{"a": {"b": 1, "b": 2}}', "json", "a.b: is written twice; keep one"),
        ('{"a": [{"b": NaN}]}', "json", "a[0].b: NaN is no JSON number; write a finite number"),
        ('{"a": -Infinity}', "json", "a: -Infinity is no JSON number; write a finite number"),
        ('{"a":\n  1,}', "json", "line 2, column"),
        ("[" * 100_000, "json", "is nested too deeply; make it flatter"),
        ("a:\n  b: 1\n  b: 2\n", "yaml", "a.b: is written twice (lines 2 and 3); keep one"),
        ("- {a: 1, a: 2}\n", "yaml", "[0].a: is written twice (lines 1 and 1); keep one"),
        ("a: [1\nb: 2\n", "yaml", "line 2, column 2: expected ',' or ']', but got ':'; correct the YAML there"),
        ("a: 1\n\tb: 2\n", "yaml", "line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: !!python/name:os.system x\n", "yaml", "line 1, column 4: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "yaml", "line 2, column 1: but found another document"),
        ("a: &a [*a]\n", "yaml", "a[0]: refers to itself; write its content out"),
        ("a: 2024-13-45\n", "yaml", "month must be in 1..12; correct the YAML"),
        ("a: \x07\n", "yaml", "unacceptable character #x0007"),
        ("[" * 5_000, "yaml", "is nested too deeply; make it flatter"),
    ],
    ids=[
        "json-key twice",
        "json-nan",
        "json-infinity",
        "json-syntax",
        "json-depth",
        "yaml-key twice",
        "yaml-key twice in a list",
        "yaml-syntax",
        "yaml-tab",
        "yaml-python object",
        "yaml-two documents",
        "yaml-cycle",
        "yaml-no date",
        "yaml-control character",
        "yaml-depth",
    ],
)
def test_malformed_text_is_refused_with_its_place(text: str, form: str, flaw: str) -> None:
    """An error in the text says where it is."""
    with pytest.raises(InvalidDocument) as caught:
        parse_text(text, form)

    assert str(caught.value).startswith(flaw)


def test_aliases_cannot_unfold_without_bounds() -> None:
    """Nine levels of nine aliases are refused before they fill the memory."""
    levels = ["l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 9)]

    with pytest.raises(InvalidDocument, match="unfolds to more than"):
        parse_text("\n".join(levels), "yaml")


def test_merge_keys_and_their_overrides_are_no_repetition() -> None:
    """YAML's own way of sharing settings keeps working."""
    assert parse_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", "yaml")["b"] == {"x": 1, "y": 3}


def test_numbers_without_a_point_are_numbers_in_yaml() -> None:
    """``1e-5`` is a number, and in quotes it is text."""
    assert parse_text("[1e-5, 1E5, .5e3, '1e-5', 1e, e5, 12]", "yaml") == [1e-5, 1e5, 500.0, "1e-5", "1e", "e5", 12]


def test_dates_must_be_quoted(tmp_path: Path) -> None:
    """YAML makes dates of some texts, which JSON does not have."""
    path = write(tmp_path, DIGITS.replace("epochs: 30", "day: 2024-01-31"), "a.yaml")

    with pytest.raises(InvalidDocument, match=r'constants\.day: "2024-01-31" is no boolean.* in quotes'):
        load_task(path)


def test_a_missing_reader_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyYAML there is one line that says what to install."""
    loading._yaml_loader.cache_clear()  # noqa: SLF001 - the reader is imported once
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(MissingExtra, match=r"pip install 'gridtune\[yaml\]'"):
        parse_text("a: 1", "yaml")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("task.toml", b"", "is no task file by its name"),
        ("absent.json", None, "does not exist"),
        ("latin1.json", b'{"name": "gr\xf6\xdfe"}', "is not UTF-8 text"),
        ("folder.json", "folder", "cannot be read"),
    ],
    ids=["name", "absent", "encoding", "folder"],
)
def test_a_file_that_cannot_be_read_is_refused_by_its_path(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    """The message names the file."""
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidDocument) as caught:
        load_task(path)

    assert str(caught.value).startswith(f"{path}: {message}")


def test_files_travel_with_their_bytes_and_their_executable_bit(tmp_path: Path) -> None:
    """What is shipped is what lies there, folders unfolded, once each and in order."""
    (tmp_path / "lib" / "deep").mkdir(parents=True)
    (tmp_path / "train.py").write_bytes(b"\x00\xff")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "lib" / "b.py").touch()
    (tmp_path / "lib" / "deep" / "a.py").touch()

    files = load_task(write(tmp_path, shipping("train.py", "lib", "run.sh", "lib/b.py"))).files

    assert [file.path for file in files] == ["train.py", "lib/b.py", "lib/deep/a.py", "run.sh"]
    assert base64.b64decode(files[0].content) == b"\x00\xff"
    assert [file.executable for file in files] == [False, False, False, True]


def test_a_folder_ships_without_leftovers(tmp_path: Path) -> None:
    """Hidden files, compiled Python and what an earlier run wrote stay at home."""
    for name in ("__pycache__/a.pyc", ".git/config", ".env", "output.json", "input.json", "train.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    files = load_task(write(tmp_path, shipping("."))).files

    assert [file.path for file in files] == ["task.json", "train.py"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.py", "payload.files[0]: absent.py does not exist in"),
        ("outside.py", "payload.files[0]: outside.py leads out of"),
        ("linked", "payload.files[0]: linked/outside.py is a link to elsewhere"),
        ("loop", "payload.files[0]: loop"),
        ("output.json", "payload.files[0]: output.json is written by each evaluation itself"),
    ],
)
def test_a_file_that_cannot_travel_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """Only files below the task file's own folder travel, links followed."""
    folder = tmp_path / "task"
    (folder / "linked").mkdir(parents=True)
    (tmp_path / "secret").touch()
    (folder / "output.json").touch()
    os.symlink(tmp_path / "secret", folder / "outside.py")
    os.symlink(tmp_path / "secret", folder / "linked" / "outside.py")
    os.symlink(folder / "loop", folder / "loop")

    with pytest.raises(InvalidDocument) as caught:
        load_task(write(folder, shipping(name)))

    assert str(caught.value).startswith(message)


def test_data_does_not_travel_with_a_task(tmp_path: Path) -> None:
    """More than 8 MiB belong where workers can read them."""
    (tmp_path / "data.bin").write_bytes(bytes(8 * 2**20))
    (tmp_path / "train.py").write_bytes(b"x")

    with pytest.raises(
        InvalidDocument, match=r"^payload\.files: 8\.0 MiB are too much .* \(the largest is data\.bin\)"
    ):
        load_task(write(tmp_path, shipping("data.bin", "train.py")))


def test_inputs_are_not_in_the_way_of_files(tmp_path: Path) -> None:
    """What a folder that travels with the task holds is known when it is read: an input may not replace it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.npz").write_bytes(b"x")

    with pytest.raises(InvalidDocument, match=r"^payload\.data\.in/a\.npz: is in the way of in/a\.npz, which travels"):
        load_task(write(tmp_path, with_data("in/a.npz", files=["in"])))


# --- schema -------------------------------------------------------------------------------------------------

VALIDATOR = jsonschema.Draft202012Validator(task_schema())


def test_the_schema_is_one() -> None:
    """The schema obeys the rules of schemas."""
    jsonschema.Draft202012Validator.check_schema(task_schema())


@given(task_documents())
def test_the_schema_accepts_what_the_parser_accepts(document: dict[str, Any]) -> None:
    """No editor marks a task that is right, as written or in its canonical form."""
    VALIDATOR.validate(document)
    VALIDATOR.validate(parse_task(document).to_json())


@pytest.mark.parametrize(
    "document",
    [
        {**MINIMAL, "sapce": 1},
        with_section("stop"),
        with_section("stop", wall_time=60),
        with_section("payload", command="x", environment={"GRIDTUNE_X": "1"}),
        {**MINIMAL, "space": {"x": {"type": "float", "low": 0, "high": 1, "choices": [1]}}},
        {**MINIMAL, "space": {"a-b": [1, 2]}},
    ],
    ids=["key", "no rule", "no unit", "variable", "key of another kind", "name"],
)
def test_the_schema_refuses_what_has_the_wrong_shape(document: Any) -> None:
    """Editors mark what the parser would refuse."""
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("section", parsing.KEYS)
def test_the_schema_knows_the_keys_of_the_parser(section: str) -> None:
    """No key can be added to one of the two alone."""
    schema = task_schema()
    for name in filter(None, section.split(".")):
        schema = schema["properties"][name]
        schema = schema.get("additionalProperties") or schema if "properties" not in schema else schema
        schema = next((option for option in schema.get("anyOf", []) if "properties" in option), schema)

    assert set(schema["properties"]) == set(parsing.KEYS[section])
    assert all("description" in body or "anyOf" in body for body in schema["properties"].values())


@pytest.mark.parametrize("kind", space_parsing.KEYS)
def test_the_schema_knows_the_keys_of_each_kind_of_parameter(kind: str) -> None:
    """No key can be added to one of the two alone."""
    options = task_schema()["properties"]["space"]["additionalProperties"]["anyOf"]

    [schema] = [one for one in options if one.get("properties", {}).get("type", {}).get("const") == kind]

    assert set(schema["properties"]) == set(space_parsing.KEYS[kind])


def test_reading_a_task_needs_the_standard_library_alone() -> None:
    """Importing the task file brings in no reader of YAML and no HTTP client."""
    program = "import sys, gridtune_common.taskfile; print({'yaml', 'requests'} & set(sys.modules))"
    common = Path(parsing.__file__).parents[2]

    answer = subprocess.run([sys.executable, "-c", program], cwd=common, capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "set()"


ONE_POINT = {
    "space": {"width": {"type": "int", "low": 1, "high": 9}},
    "objective": {"metric": "loss"},
    "stop": {"points": 5},
}


@pytest.mark.parametrize(
    ("points", "message"),
    [
        pytest.param({"width": 3}, "initial_points: .* is no list of points", id="no list"),
        pytest.param([3], r"initial_points\[0\]: 3 is no mapping", id="no point"),
        pytest.param([{"width": 3}, {"width": 99}], r"initial_points\[1\]: width", id="outside of the space"),
        pytest.param([{"width": 3}, {"width": 3}], r"initial_points\[1\]: is there already", id="twice"),
        pytest.param([{"depth": 3}], r"initial_points\[0\]: .*width: is missing", id="another parameter"),
    ],
)
def test_initial_points_lie_in_the_space(points: Any, message: str) -> None:
    """What the user wants to try first is checked before anything runs."""
    with pytest.raises(InvalidDocument, match=message):
        parse_task({**ONE_POINT, "initial_points": points})


def test_initial_points_stay_in_the_document() -> None:
    """They are part of what a task is."""
    task = parse_task({**ONE_POINT, "initial_points": [{"width": 3}, {"width": 5}]})

    assert task.initial_points == ({"width": 3}, {"width": 5})
    assert parse_task(task.to_json()) == task
    assert "initial_points" not in parse_task(ONE_POINT).to_json()


@pytest.mark.parametrize(
    ("written", "kept"),
    [("digits-mlp", ("digits-mlp",)), (["t2t2t2t2", "older"], ("t2t2t2t2", "older")), ([], ()), (None, ())],
)
def test_a_warm_start_names_one_task_or_several(written: Any, kept: tuple[str, ...]) -> None:
    """One needs no list; the document has the list, or nothing."""
    task = parse_task({**ONE_POINT, "warm_start": written})

    assert task.warm_start == kept
    assert task.to_json().get("warm_start") == (list(kept) or None)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        pytest.param({"task": "a"}, "warm_start: .* is no list of tasks", id="no list"),
        pytest.param(["a", 3], r"warm_start\[1\]: 3 is no text", id="no name"),
        pytest.param(["a b"], r"warm_start\[0\]: .* cannot be used", id="blank"),
        pytest.param(["a", "a"], r"warm_start\[1\]: .* is written twice", id="twice"),
    ],
)
def test_a_warm_start_names_tasks_and_nothing_else(written: Any, message: str) -> None:
    """Each flaw has its place."""
    with pytest.raises(InvalidDocument, match=message):
        parse_task({**ONE_POINT, "warm_start": written})
