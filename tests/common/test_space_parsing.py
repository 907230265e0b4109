"""Reading search spaces: what may be written, and what is said about the rest."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gridtune_common.errors import InvalidDocument
from gridtune_common.space import Categorical, Float, Int, SearchSpace


def parse_one(**body: Any) -> Any:
    """Read a space with the parameter ``x`` alone."""
    return SearchSpace.parse({"x": body})["x"]


def flaws_of(document: Any) -> list[str]:
    """What is said about a space."""
    with pytest.raises(InvalidDocument) as caught:
        SearchSpace.parse(document)
    return [str(flaw) for flaw in caught.value.flaws]


MAPPING = "is no mapping of names to parameters; write it as {width: {type: int, low: 16, high: 512}}"
FLOAT = {"type": "float", "low": 0, "high": 1}
NAMED = "letters, digits and _, no digit first"


@pytest.mark.parametrize(
    ("document", "flaw"),
    [
        pytest.param(
            {"x": FLOAT | {"low": math.nan}}, "space.x.low: NaN is not finite; write a plain number", id="nan"
        ),
        pytest.param(
            {"x": FLOAT | {"high": math.inf}}, "space.x.high: Infinity is not finite; write a plain number", id="inf"
        ),
        pytest.param(
            {"x": FLOAT | {"low": "-.inf"}},
            "space.x.low: -Infinity is not finite; write a plain number",
            id="inf as text",
        ),
        pytest.param(
            {"x": FLOAT | {"high": 10**400}},
            f"space.x.high: 1{58 * '0'}… is not finite; write a plain number",
            id="huge",
        ),
        pytest.param(
            {"x": FLOAT | {"low": "tiny"}},
            'space.x.low: "tiny" is no number; write one without quotes, such as 0.5',
            id="text",
        ),
        pytest.param(
            {"x": FLOAT | {"low": True}},
            "space.x.low: true is no number; write one without quotes, such as 0.5",
            id="boolean",
        ),
        pytest.param(
            {"x": {"type": "int", "low": 1.5, "high": 3}},
            "space.x.low: 1.5 is no whole number; write one, such as 1",
            id="half int",
        ),
        pytest.param(
            {"x": {"type": "int", "low": 1, "high": True}},
            "space.x.high: true is no whole number; write one, such as 1",
            id="boolean int",
        ),
        pytest.param(
            {"x": {"type": "int", "low": 1, "high": 2**60}},
            "space.x.high: 1152921504606846976 is too large; the most is 9007199254740992",
            id="int beyond JSON",
        ),
        pytest.param(
            {"x": {"type": "int", "low": 600, "high": 512}}, "space.x.low: 600 is above high (512)", id="low above high"
        ),
        pytest.param(
            {"x": FLOAT | {"low": 1}},
            "space.x.low: 1 equals high: nothing to tune; write constants: {x: 1}",
            id="low equals high",
        ),
        pytest.param(
            {"x": {"type": "float", "low": -1e308, "high": 1e308}},
            "space.x.high: 1e+308 is too far from low (-1e+308); narrow the range",
            id="too wide",
        ),
        pytest.param(
            {"x": FLOAT | {"scale": "log"}},
            "space.x.low: 0 is not above 0, as scale: log needs; raise it or write scale: linear",
            id="log of zero",
        ),
        pytest.param(
            {"x": FLOAT | {"scale": "logarithmic"}},
            'space.x.scale: "logarithmic" is no scale; write one of linear, log',
            id="scale",
        ),
        pytest.param(
            {"x": FLOAT | {"step": 0}},
            "space.x.step: 0 is not above 0; write a positive step or leave it out",
            id="step zero",
        ),
        pytest.param(
            {"x": FLOAT | {"step": 2}},
            "space.x.step: 2 is larger than the range from 0 to 1; make it smaller",
            id="step too large",
        ),
        pytest.param(
            {"x": FLOAT | {"step": 1e-17}},
            "space.x.step: 1e-17 is too small for floats in this range; write 8.881784197001252e-16 or more",
            id="step too small",
        ),
        pytest.param(
            {"x": {"type": "float", "high": 1}}, "space.x.low: is missing; a float needs low and high", id="no low"
        ),
        pytest.param(
            {"x": {"low": 0, "high": 1}},
            "space.x.type: is missing; write one of float, int, normal, lognormal, categorical, ordinal",
            id="no type",
        ),
        pytest.param(
            {"x": {"type": "flaot"}}, 'space.x.type: "flaot" is no type; did you mean float?', id="type misspelt"
        ),
        pytest.param(
            {"x": {"type": "loguniform"}},
            'space.x.type: "loguniform" is no type; write float with scale: log',
            id="type of others",
        ),
        pytest.param(
            {"x": {"type": 3}},
            "space.x.type: 3 is no type; write one of float, int, normal, lognormal, categorical, ordinal",
            id="type no text",
        ),
        pytest.param({"x": FLOAT | {"hgih": 1}}, "space.x.hgih: unknown key; did you mean high?", id="unknown key"),
        pytest.param(
            {"x": FLOAT | {"colour": 1}},
            "space.x.colour: unknown key; known are type, low, high, scale, step, when",
            id="far key",
        ),
        pytest.param({"x": FLOAT | {"log": True}}, "space.x.log: unknown key; write scale: log", id="key of others"),
        pytest.param(
            {"x": FLOAT | {"choices": [1]}},
            "space.x.choices: unknown key; a float takes type, low, high, scale, step, when",
            id="key of another kind",
        ),
        pytest.param({"x": []}, "space.x.choices: is empty; write the choices, such as [adam, sgd]", id="no choices"),
        pytest.param(
            {"x": {"type": "ordinal", "choices": "adam"}},
            'space.x.choices: "adam" is no list; write one, such as [adam, sgd]',
            id="choices no list",
        ),
        pytest.param(
            {"x": {"type": "ordinal"}}, "space.x.choices: is missing; an ordinal needs choices", id="choices missing"
        ),
        pytest.param(
            {"x": ["a", "b", "a"]}, 'space.x.choices[2]: "a" is choices[0] ("a") again; keep one', id="choice twice"
        ),
        pytest.param({"x": [1, 1.0]}, "space.x.choices[1]: 1.0 is choices[0] (1) again; keep one", id="1 and 1.0"),
        pytest.param(
            {"x": [1, [2]]},
            "space.x.choices[1]: [2] is no boolean, number, text or null; put it in quotes to make it text",
            id="choice no scalar",
        ),
        pytest.param(
            {"x": [1, math.nan]}, "space.x.choices[1]: NaN is not finite; write a plain number", id="choice nan"
        ),
        pytest.param(
            {"x": 5},
            "space.x: 5 is no parameter; write [a, b] or {type: …}, or constants: {x: 5} for a fixed value",
            id="a constant",
        ),
        pytest.param(
            {"learning-rate": FLOAT},
            f'space.learning-rate: "learning-rate" is no name; write learning_rate ({NAMED})',
            id="hyphen",
        ),
        pytest.param({"2x": FLOAT}, f'space.2x: "2x" is no name; use {NAMED}', id="digit first"),
        pytest.param({"größe": FLOAT}, f'space.größe: "größe" is no name; write gr_e ({NAMED})', id="not ASCII"),
        pytest.param({"": FLOAT}, f'space: "" is no name; use {NAMED}', id="no name"),
        pytest.param(
            {"lambda": FLOAT},
            "space.lambda: lambda is a word of the Python language; write lambda_ or another name",
            id="keyword",
        ),
        pytest.param(
            {"x" * 65: FLOAT}, f"space.{'x' * 65}: the name has 65 characters; the most is 64", id="long name"
        ),
        pytest.param({1: FLOAT}, "space.1: the name 1 is no text; put it in quotes", id="number as name"),
        pytest.param(
            {},
            "space: is empty; name at least one parameter, such as {width: {type: int, low: 16, high: 512}}",
            id="empty",
        ),
        pytest.param(
            None,
            "space: is empty; name at least one parameter, such as {width: {type: int, low: 16, high: 512}}",
            id="null",
        ),
        pytest.param(
            [FLOAT],
            f'space: [{{"type": "float", "low": 0, "high": 1}}] {MAPPING}',
            id="a list",
        ),
        pytest.param(
            {"x": FLOAT | {"when": {"y": 1}}},
            "space.x.when.y: there is no parameter of this name; known are x",
            id="parent unknown",
        ),
        pytest.param(
            {"x": FLOAT, "y": FLOAT | {"when": {"x": 1}}},
            "space.y.when.x: x is a float; depend on a categorical, an ordinal or an int instead",
            id="parent float",
        ),
        pytest.param(
            {"x": ["a"], "y": FLOAT | {"when": {"x": "b"}}},
            'space.y.when.x: "b" is no value of x; write one of "a"',
            id="parent value",
        ),
        pytest.param(
            {"x": {"type": "int", "low": 1, "high": 3}, "y": FLOAT | {"when": {"x": [1, 4]}}},
            "space.y.when.x: 4 is no value of x; write an int from 1 to 3",
            id="parent range",
        ),
        pytest.param(
            {"x": ["a"], "y": FLOAT | {"when": {"x": []}}},
            "space.y.when.x: names no value; write one (sgd) or several ([sgd, rmsprop])",
            id="parent no value",
        ),
        pytest.param(
            {"x": ["a"], "y": FLOAT | {"when": {"x": ["a", "a"]}}},
            'space.y.when.x[1]: "a" is written twice; keep one',
            id="parent value twice",
        ),
        pytest.param(
            {"x": FLOAT | {"when": {}}},
            "space.x.when: is empty; leave it out, or write one, such as {optimizer: sgd}",
            id="when empty",
        ),
        pytest.param(
            {"x": FLOAT | {"when": "sgd"}},
            'space.x.when: "sgd" is no condition; write one, such as {optimizer: sgd}',
            id="when no mapping",
        ),
        pytest.param(
            {"x": {"type": "categorical", "choices": [1], "when": {"x": 1}}},
            "space.x.when: x depends on itself (x → x); remove one of these conditions",
            id="on itself",
        ),
        pytest.param(
            {
                "x": {"type": "categorical", "choices": [1], "when": {"z": 1}},
                "y": {"type": "categorical", "choices": [1], "when": {"x": 1}},
                "z": {"type": "categorical", "choices": [1], "when": {"y": 1}},
            },
            "space.x.when: x depends on itself (x → z → y → x); remove one of these conditions",
            id="in a circle",
        ),
    ],
)
def test_each_flaw_has_its_own_message(document: Any, flaw: str) -> None:
    """One thing wrong gives one message, which names the place and the fix."""
    assert flaws_of(document) == [flaw]


def test_all_flaws_are_found_at_once() -> None:
    """Reading does not end at the first flaw, and does not blame what depends on a broken parameter."""
    document = {
        "a": {"type": "int", "low": 3, "high": 1, "steps": 2},
        "b": [],
        "c": FLOAT | {"when": {"b": "x", "nobody": 1}},
    }

    paths = [flaw.split(":")[0] for flaw in flaws_of(document)]

    assert paths == ["space.a.steps", "space.a.low", "space.b.choices", "space.c.when.nobody"]


def test_the_path_is_the_callers() -> None:
    """A space inside another document is named by its place there."""
    with pytest.raises(InvalidDocument, match=r"^task\.search\.x: 5 is no parameter"):
        SearchSpace.parse({"x": 5}, path="task.search")


def test_numbers_may_be_text() -> None:
    """YAML 1.1 readers take 1e-5 for text, so text that is a number counts as one."""
    assert parse_one(type="float", low="1e-5", high=" 1.5E-1 ", step="0.01") == Float("x", 1e-5, 0.15, step=0.01)


def test_bounds_of_an_int_may_be_whole_floats() -> None:
    """A bound of 1e3 is a float to readers, but it means 1000."""
    assert parse_one(type="int", low=1.0, high="1e3") == Int("x", 1, 1000)


def test_a_list_is_short_for_a_categorical() -> None:
    """``[adam, sgd]`` needs no more words."""
    assert SearchSpace.parse({"x": ["adam", "sgd"]})["x"] == Categorical("x", ("adam", "sgd"))


def test_null_counts_as_left_out() -> None:
    """Programs that write every key may write null for what they do not use."""
    assert parse_one(type="float", low=0, high=1, step=None, when=None, scale=None) == Float("x", 0, 1)


def test_a_parent_may_be_declared_after_its_child() -> None:
    """The order of parameters is for people."""
    space = SearchSpace.parse({"momentum": FLOAT | {"when": {"optimizer": "sgd"}}, "optimizer": ["adam", "sgd"]})

    assert space.active({"optimizer": "sgd"}) == ("momentum", "optimizer")


def test_the_canonical_form_writes_every_default() -> None:
    """Whoever reads the canonical form need not know any default."""
    space = SearchSpace.parse(
        {"n": {"type": "int", "low": 1, "high": 6}, "o": ["a", 1], "w": FLOAT | {"when": {"o": 1}}}
    )

    assert space.to_json() == {
        "n": {"type": "int", "low": 1, "high": 6, "scale": "linear", "step": 1},
        "o": {"type": "categorical", "choices": ["a", 1]},
        "w": {"type": "float", "low": 0.0, "high": 1.0, "scale": "linear", "when": {"o": [1]}},
    }
