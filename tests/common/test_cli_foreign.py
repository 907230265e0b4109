"""The commands add-point and import: what they read, what they send, and what they say."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fake_steering
from fake_steering import FakeSteering, Problem, make_task
from gridtune_common import protocol
from gridtune_common.cli import main
from gridtune_common.cli.foreign import Wanted, read_results, read_value
from gridtune_common.errors import InvalidDocument
from gridtune_common.foreign import settle
from gridtune_common.space import Categorical, Int, SearchSpace
from strategies import spaces

SPACE: dict[str, Any] = {
    "rate": {"type": "float", "low": 1e-5, "high": 1.0, "scale": "log"},
    "width": {"type": "int", "low": 16, "high": 512},
    "kind": {"type": "categorical", "choices": ["adam", "sgd", None]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"kind": ["sgd"]}},
    "early": {"type": "categorical", "choices": [True, False]},
}
DOCUMENT: dict[str, Any] = {"space": SPACE, "objective": {"metric": "loss", "goal": "minimize"}}
WANTED = Wanted.by(DOCUMENT)


@pytest.fixture
def steering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeSteering]:
    """A fake service with a task, which the command line finds by itself."""
    with fake_steering.served() as fake:
        fake_steering.configure(fake, monkeypatch, tmp_path)
        fake.on("GET", "/tasks/t2t2t2t2", replace(make_task(), document=DOCUMENT))
        fake.on("POST", "/tasks/t2t2t2t2/points", lambda asked: protocol.AddedPoints(len(asked.body["points"]), 3))
        fake.on("POST", "/tasks/t2t2t2t2/results", lambda asked: protocol.ImportedResults(len(asked.body["results"])))
        yield fake


# --- add-point ------------------------------------------------------------------------------------------------------


def test_a_point_is_sent_with_values_of_its_types(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers, truths and texts are told apart, and what was queued is printed."""
    words = ["rate=1", "width=64", "kind=sgd", "momentum=0.9", "early=true"]

    assert main(["add-point", "t2t2t2t2", *words]) == 0

    body = steering.asked[-1].body
    expected = {"rate": 1.0, "width": 64, "kind": "sgd", "momentum": 0.9, "early": True}
    assert json.dumps(body["points"]) == json.dumps([{"parameters": expected}])
    assert len(body["request_id"]) == 32
    assert capsys.readouterr().out == (
        "digits (t2t2t2t2) tries next, after 2 that wait already:\n  rate=1 width=64 kind=sgd momentum=0.9 early=true\n"
    )


def test_many_points_come_from_a_file(steering: FakeSteering, tmp_path: Path) -> None:
    """A list of objects, in JSON or YAML."""
    point = {"rate": 0.1, "width": 64.0, "kind": None, "early": False}
    (tmp_path / "points.json").write_text(json.dumps([point, {**point, "width": 65}]))

    assert main(["add-point", "t2t2t2t2", "--file", "points.json"]) == 0

    sent = [item["parameters"]["width"] for item in steering.asked[-1].body["points"]]
    assert json.dumps(sent) == "[64, 65]"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "give either the values of one point"),
        (["rate=1", "--file", "points.json"], 2, "give either the values of one point"),
        (["rate"], 2, "'rate' is no NAME=VALUE"),
        (["rate=1", "rate=2"], 2, "rate is given twice"),
        (["--file", "missing.json"], 2, "missing.json: cannot be read"),
        (["--file", "points.txt"], 2, "no file of points by its name"),
        (["--file", "points.json"], 2, "points.json cannot be used:\n  - [1]: width: 600 is not possible"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str],
    code: int,
    said: str,
    steering: FakeSteering,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is sent, and the error names the place."""
    good = {"rate": 0.1, "width": 64, "kind": "adam", "early": False}
    (tmp_path / "points.json").write_text(json.dumps([good, {**good, "width": 600}]))

    assert main(["add-point", "t2t2t2t2", *words]) == code

    assert said in capsys.readouterr().err
    assert not [asked for asked in steering.asked if asked.method == "POST"]


def test_what_the_service_refuses_is_passed_on(steering: FakeSteering, capsys: pytest.CaptureFixture[str]) -> None:
    """With its cure."""
    detail = "the task's budget of 20 points has room for 0 more, not for 1; extend the task first: gridtune extend t 1"
    steering.on("POST", "/tasks/t2t2t2t2/points", Problem(409, {"title": "Conflict", "detail": detail}))

    assert main(["add-point", "t2t2t2t2", "rate=1"]) == 4

    assert detail in capsys.readouterr().err


@pytest.mark.parametrize(
    ("choices", "word", "value"),
    [(("1", "2"), "1", "1"), ((1, 2), "1", 1), (("true", "x"), "true", "true"), ((16.0, 32.0), "16", 16.0)],
)
def test_a_word_is_read_as_what_the_parameter_can_be(choices: tuple[Any, ...], word: str, value: Any) -> None:
    """Text and numbers that look the same are told apart by the choices."""
    assert repr(read_value(Categorical("c", choices), word)) == repr(value)


def test_a_word_that_fits_nothing_stays_what_it_says() -> None:
    """So that the complaint shows it."""
    assert read_value(Int("width", 16, 512), "wide") == "wide"
    assert read_value(Int("width", 16, 512), "NaN") == "NaN"


# --- import ---------------------------------------------------------------------------------------------------------


def write(folder: Path, text: str, name: str = "results.csv") -> Path:
    """A file of results."""
    path = folder / name
    path.write_text(text)
    return path


def test_a_table_becomes_results(steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Empty cells are inactive parameters or null; other columns are ignored and named."""
    write(
        tmp_path,
        "rate,width,kind,momentum,early,loss,metric.acc,who\n"
        "0.1,64.0,sgd,0.9,True,0.5,0.9,me\n"
        "\n"
        "1,65,,,false,1e-3,,you\n",
    )
    answer = protocol.ImportedResults(1, {"known already": 1})
    steering.on("POST", "/tasks/t2t2t2t2/results", answer)

    assert main(["import", "t2t2t2t2", "results.csv"]) == 0

    body = steering.asked[-1].body
    assert body["source"] == "results.csv"
    assert json.dumps(body["results"]) == json.dumps(
        [
            {
                "parameters": {"rate": 0.1, "width": 64, "kind": "sgd", "momentum": 0.9, "early": True},
                "metrics": {"loss": 0.5, "acc": 0.9},
            },
            {"parameters": {"rate": 1.0, "width": 65, "kind": None, "early": False}, "metrics": {"loss": 0.001}},
        ]
    )
    said = capsys.readouterr()
    assert said.out == "digits (t2t2t2t2) knows 1 more result; 1 skipped:\n  1 known already\n"
    assert said.err == "ignored, for the task has no such parameter or objective: who\n"


@pytest.mark.parametrize(
    ("text", "flaws"),
    [
        ("", ["line 1: there is no header; write the names of parameters and metrics there"]),
        (
            "rate,width,kind,early,loss\n0.1,600,adam,true,1\n0.1,64,adem,true,\n0.1,64,sgd,true,x\n0.1,64\n",
            [
                "line 2, column width: 600 is not possible; give an int from 16 to 512",
                'line 3, column kind: "adem" is not possible; give one of "adam", "sgd", null',
                "line 3, column loss: the objective needs a finite number, and the cell is empty",
                "line 4: momentum: is missing; give a float from 0.5 to 0.99",
                "line 4, column loss: the objective needs a finite number, and 'x' is none",
                "line 5: has 2 cells, and the header 5",
            ],
        ),
        (
            'rate,width,kind,momentum,early,loss\n0.1,64,"ad\nam",,true,1\n0.1,64,adam,0.9,true,nan\n',
            [
                'line 2, column kind: "ad\\nam" is not possible; give one of "adam", "sgd", null',
                "line 4: momentum: is not used in this point",
                "line 4, column loss: the objective needs a finite number, and 'nan' is none",
            ],
        ),
        (
            "rate,kind,early,early,accuracy\n",
            [
                "line 1: the column early is there twice; keep one",
                "line 1: there is no column for the parameter width; columns are: rate, kind, early",
                "line 1: there is no column for the objective loss",
            ],
        ),
        ('rate,width\n0.1,"64\n', ["line 1: there is no column for the parameter kind"]),
    ],
    ids=["empty", "cells", "lines", "header", "columns"],
)
def test_flaws_of_a_table_name_line_and_column(text: str, flaws: list[str], tmp_path: Path) -> None:
    """All of them, as an editor counts lines."""
    with pytest.raises(InvalidDocument) as refusal:
        read_results(write(tmp_path, text), WANTED)

    found = [str(flaw) for flaw in refusal.value.flaws]
    assert len(found) >= len(flaws)
    assert all(line.startswith(beginning) for line, beginning in zip(found, flaws, strict=False))


def test_only_the_first_of_many_flaws_are_told(tmp_path: Path) -> None:
    """A wrong column is wrong in every line."""
    with pytest.raises(InvalidDocument) as refusal:
        read_results(write(tmp_path, "rate,width,kind,early,loss\n" + "0.1,600,adam,true,1\n" * 100), WANTED)

    assert [str(flaw) for flaw in refusal.value.flaws][19:] == [
        "line 21, column width: 600 is not possible; give an int from 16 to 512",
        "and 80 more of this kind",
    ]


def test_json_is_a_list_of_results(tmp_path: Path) -> None:
    """Names that the space does not have are ignored, and named."""
    point: protocol.Parameters = {"rate": 1, "width": 64, "kind": "adam", "early": True, "colour": "red"}
    path = write(tmp_path, json.dumps([{"parameters": point, "metrics": {"loss": 1, "acc": None}}]), "results.json")

    found = read_results(path, WANTED)

    del point["colour"]
    assert found.results == [protocol.KnownResult(point, {"loss": 1.0, "acc": None})]
    assert found.ignored == ("colour",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1, column 2"),
        ("3", "holds no results"),
        ("[3]", "[0]: 3 is no result"),
        ('[{"parameters": {}, "metrics": {"loss": 1}}]', "[0].parameters: rate: is missing"),
        ('[{"parameters": {}, "metrics": {"loss": null}}]', "[0].metrics.loss: the objective needs a finite number"),
        ('[{"parameters": {}, "metrics": {"loss": NaN}}]', "[0].metrics.loss: NaN is no JSON number"),
    ],
)
def test_flaws_of_json_name_their_place(text: str, said: str, tmp_path: Path) -> None:
    """By line and column what is no JSON, by path what is no result."""
    with pytest.raises(InvalidDocument) as refusal:
        read_results(write(tmp_path, text, "results.json"), WANTED)

    assert said in str(refusal.value)


def test_what_the_service_refuses_is_told_by_line(
    steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Constraints are known to the service alone; the user still sees the line of the file."""
    errors = [{"path": "results[1].parameters", "message": "breaks the constraint width <= 64"}]
    steering.on("POST", "/tasks/t2t2t2t2/results", Problem(422, {"title": "Unprocessable", "errors": errors}))
    write(tmp_path, "rate,width,kind,early,loss\n0.1,64,adam,true,1\n\n0.1,65,adam,true,1\n")

    assert main(["import", "t2t2t2t2", "results.csv"]) == 2

    assert capsys.readouterr().err == (
        "error: results.csv cannot be used:\n  - line 4: breaks the constraint width <= 64\n"
    )


def test_large_files_are_sent_in_portions(
    steering: FakeSteering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The service takes 10,000 results at a time."""
    rows = "".join(f"{(number + 1) / 20000},64,adam,true,1\n" for number in range(10_001))
    write(tmp_path, "rate,width,kind,early,loss\n" + rows)

    assert main(["import", "t2t2t2t2", "results.csv", "--source", "scan"]) == 0

    sent = [asked.body for asked in steering.asked if asked.method == "POST"]
    assert [(len(body["results"]), body["source"]) for body in sent] == [(10_000, "scan"), (1, "scan")]
    assert "knows 10001 more results\n" in capsys.readouterr().out


@given(space=spaces(), seed=st.integers(0, 2**32))
def test_points_of_a_space_are_settled_already(space: SearchSpace, seed: int) -> None:
    """What a space draws is in its own form."""
    point = space.sample(random.Random(seed))

    assert repr(settle(space, point)) == repr(point)
