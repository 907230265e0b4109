"""Constraints: what they mean, what they refuse, and that nothing but arithmetic gets through."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_common.errors import InvalidDocument
from gridtune_common.space import SearchSpace
from gridtune_steering.optimizers.axes import blend
from gridtune_steering.optimizers.constraints import Constraints
from gridtune_steering.services.errors import Unusable
from service_bench import Bench, on_sqlite
from strategies import spaces

SPACE = SearchSpace.parse(
    {
        "width": {"type": "int", "low": 16, "high": 512, "scale": "log"},
        "layers": {"type": "int", "low": 1, "high": 6},
        "optimizer": ["adam", "sgd"],
        "momentum": {"type": "float", "low": 0.0, "high": 1.0, "when": {"optimizer": "sgd"}},
    }
)


@pytest.mark.parametrize(
    ("expression", "point", "holds"),
    [
        ("width * layers <= 4096", {"width": 512, "layers": 8}, True),
        ("width * layers <= 4096", {"width": 512, "layers": 9}, False),
        ("min(width, 100) >= 2 ** layers", {"width": 64, "layers": 6}, True),
        ("optimizer == 'adam' or layers < 3", {"optimizer": "sgd", "layers": 3}, False),
        ("log2(width) % 1 == 0", {"width": 48}, False),
        ("1 / layers < 1", {"layers": 0}, False),
        ("momentum > 0.5", {"width": 16}, True),
        ("not (optimizer in ['sgd'] and layers > 2)", {"optimizer": "sgd", "layers": 4}, False),
    ],
)
def test_constraints_mean_what_they_say(expression: str, point: dict[str, object], holds: bool) -> None:
    """Arithmetic, comparisons and logic; nothing of a parameter that is not there; no division by zero."""
    assert Constraints([expression]).hold(point) is holds


def test_the_broken_constraint_is_named() -> None:
    """Of several, the first that does not hold."""
    constraints = Constraints(["layers > 0", "width < 100", "layers < 2"])

    assert constraints.broken_by({"width": 200, "layers": 3}) == "width < 100"
    assert constraints.broken_by({"width": 20, "layers": 1}) == ""


@pytest.mark.parametrize(
    "expression",
    ["().__class__.__bases__[0]", "open('/etc/passwd')", "__import__('os')", "width.real", "9 ** 9 ** 9 < width"],
)
def test_nothing_but_arithmetic_gets_through(expression: str) -> None:
    """Attributes, calls of what is not listed and endless powers end in an error, not in an effect."""
    with pytest.raises(InvalidDocument):
        Constraints([expression]).hold({"width": 1})


def test_what_is_neither_true_nor_false_is_refused() -> None:
    """An expression without a comparison is a slip."""
    with pytest.raises(InvalidDocument, match=r"constraints\[0\]: 'width \+ 1' is 3, which is neither true nor false"):
        Constraints(["width + 1"]).hold({"width": 2})


def test_constraints_that_leave_nothing_are_refused_at_once() -> None:
    """A task that could never get a point is not accepted."""
    with pytest.raises(InvalidDocument, match="constraints: of 5000 points drawn at random, none fulfils them"):
        Constraints(["width * layers > 4096"]).check(SPACE)


@pytest.mark.parametrize(
    ("constraints", "flaw"),
    [
        (["layers > 7"], r"constraints: of 5000 points"),
        (["depth > 7"], r"constraints\[0\]: depth is no parameter of the space"),
        (["layers > "], r"constraints\[0\]: .*is no expression"),
        (["layers > kind"], r"constraints\[0\]: 'layers > kind' cannot be evaluated"),
    ],
)
@on_sqlite
def test_a_task_with_impossible_constraints_is_not_accepted(bench: Bench, constraints: list[str], flaw: str) -> None:
    """With the path and the reason."""
    with pytest.raises(Unusable) as caught:
        bench.submit(constraints=constraints)

    assert [re.match(flaw, str(each)) is not None for each in caught.value.flaws] == [True]


@on_sqlite
def test_initial_points_must_fulfil_the_constraints(bench: Bench) -> None:
    """Their place and the constraint are named."""
    point = {"x": 1.0, "rate": 0.01, "drop": 0.1, "width": 64, "layers": 4, "kind": "adam", "batch": 16}

    with pytest.raises(Unusable) as caught:
        bench.submit(constraints=["layers < 4"], initial_points=[point])

    assert [str(flaw) for flaw in caught.value.flaws] == ["initial_points[0]: breaks layers < 4"]


@on_sqlite
def test_points_of_a_constrained_task_fulfil_its_constraints(bench: Bench) -> None:
    """From the task file to the worker."""
    task = bench.submit(points=10, constraints="layers * batch <= 64", algorithm="auto")

    for _ in range(10):
        lease = bench.lease(task)
        assert int(str(lease.parameters["layers"])) * int(str(lease.parameters["batch"])) <= 64
        bench.tell(lease)


@given(space=spaces(), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_a_blend_of_two_points_is_a_point(space: SearchSpace, seed: int, share: float) -> None:
    """Types, grids and conditions hold on the way from one to the other."""
    rng = random.Random(seed)
    one, other = space.sample(rng), space.sample(rng)

    assert space.explain(blend(space, one, other, share, rng)) == ""
