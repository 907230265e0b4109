"""Parameters and search spaces as values: what they contain, draw and write."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_common.errors import InvalidDocument
from gridtune_common.space import Categorical, Condition, Float, Int, Ordinal, Parameter, SearchSpace
from strategies import finite_parameters, ints, parameters, points, spaces, stepped_floats

SGD = SearchSpace(
    (
        Float("momentum", 0.5, 0.99, when={"optimizer": "sgd"}),
        Categorical("optimizer", ("adam", "sgd")),
        Categorical("nesterov", (True, False), when={"optimizer": ["sgd"]}),
        Int("warmup", 1, 3, when={"nesterov": True}),
    )
)


@given(parameters(), st.randoms(use_true_random=False))
def test_every_sample_is_contained(parameter: Parameter, rng: random.Random) -> None:
    """A parameter contains what it draws."""
    assert all(parameter.contains(parameter.sample(rng)) for _ in range(20))


@given(spaces(), st.data())
def test_every_drawn_point_is_contained(space: SearchSpace, data: st.DataObject) -> None:
    """A space contains what it draws, and has nothing to explain about it."""
    point = data.draw(points(space))

    assert space.contains(point)
    assert space.explain(point) == ""
    assert tuple(point) == space.active(point)


@given(spaces())
def test_a_space_survives_json(space: SearchSpace) -> None:
    """Writing a space as JSON and reading it gives an equal space."""
    assert SearchSpace.parse(json.loads(json.dumps(space.to_json()))) == space


@given(spaces())
def test_canonical_json_is_a_fixed_point(space: SearchSpace) -> None:
    """Reading the canonical form and writing it changes nothing."""
    written = json.dumps(space.to_json())

    assert json.dumps(SearchSpace.parse(json.loads(written)).to_json()) == written


@given(spaces(), st.data())
def test_a_value_out_of_bounds_is_not_contained(space: SearchSpace, data: st.DataObject) -> None:
    """A point with one impossible value is refused, and the explanation names the parameter."""
    point = data.draw(points(space))
    name = data.draw(st.sampled_from(sorted(point)))

    broken = {**point, name: _impossible(space[name])}

    assert not space.contains(broken)
    assert f"{name}: " in space.explain(broken)


def _impossible(parameter: Parameter) -> Any:
    if isinstance(parameter, Int):
        return parameter.high + 1
    if isinstance(parameter, Float):
        return math.nextafter(parameter.high, math.inf)
    return "none of these choices"


@given(spaces(), st.data())
def test_a_missing_value_is_not_contained(space: SearchSpace, data: st.DataObject) -> None:
    """A point without one of its active parameters is refused."""
    point = data.draw(points(space))
    name = data.draw(st.sampled_from(sorted(point)))
    rest = {other: value for other, value in point.items() if other != name}

    assert f"{name}: is missing" in space.explain(rest)


@given(spaces(max_size=4, finite=True))
def test_the_size_of_a_finite_space_is_its_number_of_points(space: SearchSpace) -> None:
    """Counting agrees with listing all points, conditions included."""
    grids = [[None, *map(parameter.grid_value, range(parameter.grid_size))] for parameter in space]
    places = [range(-1, parameter.grid_size) for parameter in space]

    n_points = 0
    for chosen in itertools.product(*places):
        values = zip(space.names, grids, chosen, strict=True)
        point = {name: grid[place + 1] for name, grid, place in values if place >= 0}
        n_points += space.contains(point)

    assert space.is_finite
    assert space.size == n_points


@given(st.one_of(stepped_floats(), ints(), finite_parameters()), st.data())
def test_places_and_values_of_a_grid_belong_together(parameter: Parameter, data: st.DataObject) -> None:
    """A value of the grid leads to its place and back."""
    place = data.draw(st.integers(0, parameter.grid_size - 1))
    value: Any = parameter.grid_value(place)

    assert parameter.contains(value)
    assert parameter.grid_index(value) == place
    assert parameter.n_values == parameter.grid_size


@given(stepped_floats())
def test_the_values_of_a_grid_rise(parameter: Float) -> None:
    """No two places of a grid have the same value."""
    values = [parameter.grid_value(place) for place in range(parameter.grid_size)]

    assert values == sorted(set(values))
    assert values[0] == parameter.low
    assert values[-1] <= parameter.high


def test_the_values_of_a_grid_are_clean() -> None:
    """Values are the floats that people would write, not sums with rounding errors."""
    dropout = Float("dropout", 0.0, 0.5, step=0.05)

    values = [dropout.grid_value(place) for place in range(dropout.grid_size)]

    assert values == [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]


def test_a_step_with_a_rounding_error_still_reaches_the_upper_end() -> None:
    """Three steps of 0.30000000000000004 fit between 0 and 0.9."""
    parameter = Float("x", 0.0, 0.9, step=0.1 + 0.2)

    assert parameter.grid_size == 4
    assert parameter.grid_value(3) == 0.9


def test_the_nearest_place_is_found_for_any_number() -> None:
    """A number off the grid, or outside it, leads to the nearest place."""
    dropout, layers = Float("dropout", 0.0, 0.5, step=0.05), Int("layers", 1, 9, step=2)

    assert [dropout.grid_index(value) for value in (-3, 0.07, 0.08, 9)] == [0, 1, 2, 10]
    assert [layers.grid_index(value) for value in (-3, 3.4, 4.2, 99)] == [0, 1, 2, 4]


def test_a_continuous_float_has_no_grid() -> None:
    """Asking for a place of a continuous range is an error that says so."""
    with pytest.raises(ValueError, match="continuous"):
        Float("x", 0, 1).grid_index(0.5)


@pytest.mark.parametrize(
    "parameter",
    [Int("x", 1, 3), Float("x", 1, 3, step=1), Categorical("x", (1, 2, 3))],
    ids=lambda parameter: parameter.kind,
)
def test_a_place_outside_the_grid_is_an_error(parameter: Parameter) -> None:
    """Grids have no place before the first or after the last."""
    with pytest.raises(IndexError, match="places 0 to 2, not 3"):
        parameter.grid_value(3)
    with pytest.raises(IndexError, match="not -1"):
        parameter.grid_value(-1)


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        pytest.param(Float("x", 0, 5), 3, True, id="a float takes a whole number"),
        pytest.param(Float("x", 0, 5), True, False, id="a float takes no boolean"),
        pytest.param(Float("x", 0, 5), math.nan, False, id="a float takes no nan"),
        pytest.param(Float("x", 0, 5), "3", False, id="a float takes no text"),
        pytest.param(Float("x", 0, 5), 10**400, False, id="a float takes no huge number"),
        pytest.param(Float("x", 0, 5, step=0.5), 0.25, False, id="a float takes nothing off its grid"),
        pytest.param(Int("x", 0, 5), 3, True, id="an int takes a whole number"),
        pytest.param(Int("x", 0, 5), 3.0, False, id="an int takes no float"),
        pytest.param(Int("x", 0, 5), True, False, id="an int takes no boolean"),
        pytest.param(Int("x", 0, 5, step=2), 3, False, id="an int takes nothing off its grid"),
        pytest.param(Categorical("x", (1, "a")), True, False, id="true is not the choice 1"),
        pytest.param(Categorical("x", (1, "a")), 1.0, False, id="1.0 is not the choice 1"),
        pytest.param(Categorical("x", (1, True)), True, True, id="1 and true are two choices"),
        pytest.param(Categorical("x", (None, "a")), None, True, id="null is a choice"),
        pytest.param(Ordinal("x", (16, 32)), [16], False, id="a list is no choice"),
    ],
)
def test_values_are_told_apart_by_type(parameter: Parameter, value: Any, expected: bool) -> None:
    """A parameter is as strict about types as a training would be."""
    assert parameter.contains(value) is expected


def test_parameters_with_choices_of_other_types_differ() -> None:
    """Choices that Python takes for equal make different parameters."""
    assert Categorical("x", (1, 2)) != Categorical("x", (True, 2))
    assert hash(Categorical("x", (1, 2))) == hash(Categorical("x", (1, 2)))
    assert Condition("x", (1,)) != Condition("x", (True,))


def test_the_order_of_conditions_is_no_difference() -> None:
    """Conditions all hold together, so their order does not count."""
    one = Int("x", 1, 2, when={"a": 1, "b": 2})

    assert one == Int("x", 1, 2, when={"b": [2], "a": [1]})
    assert one.conditions == (Condition("a", (1,)), Condition("b", (2,)))


def test_a_logarithmic_int_is_drawn_evenly_over_its_orders_of_magnitude() -> None:
    """Each decade of 1 to 1000 gets about a third of the draws."""
    rng = random.Random(7)
    parameter = Int("x", 1, 1000, log=True)

    drawn = Counter(len(str(parameter.sample(rng))) for _ in range(3000))

    assert all(700 < drawn[n_digits] < 1300 for n_digits in (1, 2, 3))


def test_the_ends_of_an_int_are_as_likely_as_the_middle() -> None:
    """Rounding does not halve the share of the ends."""
    rng = random.Random(7)

    drawn = Counter(Int("x", 1, 3).sample(rng) for _ in range(3000))

    assert all(900 < drawn[value] < 1100 for value in (1, 2, 3))


def test_the_same_seed_draws_the_same_point() -> None:
    """A space has no randomness of its own."""
    assert SGD.sample(random.Random(3)) == SGD.sample(random.Random(3))


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ({"optimizer": "adam"}, ("optimizer",)),
        ({"optimizer": "sgd", "nesterov": False}, ("momentum", "optimizer", "nesterov")),
        ({"optimizer": "sgd", "nesterov": True}, ("momentum", "optimizer", "nesterov", "warmup")),
        ({"optimizer": "adam", "nesterov": True}, ("optimizer",)),
        ({}, ("optimizer",)),
    ],
    ids=["adam", "sgd", "sgd-nesterov", "a value of an inactive parent", "nothing known"],
)
def test_a_parameter_is_active_if_its_whole_chain_of_conditions_holds(
    point: dict[str, Any], expected: tuple[str, ...]
) -> None:
    """A child of an inactive parent is inactive, whatever value the parent is given."""
    assert SGD.active(point) == expected


@pytest.mark.parametrize(
    ("point", "explanation"),
    [
        (
            {"optimizer": "adam", "momentum": 0.9},
            'momentum: is not used in this point, for it needs optimizer to be "sgd"; leave it out',
        ),
        (
            {"optimiser": "adam", "optimizer": "adam"},
            "optimiser: the space has no such parameter; did you mean optimizer?",
        ),
        ({}, 'optimizer: is missing; give one of "adam", "sgd"'),
        ({"optimizer": "lbfgs"}, 'optimizer: "lbfgs" is not possible; give one of "adam", "sgd"'),
        (
            {"optimizer": "sgd", "momentum": 2, "nesterov": False},
            "momentum: 2 is not possible; give a float from 0.5 to 0.99",
        ),
    ],
    ids=["inactive", "unknown", "missing", "no choice", "out of bounds"],
)
def test_an_explanation_names_the_parameter_and_the_fix(point: dict[str, Any], explanation: str) -> None:
    """Each way in which a point can be wrong has its own explanation."""
    assert SGD.explain(point) == explanation


def test_what_is_no_mapping_is_no_point() -> None:
    """A list is explained, not an internal error."""
    nothing: Any = [1, 2]

    assert "is no point" in SGD.explain(nothing)


def test_sizes_of_spaces() -> None:
    """A space is infinite as soon as one parameter is; otherwise it is counted."""
    booleans = [Categorical(f"p{i}", (True, False)) for i in range(64)]

    assert SGD.size is None
    assert not SGD.is_finite
    assert SearchSpace(tuple(booleans)).size == 2**64
    assert SearchSpace((Int("x", 1, 10**6), Int("y", 1, 2, when={"x": 7}))).size == 10**6 + 1


def test_counting_gives_up_on_too_many_cases() -> None:
    """A finite space whose conditions are too entangled to count has no known size."""
    parents: list[Parameter] = [Categorical(f"p{i}", (True, False)) for i in range(20)]
    child = Int("x", 1, 2, when={parent.name: True for parent in parents})

    space = SearchSpace((*parents, child))

    assert space.is_finite
    assert space.size is None


def test_a_space_is_read_by_name_and_in_order() -> None:
    """Iteration follows the declared order, and indexing takes names."""
    assert [parameter.name for parameter in SGD] == ["momentum", "optimizer", "nesterov", "warmup"]
    assert SGD["warmup"].kind == "int"
    assert len(SGD) == 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Float("w", 3, 1), r"^w\.low: 3 is above high \(1\)$"),
        (lambda: Int("w", 1, 2, step=0), r"^w\.step: 0 is not above 0"),
        (lambda: Int("w", 1.0, 2), r"^w\.low: 1\.0 is no whole number"),  # type: ignore[arg-type]
        (lambda: Categorical("w", ()), r"^w\.choices: is empty"),
        (lambda: Condition("w", ()), "names no value"),
        (lambda: SearchSpace(()), "the space is empty"),
        (lambda: SearchSpace((Int("w", 1, 2), Int("w", 1, 3))), "w: is the name of two parameters"),
        (lambda: SearchSpace((Int("w", 1, 2, when={"v": 1}),)), r"w\.when\.v: there is no parameter"),
        (lambda: SearchSpace(("w",)), "'w' is no parameter"),  # type: ignore[arg-type]
    ],
    ids=["range", "step", "type", "choices", "condition", "empty space", "names", "parents", "no parameter"],
)
def test_values_are_valid_from_birth(build: Any, message: str) -> None:
    """A constructor refuses what cannot be, with the same words as the parser."""
    with pytest.raises(ValueError, match=message):
        build()


def test_parsing_raises_the_error_for_documents() -> None:
    """Whoever reads a document gets the error that carries all flaws."""
    with pytest.raises(InvalidDocument) as caught:
        SearchSpace.parse({"width": {"type": "int", "low": 600, "high": 512}})

    assert str(caught.value) == "space.width.low: 600 is above high (512)"
