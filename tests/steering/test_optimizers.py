"""The treaty between campaigns and optimizers, held against every row of the table."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

import pytest
from hypothesis import given, settings

from gridtune_common.errors import InvalidDocument
from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_steering import optimizers
from gridtune_steering.optimizers.port import Optimizer
from service_bench import document, loss_of
from strategies import spaces

every_optimizer = pytest.mark.parametrize("name", list(optimizers.OPTIMIZERS))
SPACE = SearchSpace.parse(document()["space"])


def make(name: str, space: SearchSpace = SPACE) -> Optimizer:
    """A fresh optimizer with default options."""
    return optimizers.create(name, space, n_objectives=1, options={})


def drive(optimizer: Optimizer, n: int, start: int = 0) -> list[Parameters]:
    """Suggest, pend and observe *n* points one after the other."""
    points = []
    for number in range(start, start + n):
        point = optimizer.suggest(number, 1000 + number)
        optimizer.pend(number, point)
        optimizer.observe(number, [loss_of(dict(point))])
        points.append(point)
    return points


@every_optimizer
def test_suggestions_lie_in_the_space(name: str) -> None:
    """Types, bounds, grids and conditions hold, before and after there is something to learn from."""
    for point in drive(make(name), 60):
        assert SPACE.explain(point) == ""


@every_optimizer
@settings(max_examples=8, deadline=None)
@given(space=spaces())
def test_any_space_can_be_searched(name: str, space: SearchSpace) -> None:
    """There is no space that can be written down and not be searched."""
    optimizer = make(name, space)
    for number in range(24):
        point = optimizer.suggest(number, number)
        assert space.explain(point) == ""
        optimizer.pend(number, point)
        if number % 3:
            optimizer.observe(number, [float(number % 5)])


@every_optimizer
def test_the_same_calls_give_the_same_points(name: str) -> None:
    """No hidden randomness."""
    assert drive(make(name), 30) == drive(make(name), 30)


@every_optimizer
def test_suggesting_changes_nothing(name: str) -> None:
    """A suggestion that nobody took leaves no trace."""
    quiet, busy = make(name), make(name)
    drive(quiet, 25)
    drive(busy, 25)

    for number in range(100, 110):
        busy.suggest(number, number)

    assert busy.suggest(25, 5) == quiet.suggest(25, 5)


@every_optimizer
def test_failures_and_pending_points_do_no_harm(name: str) -> None:
    """Points without a result are taken in, whatever their number."""
    optimizer = make(name)
    for number in range(40):
        point = optimizer.suggest(number, number)
        optimizer.pend(number, point)
        if number % 2:
            optimizer.observe(number, None)

    assert SPACE.explain(optimizer.suggest(40, 0)) == ""


@every_optimizer
def test_only_unknown_options_are_refused_by_name(name: str) -> None:
    """A mistyped option is an error that lists the known ones."""
    with pytest.raises(InvalidDocument, match=r"algorithm\.options\.nonsense: .*has no such option"):
        optimizers.create(name, SPACE, n_objectives=1, options={"nonsense": 1})


def test_options_have_ranges() -> None:
    """An option out of its range is an error that gives the range."""
    with pytest.raises(InvalidDocument, match=r"algorithm\.options\.gamma: 7 is out of range"):
        optimizers.create("hyperopt/tpe", SPACE, n_objectives=1, options={"gamma": 7})


def test_an_unknown_algorithm_is_refused_with_the_closest_name() -> None:
    """A mistyped algorithm is an error that offers the right one."""
    with pytest.raises(InvalidDocument, match=r"did you mean 'hyperopt/tpe'\?"):
        optimizers.load("hyperopt/tep")


def test_one_objective_optimizers_refuse_more() -> None:
    """TPE cannot be asked for a front."""
    with pytest.raises(InvalidDocument, match="takes one objective"):
        optimizers.create("hyperopt/tpe", SPACE, n_objectives=2, options={})


def test_tpe_learns() -> None:
    """After 60 points, TPE's later half is much better than random's."""
    tpe = [loss_of(dict(point)) for point in drive(make("hyperopt/tpe"), 60)]
    chance = [loss_of(dict(point)) for point in drive(make("random"), 60)]

    assert median(tpe[30:]) < median(chance[30:]) / 2


def test_library_versions_are_known_without_importing_the_library() -> None:
    """The web process names the library's version, and does not pay for its import."""
    code = (
        "import sys; from gridtune_steering import optimizers;"
        "print(optimizers.library_versions('hyperopt/tpe'), 'hyperopt' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "'hyperopt': '" in out
    assert out.strip().endswith("False")
