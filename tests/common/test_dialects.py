"""Other programs' search spaces: recognised, converted, and refused in their own terms."""

from __future__ import annotations

import bisect
import contextlib
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_common import dialects
from gridtune_common.cli import main
from gridtune_common.errors import InvalidDocument
from gridtune_common.space import SearchSpace
from gridtune_common.taskfile import parse_task, task_schema
from strategies import json_values, task_documents

REST = {"objective": {"metric": "loss"}, "stop": {"points": 3}}
N = 4000
ALIKE = 1.95 * math.sqrt(2 / N)  # two samples of N further apart than this come from one distribution once in 1,000


def hpogrid(method: str, **dimension: Any) -> dict[str, Any]:
    """A parameter of hpogrid."""
    return {"method": method, "dimension": dimension}


def idds(kind: str, bounds: Any = None, **params: Any) -> dict[str, Any]:
    """A parameter of iDDS."""
    return {"type": kind, **({"params": params} if params else {}), **({"bounds": bounds} if bounds else {})}


def optuna(name: str, **attributes: Any) -> dict[str, Any]:
    """A distribution of Optuna."""
    return {"name": name, "attributes": attributes}


def converted(body: Any, dialect: str) -> dialects.Converted:
    """What becomes of a space with the parameter ``x`` alone."""
    return dialects.load(dialect).convert({"x": body}, "space")


def flaws_of(document: Any) -> list[str]:
    """What is said about a task."""
    with pytest.raises(InvalidDocument) as caught:
        parse_task(document)
    return [str(flaw) for flaw in caught.value.flaws]


def flaws_in(body: Any, **more: Any) -> list[str]:
    """What is said about a task whose space has the parameter ``x`` alone."""
    return flaws_of({"space": {"x": body}, **REST, **more})


def real(low: float, high: float, **more: Any) -> dict[str, Any]:
    """A float in our form."""
    return {"type": "float", "low": low, "high": high, **more}


def whole(low: int, high: int, **more: Any) -> dict[str, Any]:
    """An int in our form."""
    return {"type": "int", "low": low, "high": high, **more}


def one_of(*choices: Any) -> dict[str, Any]:
    """A categorical in our form."""
    return {"type": "categorical", "choices": list(choices)}


def normal(mean: float, std: float, **more: Any) -> dict[str, Any]:
    """A number from a normal distribution in our form."""
    return {"type": "normal", "mean": mean, "std": std, **more}


LOG = {"scale": "log"}
LOGNORMAL = {"type": "lognormal"}
LN2 = 0.69314718056


# --- what becomes of each parameter -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "body", "expected"),
    [
        ("hpogrid", hpogrid("categorical", categories=["a", "b"], grid_search=0), one_of("a", "b")),
        ("hpogrid", hpogrid("categorical", categories=[1, 1, 2, 2.0, True]), one_of(1, 2, True)),
        ("hpogrid", hpogrid("uniform", low=0, high=1), real(0, 1)),
        ("hpogrid", hpogrid("uniformint", low=1, high=6), whole(1, 6)),
        ("hpogrid", hpogrid("uniformint", low=1.0, high=6), whole(1, 6)),
        ("hpogrid", hpogrid("quniform", low=0.0, high=0.5, q=0.05), real(0.0, 0.5, step=0.05)),
        ("hpogrid", hpogrid("quniform", low=10, high=100, q=32), whole(32, 96, step=32)),
        ("hpogrid", hpogrid("quniform", low=0.07, high=0.31, q=0.1), real(0.1, 0.3, step=0.1)),
        ("hpogrid", hpogrid("quniform", low=-1, high=1, q=0.5), real(-1.0, 1.0, step=0.5)),
        ("hpogrid", hpogrid("loguniform", low="1e-5", high=0.1, base=10), real(1e-5, 0.1, **LOG)),
        ("hpogrid", hpogrid("qloguniform", low=1e-4, high=1e-1, q=5e-5), real(1e-4, 1e-1, **LOG, step=5e-5)),
        ("hpogrid", hpogrid("qloguniform", low=16, high=512, q=16, base=2), whole(16, 512, **LOG, step=16)),
        ("hpogrid", hpogrid("normal", mu=10, sigma="2"), normal(10, 2)),
        ("hpogrid", hpogrid("qnormal", mu=10, sigma=2.5, q=0.5), normal(10, 2.5, step=0.5)),
        ("hpogrid", hpogrid("lognormal", mu=-3, sigma=1), normal(-3, 1, **LOGNORMAL)),
        ("hpogrid", hpogrid("lognormal", mu=-3, sigma=1, base=math.e), normal(-3.0, 1.0, **LOGNORMAL)),
        ("hpogrid", hpogrid("lognormal", mu=1, sigma=2, base=2), normal(LN2, 2 * LN2, **LOGNORMAL)),
        ("hpogrid", hpogrid("qlognormal", mu=4, sigma=1, q=1), normal(4, 1, **LOGNORMAL, step=1)),
        ("idds", idds("Choice", choices=[1, 4]), one_of(1, 4)),
        ("idds", idds("TransitionChoice", choices=[1, 4]), {"type": "ordinal", "choices": [1, 4]}),
        ("idds", idds("TransitionChoice", choices=[1, 4], ordered=False), one_of(1, 4)),
        ("idds", idds("Scalar", bounds=[0, 5]), real(0, 5)),
        ("idds", idds("Scalar", lower=0, upper=5), real(0, 5)),
        ("idds", idds("Log", lower=1e-3, upper=1), real(1e-3, 1, **LOG)),
        ("idds", idds("Log", bounds=[1e-3, 1]), real(1e-3, 1, **LOG)),
        ("idds", idds("Array", bounds=[0, 5], shape=[1]), real(0, 5)),
        ("idds", idds("Array", bounds=[0, 5], init=[2.0]), real(0, 5)),
        ("bayes_opt", [1, 4], real(1, 4)),
        ("optuna", optuna("FloatDistribution", low=1e-5, high=0.1, log=True, step=None), real(1e-5, 0.1, **LOG)),
        ("optuna", optuna("FloatDistribution", low=0.1, high=0.9, log=False, step=0.2), real(0.1, 0.9, step=0.2)),
        ("optuna", optuna("IntDistribution", low=1, high=9, log=False, step=2), whole(1, 9, step=2)),
        ("optuna", optuna("IntDistribution", low=1, high=9, log=True, step=1), whole(1, 9, **LOG, step=1)),
        ("optuna", optuna("CategoricalDistribution", choices=["a", None]), one_of("a", None)),
        ("optuna", optuna("UniformDistribution", low=0, high=1), real(0, 1)),
        ("optuna", optuna("LogUniformDistribution", low=0.1, high=1), real(0.1, 1, **LOG)),
        ("optuna", optuna("DiscreteUniformDistribution", low=0.1, high=1, q=0.3), real(0.1, 1, step=0.3)),
        ("optuna", optuna("IntUniformDistribution", low=1, high=9, step=2), whole(1, 9, step=2)),
        ("optuna", optuna("IntLogUniformDistribution", low=1, high=9, step=1), whole(1, 9, **LOG, step=1)),
        ("optuna", json.dumps(optuna("UniformDistribution", low=0, high=1)), real(0, 1)),
        ("raytune", "uniform(0, 1)", real(0, 1)),
        ("raytune", "tune.uniform(-5, upper=-1.5)", real(-5, -1.5)),
        ("raytune", "ray.tune.quniform(3.3, 5.4, 0.2)", real(3.4, 5.4, step=0.2)),
        ("raytune", "quniform(0, 10, 2)", real(0.0, 10.0, step=2)),
        ("raytune", "loguniform(1e-4, 3e-2)", real(1e-4, 3e-2, **LOG)),
        ("raytune", "qloguniform(1e-4, 1e-1, 5e-5)", real(1e-4, 1e-1, **LOG, step=5e-5)),
        ("raytune", " randint(1, 10) ", whole(1, 9)),
        ("raytune", "qrandint(1, 10, 3)", whole(3, 9, step=3)),
        ("raytune", "qrandint(1, 10)", whole(1, 10, step=1)),
        ("raytune", "lograndint(1, 10, base=2)", whole(1, 9, **LOG)),
        ("raytune", "qlograndint(16, 512, 16)", whole(16, 512, **LOG, step=16)),
        ("raytune", "randn()", normal(0, 1)),
        ("raytune", "tune.randn(10, sd=2.5)", normal(10, 2.5)),
        ("raytune", "qrandn(10, 2, 0.5)", normal(10, 2, step=0.5)),
        ("raytune", "choice([16, 32])", one_of(16, 32)),
        ("raytune", "tune.choice(('a)', \"b\", None))", one_of("a)", "b", None)),
        ("raytune", "grid_search([1, 2])", one_of(1, 2)),
    ],
    ids=str,
)
def test_a_parameter_is_converted(dialect: str, body: Any, expected: dict[str, Any]) -> None:
    """Each kind of each dialect has its counterpart, which our reader takes."""
    space = converted(body, dialect).space

    assert space == {"x": expected}
    assert {key: type(value) for key, value in space["x"].items() if key != "low" or value != "1e-5"} == {
        key: type(value) for key, value in expected.items()
    }
    SearchSpace.parse(space)


@pytest.mark.parametrize(
    ("dialect", "body", "value"),
    [
        ("hpogrid", hpogrid("fixed", value=30), 30),
        ("hpogrid", hpogrid("fixed", value=[64, 64]), [64, 64]),
        ("hpogrid", hpogrid("fixed", value=None), None),
        ("hpogrid", "adam", "adam"),
        ("hpogrid", 30, 30),
        ("hpogrid", hpogrid("uniform", low=1, high=1), 1.0),
        ("hpogrid", hpogrid("uniformint", low=1, high=1.0), 1),
        ("hpogrid", hpogrid("quniform", low=0.3, high=0.7, q=0.5), 0.5),
        ("raytune", "randint(3, 4)", 3),
        ("raytune", "qrandint(3, 5, 4)", 4),
        ("optuna", optuna("IntDistribution", low=3, high=3, log=False, step=1), 3),
        ("bayes_opt", [2, 2], 2.0),
        ("idds", idds("Scalar", bounds=[2, 2]), 2.0),
    ],
    ids=str,
)
def test_one_value_alone_is_a_constant(dialect: str, body: Any, value: Any) -> None:
    """What cannot be tuned becomes a constant of the same type."""
    result = converted(body, dialect)

    assert result.space == {}
    assert result.constants == {"x": value}
    assert type(result.constants["x"]) is type(value)


@pytest.mark.parametrize(
    ("dialect", "body", "note"),
    [
        (
            "hpogrid",
            hpogrid("categorical", categories=[1, 1, 2]),
            "x: choices that come again are dropped, their weights with them: all are equally likely",
        ),
        ("hpogrid", hpogrid("categorical", categories=[1], grid_search=1), "x: grid_search is ignored"),
        (
            "hpogrid",
            hpogrid("loguniform", low=1, high=2, base=10),
            "x: base is ignored; low and high are the bounds, whatever the base",
        ),
        (
            "hpogrid",
            hpogrid("quniform", low=0.2, high=1.1, q=0.5),
            "x: goes from 0.5 to 1.0, the multiples of 0.5 in its range",
        ),
        (
            "hpogrid",
            hpogrid("lognormal", mu=0, sigma=1, base=10),
            "x: mean and std are those of the natural logarithm, whatever the base",
        ),
        (
            "hpogrid",
            hpogrid("qlognormal", mu=0, sigma=1, q=1),
            "x: what would round to 0 (24.4% of the draws) becomes 1",
        ),
        ("hpogrid", 30, "x: 30 is a plain value and becomes a constant"),
        ("hpogrid", hpogrid("uniform", low=1, high=1), "x: can only be 1.0 and becomes a constant"),
        (
            "idds",
            idds("Scalar", bounds=[0, 1], init=0.5, mutable_sigma=True),
            "x: init and mutable_sigma are ignored: the algorithm decides how it searches",
        ),
        ("idds", idds("Array", bounds=[0, 1], shape=[1, 1]), "x: an array of one element becomes a number"),
        (
            "bayes_opt",
            [1, 4],
            "bayes_opt always maximizes; here it is as objective says (goal: minimize if left out)",
        ),
        ("raytune", "grid_search([1, 2])", "x: grid_search becomes a categorical: not each point tries all values"),
        (
            "raytune",
            "loguniform(1, 2, 2)",
            "x: base is ignored; the bounds are the values themselves, whatever the base",
        ),
    ],
    ids=str,
)
def test_changes_are_noted(dialect: str, body: Any, note: str) -> None:
    """Nothing is changed or left out without a word."""
    assert note in converted(body, dialect).notes


@pytest.mark.parametrize(
    "body",
    [
        hpogrid("quniform", low=0.5, high=1.5, q=0.5),
        hpogrid("lognormal", mu=0, sigma=1),
        hpogrid("qlognormal", mu=4, sigma=1, q=1),
    ],
    ids=str,
)
def test_what_is_the_same_here_brings_no_note(body: Any) -> None:
    """A note means something."""
    assert converted(body, "hpogrid").notes == []


# --- distributions ------------------------------------------------------------------------------------------


def drawn(body: Any, dialect: str) -> list[Any]:
    """Values that our space draws for a converted parameter."""
    space, rng = SearchSpace.parse(converted(body, dialect).space), random.Random(3)
    return [space.sample(rng)["x"] for _ in range(N)]


def simulated(draw: Callable[[random.Random], float]) -> list[float]:
    """Values by the definition of the dialect."""
    rng = random.Random(4)
    return [draw(rng) for _ in range(N)]


def shown(value: Any) -> str:
    """A value in a test's name; the name of a lambda would be another in each process."""
    return "defined" if callable(value) else str(value)


def distance(one: list[float], other: list[float]) -> float:
    """The largest distance between two empirical distribution functions (Kolmogorov, Smirnov)."""
    one, other = sorted(one), sorted(other)
    return max(
        abs(bisect.bisect_right(one, at) / len(one) - bisect.bisect_right(other, at) / len(other))
        for at in {*one, *other}
    )


def log_uniform(rng: random.Random, low: float, high: float, base: float = 10) -> float:
    """A number whose logarithm is uniform."""
    return float(base ** rng.uniform(math.log(low, base), math.log(high, base)))


@pytest.mark.parametrize(
    ("dialect", "body", "definition"),
    [
        ("hpogrid", hpogrid("categorical", categories=[1, 2, 5]), lambda rng: rng.choice([1, 2, 5])),
        ("hpogrid", hpogrid("uniform", low=-1, high=3), lambda rng: rng.uniform(-1, 3)),
        ("hpogrid", hpogrid("uniformint", low=1, high=6), lambda rng: rng.randint(1, 6)),
        ("hpogrid", hpogrid("loguniform", low=1e-5, high=0.1), lambda rng: log_uniform(rng, 1e-5, 0.1, math.e)),
        ("hpogrid", hpogrid("loguniform", low=1e-5, high=0.1, base=2), lambda rng: log_uniform(rng, 1e-5, 0.1, 2)),
        ("hpogrid", hpogrid("normal", mu=10, sigma=2), lambda rng: rng.gauss(10, 2)),
        ("hpogrid", hpogrid("qnormal", mu=1, sigma=2, q=0.5), lambda rng: round(rng.gauss(1, 2) / 0.5) * 0.5),
        ("hpogrid", hpogrid("lognormal", mu=-3, sigma=1), lambda rng: math.exp(rng.gauss(-3, 1))),
        ("hpogrid", hpogrid("lognormal", mu=-3, sigma=1, base=10), lambda rng: 10 ** rng.gauss(-3, 1)),
        (
            "hpogrid",
            hpogrid("qlognormal", mu=4, sigma=1, q=1, base=2),
            lambda rng: round(2 ** rng.gauss(4, 1)),
        ),
        ("raytune", "randn(10, 2)", lambda rng: rng.gauss(10, 2)),
        ("raytune", "qrandn(10, 2, 0.5)", lambda rng: round(rng.gauss(10, 2) / 0.5) * 0.5),
        ("idds", idds("Choice", choices=[1, 4]), lambda rng: rng.choice([1, 4])),
        ("idds", idds("Scalar", bounds=[0, 5]), lambda rng: rng.uniform(0, 5)),
        ("idds", idds("Log", bounds=[1e-3, 1]), lambda rng: log_uniform(rng, 1e-3, 1)),
        ("bayes_opt", [1, 4], lambda rng: rng.uniform(1, 4)),
        (
            "optuna",
            optuna("FloatDistribution", low=0.1, high=0.9, log=False, step=0.2),
            lambda rng: rng.choice([0.1, 0.3, 0.5, 0.7, 0.9]),
        ),
        (
            "optuna",
            optuna("IntDistribution", low=1, high=50, log=True, step=1),
            lambda rng: min(50, max(1, round(log_uniform(rng, 0.5, 50.5)))),
        ),
        ("raytune", "loguniform(1e-4, 3e-2)", lambda rng: log_uniform(rng, 1e-4, 3e-2)),
        ("raytune", "randint(1, 10)", lambda rng: rng.randrange(1, 10)),
        ("raytune", "lograndint(1000, 100000)", lambda rng: math.floor(log_uniform(rng, 1000, 100000))),
        ("raytune", "choice([16, 32])", lambda rng: rng.choice([16, 32])),
    ],
    ids=shown,
)
def test_values_are_distributed_as_defined(
    dialect: str, body: Any, definition: Callable[[random.Random], float]
) -> None:
    """What our space draws cannot be told from what the dialect's own definition gives."""
    assert distance(drawn(body, dialect), simulated(definition)) < ALIKE


@pytest.mark.parametrize(
    ("dialect", "body", "definition"),
    [
        (
            "hpogrid",
            hpogrid("quniform", low=0.0, high=2.0, q=0.25),
            lambda rng: round(rng.uniform(0, 2) / 0.25) * 0.25,
        ),
        ("hpogrid", hpogrid("quniform", low=1, high=23, q=2), lambda rng: round(rng.uniform(1, 23) / 2) * 2),
        (
            "hpogrid",
            hpogrid("qloguniform", low=1, high=64, q=1),
            lambda rng: round(log_uniform(rng, 1, 64)),
        ),
        (
            "hpogrid",
            hpogrid("qloguniform", low=0.5, high=10.0, q=0.5),
            lambda rng: round(log_uniform(rng, 0.5, 10) / 0.5) * 0.5,
        ),
        ("raytune", "quniform(0, 2, 0.25)", lambda rng: round(rng.uniform(0, 2) / 0.25) * 0.25),
        ("raytune", "qlograndint(16, 512, 16)", lambda rng: round(log_uniform(rng, 16, 512) / 16) * 16),
    ],
    ids=shown,
)
def test_quantized_values_are_distributed_as_defined_between_the_ends(
    dialect: str, body: Any, definition: Callable[[random.Random], float]
) -> None:
    """Rounding gives the ends of the range half a share, we a whole one; between them all is alike."""
    ours, theirs = drawn(body, dialect), simulated(definition)
    low, high = min(ours), max(ours)

    inside = [[value for value in values if low < value < high] for values in (ours, theirs)]

    assert {value for value in theirs if low <= value <= high} <= set(ours)
    assert distance(*inside) < 1.95 * math.sqrt(1 / len(inside[0]) + 1 / len(inside[1]))


@pytest.mark.parametrize(
    ("dialect", "body", "values"),
    [
        ("hpogrid", hpogrid("uniformint", low=1, high=4), {1, 2, 3, 4}),
        ("hpogrid", hpogrid("quniform", low=0.1, high=0.4, q=0.1), {0.1, 0.2, 0.3, 0.4}),
        ("hpogrid", hpogrid("qloguniform", low=5, high=35, q=10), {10, 20, 30}),
        ("raytune", "randint(1, 4)", {1, 2, 3}),
        ("raytune", "lograndint(1, 4)", {1, 2, 3}),
        ("raytune", "qrandint(1, 4)", {1, 2, 3, 4}),
        ("raytune", "qrandint(0, 10, 5)", {0, 5, 10}),
    ],
    ids=str,
)
def test_bounds_are_as_documented(dialect: str, body: Any, values: set[Any]) -> None:
    """All values come up, and no other."""
    assert set(drawn(body, dialect)) == values


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.integers(1, 300), st.sampled_from([1, 10, 1000]))
def test_quantized_values_are_multiples_within_the_bounds(low: int, width: int, q: int, unit: int) -> None:
    """All multiples of q from low to high are on the grid, and nothing else, whatever the decimals."""
    bounds = {key: value / unit if unit > 1 else value for key, value in (("low", low), ("high", low + width))}
    body = hpogrid("quniform", **bounds, q=q / unit if unit > 1 else q)
    multiples = [k * q / unit if unit > 1 else k * q for k in range(-1100, 2100) if low <= k * q <= low + width]

    if len(multiples) < 2:
        return
    parameter = SearchSpace.parse(converted(body, "hpogrid").space)["x"]

    assert [parameter.grid_value(index) for index in range(parameter.grid_size)] == multiples


# --- flaws --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        (hpogrid("uniforn", low=0, high=1), 'space.x.method: "uniforn" is no method; did you mean uniform?'),
        (hpogrid("uniform", low=0), "space.x.dimension.high: is missing; write low and high"),
        (hpogrid("uniform", low=0, hihg=1), "space.x.dimension.hihg: unknown key; did you mean high?"),
        (hpogrid("uniform", low=5, high=3), "space.x.dimension.low: 5 is above high (3)"),
        (
            hpogrid("uniform", low="a", high=1),
            'space.x.dimension.low: "a" is no number; write one without quotes, such as 0.5',
        ),
        (
            hpogrid("uniformint", low=0.5, high=3),
            "space.x.dimension.low: 0.5 is no whole number; write one, such as 1",
        ),
        (
            hpogrid("loguniform", low=-5, high=-1),
            "space.x.dimension.low: -5 is not above 0, as a log scale needs; "
            "write a bound above 0 (the bound itself, not its exponent)",
        ),
        (
            hpogrid("qloguniform", low=0, high=8, q=2),
            "space.x.dimension.low: 0 is not above 0, as a log scale needs; "
            "write a bound above 0 (the bound itself, not its exponent)",
        ),
        (
            hpogrid("quniform", low=0, high=1, q=0),
            "space.x.dimension.q: 0 is not above 0; write a positive one, such as 0.5",
        ),
        (hpogrid("quniform", low=2, high=1, q=1), "space.x.dimension.low: 2 is above the upper bound (1)"),
        (
            hpogrid("quniform", low=0.1, high=0.2, q=1),
            "space.x.dimension.q: no multiple of 1 is between 0.1 and 0.2; make it smaller or widen the bounds",
        ),
        (
            hpogrid("categorical", categories=5),
            "space.x.dimension.categories: 5 is no list; write one, such as [16, 32]",
        ),
        (
            hpogrid("categorical", categories=[]),
            "space.x.dimension.categories: is empty; write the choices, such as [adam, sgd]",
        ),
        (
            hpogrid("categorical", categories=[1, 1, [2]]),
            "space.x.dimension.categories[2]: [2] is no boolean, number, text or null; "
            "put it in quotes to make it text",
        ),
        (
            hpogrid("normal", mu=10, sigma=0),
            "space.x.dimension.sigma: 0 is not above 0; write how far from mean values usually lie",
        ),
        (
            hpogrid("qnormal", mu=10, sigma=2, q=0),
            "space.x.dimension.q: 0 is not above 0; write a positive step or leave it out",
        ),
        (
            hpogrid("lognormal", mu="?", sigma=1),
            'space.x.dimension.mu: "?" is no number; write one without quotes, such as 0.5',
        ),
        (
            hpogrid("lognormal", mu=0, sigma=1, base=1),
            "space.x.dimension.base: 1 is not above 1; write one, such as 10",
        ),
        (
            hpogrid("lognormal", mu=1000, sigma=1),
            "space.x.dimension.mu: 1000 leads to values beyond what floats can hold "
            "(mean and std are those of the natural logarithm of the value); bring it nearer to 0",
        ),
        (idds("Scalar", init=1), "space.x.bounds: is missing; write the lower and the upper, such as bounds: [0, 5]"),
        (idds("Scalar", bounds=[5, 0]), "space.x.bounds[0]: 5 is above high (0)"),
        (
            idds("Scalar", bounds=[1]),
            "space.x.bounds: [1] is no pair of bounds; write the lower and the upper, such as [0, 5]",
        ),
        (
            idds("Array", bounds=[0, 5], shape=[2]),
            "space.x: is an array, not a number; write one Scalar for each element, with bounds: [0, 5]",
        ),
        (
            idds("Array", bounds=[0, 5]),
            "space.x: is an array, not a number; write one Scalar for each element, with bounds: [0, 5]",
        ),
        (idds("Choice", chioces=[1]), "space.x.params.chioces: unknown key; did you mean choices?"),
        (
            idds("Choice", choices=[1, 2], repetitions=3),
            "space.x.params.repetitions: gives a list of values; write one parameter for each element instead",
        ),
        (
            optuna("FloatDistributino", low=0, high=1) | {"name": "FloaDistribution"},
            'space.x.name: "FloaDistribution" is no distribution; did you mean FloatDistribution?',
        ),
        (
            optuna("FloatDistribution", low=0, high=1, log="yes"),
            'space.x.attributes.log: "yes" is no boolean; write true or false',
        ),
        (
            optuna("IntDistribution", low=0, high=1, step=7),
            "space.x.attributes.step: 7 is larger than the range from 0 to 1; make it smaller",
        ),
        ("unifrom(0, 1)", "space.x: unifrom is no function of Ray Tune that is known here; did you mean uniform?"),
        ("uniform(0)", "space.x: upper of uniform is missing; write uniform(lower, upper)"),
        ("uniform(0, 1, 2)", "space.x: uniform takes no 3 arguments; write uniform(lower, upper)"),
        ("uniform(0, high=1)", "space.x: uniform has no argument high; write uniform(lower, upper)"),
        ("uniform(0, 1, lower=3)", "space.x: lower is given twice; keep one"),
        (
            "uniform(0, 1",
            'space.x: "uniform(0, 1" is no parameter; write [a, b] or {type: …}, '
            'or constants: {x: "uniform(0, 1"} for a fixed value',
        ),
        (
            "uniform(0 1)",
            'space.x: "uniform(0 1)" cannot be read; '
            "write uniform(lower, upper), with numbers, texts and lists as they are",
        ),
        (
            "choice([open('x')])",
            "space.x: \"choice([open('x')])\" cannot be read; "
            "write choice(categories), with numbers, texts and lists as they are",
        ),
        ("uniform('a', 1)", 'space.x: lower: "a" is no number; write one without quotes, such as 0.5'),
        ("uniform(3, 1)", "space.x: 3 is above high (1)"),
        (
            "randint(0.5, 3)",
            "space.x: 0.5 is no whole number; write one, or uniform in place of randint",
        ),
        (
            "randint(3, 3)",
            "space.x: no whole number is from 3 to below 3; the upper bound is left out, so write one above 3",
        ),
        ("randn(10, -2)", "space.x: -2 is not above 0; write how far from mean values usually lie"),
        ("randn('a')", 'space.x: mean: "a" is no number; write one without quotes, such as 0.5'),
        ("qrandn(10, 2)", "space.x: q of qrandn is missing; write qrandn(mean, sd, q)"),
    ],
    ids=str,
)
def test_flaws_are_told_in_the_dialects_own_terms(body: Any, flaw: str) -> None:
    """An error names the place in what was written, and what to write instead."""
    assert flaws_in(body) == [flaw]


def test_all_flaws_of_a_task_are_told() -> None:
    """A space that cannot be converted hides nothing that is wrong elsewhere."""
    space = {"x": hpogrid("uniform", low=0), "y": hpogrid("oops")}

    assert flaws_of({"space": space, "objective": {"metric": "loss"}, "stop": {"points": 0}}) == [
        "space.x.dimension.high: is missing; write low and high",
        'space.y.method: "oops" is no method; known are categorical, uniform, uniformint, quniform, loguniform, '
        "qloguniform, normal, qnormal, lognormal, qlognormal, fixed",
        "stop.points: 0 is too small; the least is 1",
    ]


def test_names_are_checked_in_place() -> None:
    """A name that cannot be a variable is told at the parameter, tuned or fixed."""
    space = {"learning-rate": hpogrid("uniform", low=0, high=1), "n-epochs": hpogrid("fixed", value=3)}

    assert flaws_of({"space": space, **REST}) == [
        'space.learning-rate: "learning-rate" is no name; write learning_rate (letters, digits and _, no digit first)',
        'space.n-epochs: "n-epochs" is no name; write n_epochs (letters, digits and _, no digit first)',
    ]


def test_whole_space_dialects_do_not_mix() -> None:
    """A parameter in another form than the rest is refused where it stands."""
    space = {"x": hpogrid("uniform", low=0, high=1), "y": [1, 2]}

    assert flaws_of({"space": space, **REST}) == [
        "space.y: [1, 2] is no parameter of hpogrid; write {method: …, dimension: {…}}, as for the others"
    ]


# --- recognising --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "name"),
    [
        ({"x": hpogrid("uniform", low=0, high=1)}, "hpogrid"),
        ({"x": hpogrid("oops"), "y": 3}, "hpogrid"),
        ({"x": idds("Choice", choices=[1, 4]), "y": idds("Scalar", bounds=[0, 5])}, "idds"),
        ({"x": optuna("IntDistribution", low=0, high=1)}, "optuna"),
        ({"x": json.dumps(optuna("IntDistribution", low=0, high=1))}, "optuna"),
        ({"x": "uniform(0, 1)", "y": [1, 2]}, "raytune"),
        ({"A": [1, 4], "B": [1, 10]}, None),
        ({"x": "adam"}, None),
        ({"x": "{"}, None),
        ({}, None),
        (None, None),
        ([1], None),
    ],
    ids=str,
)
def test_dialects_are_recognised(space: Any, name: str | None) -> None:
    """By what could not be in our form; bounds as lists never are, for they are choices here."""
    assert dialects.recognise(space) == name


@given(task_documents())
def test_our_own_form_is_no_dialect(document: dict[str, Any]) -> None:
    """A task in our form is left as it is."""
    assert dialects.translate(document) == dialects.Translation(document)
    assert not dialects.is_bare_space(document)


@given(st.dictionaries(st.text(max_size=5), json_values(), max_size=4), st.sampled_from([None, *dialects.DIALECTS]))
def test_any_space_is_converted_or_refused(space: dict[str, Any], dialect: str | None) -> None:
    """Whatever is written, a converter gives an answer or names flaws."""
    with contextlib.suppress(InvalidDocument):
        assert parse_task({"space": space, "dialect": dialect, **REST}).space.names


def test_lists_are_bounds_only_if_so_said() -> None:
    """``[1, 4]`` is a choice of two, but with ``dialect: bayes_opt`` a range."""
    document = {"space": {"A": [1, 4]}, **REST}

    assert parse_task(document).space.to_json() == {"A": one_of(1, 4)}
    assert parse_task({**document, "dialect": "bayes_opt"}).space.to_json() == {"A": real(1.0, 4.0, scale="linear")}


@pytest.mark.parametrize(
    ("dialect", "flaw"),
    [
        ("hpogird", 'dialect: "hpogird" is no dialect; did you mean hpogrid?'),
        (3, "dialect: 3 is no dialect; known are hpogrid, idds, optuna, raytune, bayes_opt"),
    ],
)
def test_unknown_dialects_are_refused(dialect: Any, flaw: str) -> None:
    """With the closest that is known."""
    assert flaws_in([1, 2], dialect=dialect) == [flaw]


def test_a_named_dialect_holds() -> None:
    """What was said counts, not what it looks like."""
    assert flaws_in([1, 2], dialect="idds") == ["space.x: [1, 2] is no mapping; write space.x as keys and values"]


# --- tasks --------------------------------------------------------------------------------------------------

PHPO = {
    "lr": hpogrid("loguniform", low=1e-5, high=0.1, base=10),
    "batch": hpogrid("categorical", categories=[16, 32], grid_search=0),
    "epochs": hpogrid("fixed", value=30),
}


def test_a_task_is_kept_in_our_form() -> None:
    """The canonical document knows no dialects, and reads back the same."""
    task = parse_task({"space": PHPO, "constants": {"seed": 1}, "payload": {"command": "train {epochs} {lr}"}, **REST})

    document = task.to_json()

    assert document["space"] == {"lr": real(1e-5, 0.1, scale="log"), "batch": one_of(16, 32)}
    assert document["constants"] == {"seed": 1, "epochs": 30}
    assert "dialect" not in document
    assert parse_task(document) == task


def test_a_translation_tells_what_it_did() -> None:
    """The document, the dialect and the notes."""
    translation = dialects.translate({"space": PHPO, **REST})

    assert translation.dialect == "hpogrid"
    assert translation.notes == ("lr: base is ignored; low and high are the bounds, whatever the base",)
    assert translation.document["constants"] == {"epochs": 30}


def test_a_constant_is_fixed_once() -> None:
    """A value that the space fixes cannot be given again."""
    assert flaws_of({"space": PHPO, "constants": {"epochs": 3}, **REST}) == [
        "constants.epochs: is also fixed in the space; remove one of the two"
    ]


def test_constants_of_another_shape_are_still_refused() -> None:
    """A flaw of the document outlives the conversion."""
    assert flaws_of({"space": PHPO, "constants": 3, **REST}) == [
        "constants: 3 is no mapping of names to values; write one, such as {epochs: 30}"
    ]


def test_a_space_of_constants_is_refused() -> None:
    """There is nothing to tune."""
    assert flaws_in(hpogrid("fixed", value=3))[0].startswith("space: is empty; name at least one parameter")


def test_calls_mix_with_our_form() -> None:
    """Each parameter may be written as one likes, and conditions lead across."""
    space = {
        "optimizer": "choice(['adam', 'sgd'])",
        "momentum": real(0.5, 0.99, when={"optimizer": "sgd"}),
        "batch": [16, 32],
        "lr": "loguniform(1e-4, 3e-2)",
    }

    task = parse_task({"space": space, **REST})

    assert task.space.names == ("optimizer", "momentum", "batch", "lr")
    assert task.space["momentum"].conditions[0].parent == "optimizer"


@pytest.mark.parametrize(
    "document",
    [
        PHPO,
        {"x": real(0, 1), "y": whole(0, 1)},
        {"A": idds("Scalar", bounds=[0, 5])},
        {"x": optuna("IntDistribution", low=0, high=1)},
        {"x": "uniform(0, 1)", "y": real(0, 1)},
    ],
    ids=["hpogrid", "ours", "idds", "optuna", "raytune"],
)
def test_a_search_space_is_no_task(document: dict[str, Any]) -> None:
    """One flaw says where it belongs, in place of one for each key."""
    assert flaws_of(document) == [
        "this is a search space, not a task; put it under space:, and add objective, stop and a payload"
    ]


@pytest.mark.parametrize(
    "space",
    [
        PHPO,
        {"A": idds("Choice", choices=[1, 4]), "B": idds("Scalar", bounds=[0, 5])},
        {"x": optuna("IntDistribution", low=0, high=1, log=False, step=1), "y": json.dumps(optuna("Uniform"))},
        {"x": "tune.loguniform(1e-4, 3e-2)", "y": [1, 2]},
    ],
    ids=["hpogrid", "idds", "optuna", "raytune"],
)
def test_the_schema_knows_dialects(space: dict[str, Any]) -> None:
    """Editors do not complain about other formats."""
    jsonschema.Draft202012Validator(task_schema()).validate({"dialect": "hpogrid", "space": space, **REST})


# --- commands -----------------------------------------------------------------------------------------------


def test_validate_tells_how_the_space_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The dialect and its notes stand below the summary."""
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"space": PHPO, **REST}))

    assert main(["validate", str(path)]) == 0

    assert capsys.readouterr().out.endswith(
        "\nread as: hpogrid\n  lr: base is ignored; low and high are the bounds, whatever the base\n"
    )


def test_validate_shows_our_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown can be used in place of the file."""
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"space": PHPO, **REST}))

    assert main(["validate", str(path), "--show"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["space"]["lr"] == real(1e-5, 0.1, scale="log")
    assert parse_task(shown) == parse_task({"name": "task", "space": PHPO, **REST})


def test_validate_explains_a_bare_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who hands in a search space alone learns what is missing."""
    path = tmp_path / "space.json"
    path.write_text(json.dumps(PHPO))

    assert main(["validate", str(path)]) == 2

    assert "this is a search space, not a task; put it under space:" in capsys.readouterr().err
