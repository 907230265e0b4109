"""Parameters with a normal or lognormal distribution: what they contain and draw, and what is refused."""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from fractions import Fraction
from statistics import NormalDist, fmean, stdev
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gridtune_common.cli import space as space_for_people
from gridtune_common.errors import InvalidDocument
from gridtune_common.space import Normal, SearchSpace
from strategies import normals

N = 4000
SHARES = st.floats(0, 1)


def parse_one(**body: Any) -> Any:
    """Read a space with the parameter ``x`` alone."""
    return SearchSpace.parse({"x": body})["x"]


def flaws_of(**body: Any) -> list[str]:
    """What is said about a space with the parameter ``x`` alone."""
    with pytest.raises(InvalidDocument) as caught:
        parse_one(**body)
    return [str(flaw) for flaw in caught.value.flaws]


def drawn(parameter: Normal) -> list[float]:
    """Many values."""
    rng = random.Random(5)
    return [parameter.sample(rng) for _ in range(N)]


# --- values ---------------------------------------------------------------------------------------------------


@given(normals(), SHARES)
@example(Normal("x", 0, 1), 0.0)
@example(Normal("x", 0, 1), 1.0)
@example(Normal("x", -3, 2, log=True), 0.0)
def test_every_quantile_is_a_value(parameter: Normal, u: float) -> None:
    """Also at both ends, a share leads to a finite float within the bounds and on the grid."""
    value = parameter.quantile(u)

    assert type(value) is float
    assert math.isfinite(value)
    assert parameter.contains(value)
    assert parameter.low is None or value >= parameter.low
    assert parameter.high is None or value <= parameter.high


@given(normals(), SHARES, SHARES)
def test_quantiles_rise(parameter: Normal, one: float, other: float) -> None:
    """A larger share never leads to a smaller value, and a larger value never has a smaller rank."""
    low, high = (parameter.quantile(u) for u in sorted((one, other)))

    assert low <= high
    assert 0 <= parameter.rank(low) <= parameter.rank(high) <= 1


@given(normals(), SHARES)
def test_rank_is_the_inverse_of_quantile(parameter: Normal, u: float) -> None:
    """Without a step the share comes back; with one, the value does."""
    value = parameter.quantile(u)

    if parameter.step is None:
        assert parameter.rank(value) == pytest.approx(u, abs=1e-6)
    else:
        assert parameter.quantile(parameter.rank(value)) == value


@given(normals(), st.integers(-1000, 1000))
def test_values_of_a_step_are_its_multiples(parameter: Normal, k: int) -> None:
    """The floats nearest to the decimal notation of multiples of the step, within the bounds, and nothing else."""
    assume(parameter.step is not None)
    multiple = float(k * Fraction(repr(parameter.step)))
    low = -math.inf if parameter.low is None else parameter.low
    high = math.inf if parameter.high is None else parameter.high

    assert parameter.contains(multiple) == (low <= multiple <= high and (multiple > 0 or not parameter.log))
    assert not parameter.contains(multiple + 0.4 * (parameter.step or 0))


@given(normals())
def test_only_steps_between_two_ends_can_be_counted(parameter: Normal) -> None:
    """There is a grid if a step and both ends are given; the lower end of a lognormal is its first step."""
    has_low = parameter.low is not None or parameter.log
    is_finite = has_low and parameter.high is not None and parameter.step is not None

    assert (parameter.n_values is not None) == is_finite
    if is_finite:
        places = sorted({0, parameter.grid_size // 2, parameter.grid_size - 1})
        values = [parameter.grid_value(place) for place in places]
        assert parameter.n_values == parameter.grid_size
        assert [parameter.grid_index(value) for value in values] == places
        assert all(parameter.contains(value) for value in values)
    else:
        with pytest.raises(ValueError, match="x has endless values: it has no grid"):
            parameter.grid_index(0.5)


@given(normals())
def test_a_normal_survives_json(parameter: Normal) -> None:
    """Writing it as JSON and reading it gives an equal parameter, and the same JSON."""
    document = json.loads(json.dumps({"x": parameter.to_json()}))

    space = SearchSpace.parse(document)

    assert space == SearchSpace((parameter,))
    assert space.to_json() == document


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        pytest.param(Normal("x", 0, 1), 1e300, True, id="any number"),
        pytest.param(Normal("x", 0, 1), -sys.float_info.max, True, id="the smallest float"),
        pytest.param(Normal("x", 0, 1), 3, True, id="a whole number"),
        pytest.param(Normal("x", 0, 1), True, False, id="no boolean"),
        pytest.param(Normal("x", 0, 1), "3", False, id="no text"),
        pytest.param(Normal("x", 0, 1), math.nan, False, id="no nan"),
        pytest.param(Normal("x", 0, 1), math.inf, False, id="no infinity"),
        pytest.param(Normal("x", 0, 1), 10**400, False, id="no number beyond floats"),
        pytest.param(Normal("x", 0, 1, step=0.1), 0.3, True, id="a multiple"),
        pytest.param(Normal("x", 0, 1, step=0.1), 0.1 + 0.2, False, id="no multiple with a rounding error"),
        pytest.param(Normal("x", 0, 1, step=0.75), sys.float_info.max, True, id="a huge multiple"),
        pytest.param(Normal("x", 0, 1, low=0.05, step=0.1), 0.05, False, id="no bound off the grid"),
        pytest.param(Normal("x", 0, 1, log=True), 5e-324, True, id="lognormal: the smallest number above 0"),
        pytest.param(Normal("x", 0, 1, log=True), 0.0, False, id="lognormal: not 0"),
        pytest.param(Normal("x", 0, 1, log=True, low=0), 0.0, False, id="lognormal: low 0 is no bound"),
        pytest.param(Normal("x", 0, 1, log=True, step=0.5), 0.0, False, id="lognormal: one step at least"),
        pytest.param(Normal("x", 0, 1, log=True, high=2), 2.5, False, id="lognormal: bounds are of the value"),
    ],
)
def test_what_is_contained(parameter: Normal, value: Any, expected: bool) -> None:
    """A number is a value wherever it lies, if bounds and step allow it."""
    assert parameter.contains(value) is expected


def test_the_grid_of_a_normal() -> None:
    """Places go from the first multiple within the bounds to the last one."""
    parameter = Normal("x", 0.5, 1, low=-0.25, high=0.5, step=0.1)

    values = [parameter.grid_value(place) for place in range(parameter.grid_size)]

    assert values == [-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert [parameter.grid_index(value) for value in (-9, 0.13, 99)] == [0, 3, 7]
    with pytest.raises(IndexError, match="places 0 to 7, not 8"):
        parameter.grid_value(8)


def test_low_0_of_a_lognormal_is_no_bound() -> None:
    """All its values are above 0 anyway."""
    free, bound = Normal("x", 0, 1, log=True, step=0.5, high=3), Normal("x", 0, 1, log=True, step=0.5, low=0, high=3)

    assert drawn(free) == drawn(bound)
    assert free.n_values == bound.n_values == 6


def test_a_share_is_between_0_and_1() -> None:
    """There is no value above all others."""
    with pytest.raises(ValueError, match=r"1\.5 is not between 0 and 1"):
        Normal("x", 0, 1).quantile(1.5)


# --- distributions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True], ids=["normal", "lognormal"])
def test_mean_and_spread_are_as_declared(log: bool) -> None:
    """Of the value, or of its natural logarithm."""
    values = drawn(Normal("x", -3, 0.5, log=log))
    scaled = [math.log(value) for value in values] if log else values

    assert fmean(scaled) == pytest.approx(-3, abs=4 * 0.5 / math.sqrt(N))
    assert stdev(scaled) == pytest.approx(0.5, rel=4 / math.sqrt(2 * N))


@pytest.mark.parametrize(
    ("parameter", "z_low", "z_high"),
    [
        (Normal("x", 0, 1, low=-1, high=2), -1, 2),
        (Normal("x", 0, 1, low=3), 3, 40),
        (Normal("x", 5, 2, high=1), -40, -2),
        (Normal("x", -3, 2, log=True, low=math.exp(-4), high=math.exp(1)), -0.5, 2),
    ],
    ids=["both", "low", "high", "lognormal"],
)
def test_bounds_cut_the_distribution_off(parameter: Normal, z_low: float, z_high: float) -> None:
    """Between the bounds, mean and spread are those that textbooks give for a truncated normal distribution."""
    unit = NormalDist()
    share = unit.cdf(z_high) - unit.cdf(z_low)
    shift = (unit.pdf(z_low) - unit.pdf(z_high)) / share
    spread = math.sqrt(1 + (z_low * unit.pdf(z_low) - z_high * unit.pdf(z_high)) / share - shift**2)

    scaled = [math.log(value) if parameter.log else value for value in drawn(parameter)]
    z = [(value - parameter.mean) / parameter.std for value in scaled]

    assert z_low <= min(z)
    assert max(z) <= z_high
    assert fmean(z) == pytest.approx(shift, abs=4 * spread / math.sqrt(N))
    assert stdev(z) == pytest.approx(spread, rel=0.1)


def test_a_draw_is_rounded_to_the_nearest_multiple() -> None:
    """Each multiple gets the share that lies within half a step of it, and the ends what lies beyond."""
    counts = Counter(drawn(Normal("x", 1, 2, step=2, low=-2.5, high=4)))
    inside = NormalDist(1, 2)
    whole = inside.cdf(4) - inside.cdf(-2.5)

    shares = {
        value: (inside.cdf(high) - inside.cdf(low)) / whole
        for value, low, high in [(-2.0, -2.5, -1), (0.0, -1, 1), (2.0, 1, 3), (4.0, 3, 4)]
    }

    assert counts.keys() == shares.keys()
    assert all(counts[value] / N == pytest.approx(share, abs=0.03) for value, share in shares.items())


def test_the_same_seed_draws_the_same_value() -> None:
    """A parameter has no randomness of its own."""
    parameter = Normal("x", 0, 1)

    assert parameter.sample(random.Random(3)) == parameter.sample(random.Random(3))


# --- task files -------------------------------------------------------------------------------------------------


def test_both_kinds_are_read() -> None:
    """Numbers may be text, as everywhere, and null counts as left out."""
    assert parse_one(type="normal", mean=0, std="1e-3") == Normal("x", 0, 0.001)
    assert parse_one(type="lognormal", mean=-3, std=1, low=0, high=0.5, step=None) == Normal(
        "x", -3, 1, log=True, low=0, high=0.5
    )


def test_the_canonical_form_has_what_was_given() -> None:
    """Bounds and step are left out if there are none."""
    when = {"o": ["a"]}
    space = {
        "o": {"type": "categorical", "choices": ["a", "b"]},
        "n": {"type": "normal", "mean": 0.0, "std": 1.0},
        "l": {"type": "lognormal", "mean": -3.0, "std": 1.0, "low": 0.1, "high": 2.0, "step": 0.1, "when": when},
    }

    assert SearchSpace.parse(space).to_json() == space


NORMAL = {"type": "normal", "mean": 0, "std": 1}
LOGNORMAL = {"type": "lognormal", "mean": 0, "std": 1}
NATURAL = "(mean and std are those of the natural logarithm of the value)"


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        ({"type": "normal", "mean": 0}, "space.x.std: is missing; a normal needs mean and std"),
        (NORMAL | {"std": "wide"}, 'space.x.std: "wide" is no number; write one without quotes, such as 0.5'),
        (NORMAL | {"mean": math.inf}, "space.x.mean: Infinity is not finite; write a plain number"),
        (NORMAL | {"std": 0}, "space.x.std: 0 is not above 0; write how far from mean values usually lie"),
        (NORMAL | {"sigma": 1}, "space.x.sigma: unknown key; write std"),
        (NORMAL | {"mu": 1}, "space.x.mu: unknown key; write mean"),
        (NORMAL | {"meen": 1}, "space.x.meen: unknown key; did you mean mean?"),
        (NORMAL | {"scale": "log"}, "space.x.scale: unknown key; write type: lognormal"),
        (NORMAL | {"log": True}, "space.x.log: unknown key; write type: lognormal"),
        (LOGNORMAL | {"scale": "log"}, "space.x.scale: unknown key; leave it out: a lognormal is logarithmic already"),
        (
            {"type": "float", "low": 0, "high": 1, "mean": 0},
            "space.x.mean: unknown key; a float takes type, low, high, scale, step, when",
        ),
        ({"type": "gaussian"}, 'space.x.type: "gaussian" is no type; write normal'),
        ({"type": "log_normal"}, 'space.x.type: "log_normal" is no type; did you mean lognormal?'),
        ({"type": "qnormal"}, 'space.x.type: "qnormal" is no type; write normal with a step'),
        (NORMAL | {"low": 2, "high": 1}, "space.x.low: 2 is above high (1)"),
        (
            NORMAL | {"low": 1, "high": 1},
            "space.x.low: 1 equals high: nothing to tune; write constants: {x: 1}",
        ),
        (
            NORMAL | {"low": 5},
            "space.x.low: 5 leaves 3e-07 of the distribution, too little to draw from; "
            "widen the bounds or change mean and std",
        ),
        (
            NORMAL | {"low": -9, "high": -5},
            "space.x.high: -5 leaves 3e-07 of the distribution, too little to draw from; "
            "widen the bounds or change mean and std",
        ),
        (
            LOGNORMAL | {"mean": 0.001, "std": 0.01, "high": 0.1},
            "space.x.high: 0.1 leaves 0 of the distribution, too little to draw from; "
            f"widen the bounds or change mean and std {NATURAL}",
        ),
        (
            LOGNORMAL | {"low": -1},
            "space.x.low: -1 is below 0, but all values of a lognormal are above; raise it or leave it out",
        ),
        (
            LOGNORMAL | {"high": 0},
            "space.x.high: 0 is not above 0, but all values of a lognormal are; raise it or leave it out",
        ),
        (
            LOGNORMAL | {"std": 100},
            f"space.x.std: 100 leads to values beyond what floats can hold {NATURAL}; make it smaller",
        ),
        (
            LOGNORMAL | {"mean": -1000},
            f"space.x.mean: -1000 leads to values beyond what floats can hold {NATURAL}; bring it nearer to 0",
        ),
        (NORMAL | {"std": 1e300}, "space.x.std: 1e+300 leads to values beyond what floats can hold; make it smaller"),
        (
            NORMAL | {"mean": 1, "std": 1e-12},
            "space.x.std: 1e-12 is too small for floats around mean; write 2.3e-10 or more",
        ),
        (NORMAL | {"step": 0}, "space.x.step: 0 is not above 0; write a positive step or leave it out"),
        (NORMAL | {"step": 100}, "space.x.step: all draws round to 0.0 by steps of 100; make it smaller"),
        (
            NORMAL | {"step": 1, "low": 0.1, "high": 0.9},
            "space.x.step: no multiple of 1 is within the bounds; make it smaller",
        ),
        (
            LOGNORMAL | {"step": 3, "high": 2},
            "space.x.step: no multiple of 3 is within the bounds; make it smaller",
        ),
        (
            LOGNORMAL | {"step": 1, "high": 1e17},
            "space.x.step: 1 is too small for floats in this range; write 64.0 or more",
        ),
        (
            NORMAL | {"step": 1e-17},
            "space.x.step: 1e-17 is too small for floats in this range; write 3.552713678800501e-15 or more",
        ),
    ],
    ids=str,
)
def test_each_flaw_has_its_own_message(body: Any, flaw: str) -> None:
    """One thing wrong gives one message, which names the place and the fix."""
    assert flaws_of(**body) == [flaw]


def test_a_bound_far_out_is_no_reason_for_a_larger_step() -> None:
    """Where nobody counts the values, nobody needs to tell the last ones apart."""
    assert parse_one(type="normal", mean=0, std=1, high=1e17, step=1).n_values is None


def test_wide_lognormals_need_bounds() -> None:
    """What would overflow without bounds is welcome with them."""
    assert 1e-5 <= min(drawn(parse_one(type="lognormal", mean=0, std=100, low=1e-5, high=1))) < 1e-4


@pytest.mark.parametrize("kind", ["normal", "lognormal"])
def test_nothing_depends_on_a_normal(kind: str) -> None:
    """As on no other float."""
    document = {
        "x": {"type": kind, "mean": 0, "std": 1},
        "y": {"type": "categorical", "choices": [1], "when": {"x": 1}},
    }

    with pytest.raises(InvalidDocument, match=rf"space\.y\.when\.x: x is a {kind}; depend on a categorical"):
        SearchSpace.parse(document)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (Normal("x", 0, 1), "any float"),
        (Normal("x", 0, 1, low=-1.5), "a float from -1.5"),
        (Normal("x", 0, 1, low=-1.5, high=2), "a float from -1.5 up to 2.0"),
        (Normal("x", 0, 1, step=0.5), "a float that is a multiple of 0.5"),
        (Normal("x", 0, 1, log=True), "a float above 0"),
        (Normal("x", 0, 1, log=True, high=2), "a float above 0 up to 2.0"),
    ],
    ids=str,
)
def test_an_explanation_says_what_values_there_are(parameter: Normal, words: str) -> None:
    """Whoever gives an impossible value learns what is possible."""
    assert SearchSpace((parameter,)).explain({"x": "one"}) == f'x: "one" is not possible; give {words}'


# --- for people -------------------------------------------------------------------------------------------------


def test_the_command_line_shows_the_distribution() -> None:
    """Mean and standard deviation, then bounds and step."""
    space = {
        "a": {"type": "normal", "mean": 0.0, "std": 1.5},
        "b": {"type": "lognormal", "mean": -3.0, "std": 1.0, "low": 0.1, "high": 0.5, "step": 0.1},
    }

    lines = space_for_people.lines({"space": space})

    assert "mean 0, std 1.5" in lines[-4]
    assert "mean -3, std 1 of the logarithm, low 0.1, high 0.5, step 0.1" in lines[-3]
    assert space_for_people.size({"b": space["b"]}) == "5 points"
    assert space_for_people.size(space) == "infinite (1 of 2 parameters continuous)"
