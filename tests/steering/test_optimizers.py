"""The treaty between campaigns and optimizers, held against every row of the table."""

from __future__ import annotations

import math
import subprocess
import sys
from statistics import median

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gridtune_common.errors import InvalidDocument
from gridtune_common.protocol import Parameters
from gridtune_common.space import Normal, SearchSpace
from gridtune_common.taskfile import parse_task
from gridtune_steering import optimizers
from gridtune_steering.campaign import Action, Campaign, Credit, Finish, StopRule, Suggest, Told
from gridtune_steering.optimizers.axes import Real, axis_of
from gridtune_steering.optimizers.port import Optimizer
from service_bench import document, loss_of
from strategies import normals, spaces

every_optimizer = pytest.mark.parametrize("name", list(optimizers.OPTIMIZERS))
SPACE = SearchSpace.parse(document()["space"])
FINITE = SearchSpace.parse(
    {
        "kind": ["adam", "sgd"],
        "momentum": {"type": "float", "low": 0.5, "high": 0.9, "step": 0.1, "when": {"kind": "sgd"}},
        "layers": {"type": "int", "low": 1, "high": 6},
        "drop": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.05},
        "batch": {"type": "ordinal", "choices": [16, 32, 64]},
    }
)


def make(name: str, space: SearchSpace | None = None) -> Optimizer:
    """A fresh optimizer with default options, for a space that it can search."""
    space = space or space_for(name)
    return optimizers.create(name, space, n_objectives=1, options={}, seed=7)


def space_for(name: str) -> SearchSpace:
    """A space of all kinds that the optimizer called *name* can search."""
    return FINITE if optimizers.load(name).finite_spaces_only else SPACE


def loss(point: Parameters) -> float:
    """A bowl, also where there is no x."""
    return loss_of({"x": 0.0, **point})


def drive(optimizer: Optimizer, n: int, start: int = 0) -> list[Parameters]:
    """Suggest, pend and observe *n* points one after the other."""
    points = []
    for number in range(start, start + n):
        point = optimizer.suggest(number, 1000 + number)
        optimizer.pend(number, point)
        optimizer.observe(number, [loss(point)])
        points.append(point)
    return points


@every_optimizer
def test_suggestions_lie_in_the_space(name: str) -> None:
    """Types, bounds, grids and conditions hold, before and after there is something to learn from."""
    for point in drive(make(name), 60):
        assert space_for(name).explain(point) == ""


@every_optimizer
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(space=spaces())
def test_any_space_can_be_searched(name: str, space: SearchSpace) -> None:
    """There is no space that can be written down and not be searched."""
    assume(space.is_finite or not optimizers.load(name).finite_spaces_only)
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

    assert space_for(name).explain(optimizer.suggest(40, 0)) == ""


@every_optimizer
def test_sixty_four_pending_points_are_all_different(name: str) -> None:
    """Workers that ask at the same time get different points, though nothing new is known between them."""
    campaign, space = campaign_on(name, FINITE)
    for number in range(40):
        campaign.handle(Credit(1))
        campaign.handle(Told(number, {"loss": float(number % 7)}))

    points = [action.parameters for action in campaign.handle(Credit(64)) if isinstance(action, Suggest)]

    assert len({repr(sorted(point.items())) for point in points}) == 64
    assert all(space.contains(point) for point in points)


@every_optimizer
def test_a_finite_space_is_tried_once_and_then_over(name: str) -> None:
    """Every point of a small space is made, none twice, and the task ends with that reason."""
    small = SearchSpace.parse({"a": [1, 2, 3], "b": {"type": "int", "low": 0, "high": 3, "when": {"a": [1, 2]}}})
    campaign, _ = campaign_on(name, small)
    points = []
    actions: list[Action] = []
    while not actions:
        [suggestion] = campaign.handle(Credit(1))
        assert isinstance(suggestion, Suggest)
        points.append(suggestion.parameters)
        actions = campaign.handle(Told(suggestion.number, {"loss": 1.0}))

    assert len({repr(sorted(point.items())) for point in points}) == len(points) == small.size == 9
    assert actions == [Finish(StopRule.SPACE, "all 9 points of the space have been tried")]


def campaign_on(name: str, space: SearchSpace) -> tuple[Campaign, SearchSpace]:
    """A campaign without a budget."""
    task = parse_task({**document(), "space": space.to_json(), "stop": {"target": -1.0}})
    optimizer = make(name, task.space)
    campaign = Campaign(objectives=task.objectives, stop=task.stop, space=task.space, seed=7, optimizer=optimizer)
    return campaign, task.space


def test_grid_walks_through_the_whole_space_in_order() -> None:
    """Exhaustive, each point once, the last parameter fastest, conditions kept."""
    space = SearchSpace.parse(
        {"b": {"type": "int", "low": 0, "high": 1, "when": {"a": 2}}, "a": [1, 2], "c": [True, None]}
    )
    grid = make("grid", space)

    points = [grid.suggest(number, 0) for number in range(6)]

    assert points == [
        {"a": 1, "c": True},
        {"a": 1, "c": None},
        {"b": 0, "a": 2, "c": True},
        {"b": 0, "a": 2, "c": None},
        {"b": 1, "a": 2, "c": True},
        {"b": 1, "a": 2, "c": None},
    ]
    assert space.size == 6


def test_grid_refuses_what_it_cannot_walk_through() -> None:
    """A continuous parameter is named, with what to do about it."""
    with pytest.raises(
        InvalidDocument, match=r"space\.x: has endless values, which grid cannot try all; give it a step"
    ):
        make("grid", SPACE)


def test_grid_walks_through_a_normal_with_ends() -> None:
    """A distribution is finite with low, high and step, which is what grid says otherwise."""
    grid = make("grid", SearchSpace((Normal("x", 0, 1, low=-1, high=1, step=0.5),)))

    assert [grid.suggest(number, 0)["x"] for number in range(5)] == [-1.0, -0.5, 0.0, 0.5, 1.0]
    with pytest.raises(InvalidDocument, match=r"space\.x: .*; give it low, high and step"):
        make("grid", SearchSpace((Normal("x", 0, 1, low=-1, step=0.5),)))


def test_sobol_fills_the_space_more_evenly_than_chance() -> None:
    """Of 64 points, each of 64 slices of each parameter holds exactly one."""
    space = SearchSpace.parse({name: {"type": "float", "low": 0.0, "high": 64.0} for name in ("a", "b", "c")})
    sobol = make("sobol", space)

    points = [sobol.suggest(number, 0) for number in range(64)]

    for name in space.names:
        assert sorted(int(point[name]) for point in points) == list(range(64))  # type: ignore[arg-type]  # floats


def shape(values: list[float], parameter: Normal) -> float:
    """The largest distance between the values and the distribution that they should be from (Kolmogorov, Smirnov)."""
    shares = sorted(parameter.rank(value) for value in values)
    return max(max(share - i / len(shares), (i + 1) / len(shares) - share) for i, share in enumerate(shares))


@pytest.mark.parametrize(
    "parameter",
    [
        Normal("x", 5, 2),
        Normal("x", -3, 1, log=True),
        Normal("x", 0, 1, low=1, high=3),
    ],
    ids=["normal", "lognormal", "truncated"],
)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random", {}),
        ("sobol", {}),
        ("hyperopt/tpe", {"n_startup_jobs": 300}),
        ("optuna/tpe", {"n_startup_trials": 300}),
    ],
)
def test_what_is_not_learned_is_drawn_as_declared(name: str, options: dict[str, int], parameter: Normal) -> None:
    """Before there is something to learn from, values come from the distribution of their parameter."""
    optimizer = optimizers.create(name, SearchSpace((parameter,)), n_objectives=1, options=options, seed=7)

    values = [float(optimizer.suggest(number, 1000 + number)["x"]) for number in range(256)]  # type: ignore[arg-type]

    assert shape(values, parameter) < 1.95 / math.sqrt(256)  # by chance larger once in 1,000


@given(parameter=normals(), u=st.floats(0, 1))
def test_a_coordinate_is_a_share_of_the_distribution(parameter: Normal, u: float) -> None:
    """The axis of a normal is its distribution, and what rounding puts beyond its ends is at its ends."""
    axis = axis_of(parameter)

    assert isinstance(axis, Real)
    assert axis.from_unit(u) == axis.decode(u) == parameter.quantile(u)
    assert axis.decode(axis.encode(axis.decode(u))) == pytest.approx(axis.decode(u), rel=1e-6, abs=1e-6 * parameter.std)
    assert [axis.decode(beyond) for beyond in (-1e-9, 1 + 1e-9)] == [parameter.quantile(0), parameter.quantile(1)]


@pytest.mark.parametrize("name", ["hyperopt/tpe", "optuna/tpe"])
def test_tpe_learns_beyond_a_wrong_guess(name: str) -> None:
    """Where the best lies two standard deviations from the mean, TPE's later half is nearer to it than chance."""
    space = SearchSpace((Normal("x", 0, 1),))

    tpe, chance = distances(make(name, space), 2.0), distances(make("random", space), 2.0)

    assert median(tpe[30:]) < 0.8 * median(chance[30:])


def distances(optimizer: Optimizer, best: float) -> list[float]:
    """How far from the best value of x each of 60 points is, where that is what the optimizer is told."""
    found = []
    for number in range(60):
        point = optimizer.suggest(number, 1000 + number)
        optimizer.pend(number, point)
        found.append(abs(float(point["x"]) - best))  # type: ignore[arg-type]  # a float
        optimizer.observe(number, [found[-1]])
    return found


def test_sobol_differs_by_the_tasks_seed() -> None:
    """Scrambled, and repeatable."""
    one, same, other = (
        optimizers.create("sobol", SPACE, n_objectives=1, options={}, seed=seed).suggest(100, 0) for seed in (1, 1, 2)
    )

    assert one == same != other


@every_optimizer
def test_only_unknown_options_are_refused_by_name(name: str) -> None:
    """A mistyped option is an error that lists the known ones."""
    with pytest.raises(InvalidDocument, match=r"algorithm\.options\.nonsense: .*has no such option"):
        optimizers.create(name, space_for(name), n_objectives=1, options={"nonsense": 1}, seed=7)


def test_options_have_ranges() -> None:
    """An option out of its range is an error that gives the range."""
    with pytest.raises(InvalidDocument, match=r"algorithm\.options\.gamma: 7 is out of range"):
        optimizers.create("hyperopt/tpe", SPACE, n_objectives=1, options={"gamma": 7}, seed=7)


def test_an_unknown_algorithm_is_refused_with_the_closest_name() -> None:
    """A mistyped algorithm is an error that offers the right one."""
    with pytest.raises(InvalidDocument, match=r"did you mean 'hyperopt/tpe'\?"):
        optimizers.load("hyperopt/tep")


def test_one_objective_optimizers_refuse_more() -> None:
    """TPE cannot be asked for a front."""
    with pytest.raises(InvalidDocument, match="takes one objective"):
        optimizers.create("hyperopt/tpe", SPACE, n_objectives=2, options={}, seed=7)


@pytest.mark.parametrize("name", ["hyperopt/tpe", "optuna/tpe"])
def test_tpe_learns(name: str) -> None:
    """After 60 points, TPE's later half is much better than random's."""
    tpe = [loss(point) for point in drive(make(name), 60)]
    chance = [loss(point) for point in drive(make("random"), 60)]

    assert median(tpe[30:]) < median(chance[30:]) / 2


def test_several_objectives_are_searched_for_their_front() -> None:
    """Of two objectives that pull apart, TPE finds points between that chance seldom finds."""
    optimizer = optimizers.create("optuna/tpe", SPACE, n_objectives=2, options={}, seed=7)
    near = 0
    for number in range(60):
        point = optimizer.suggest(number, number)
        optimizer.pend(number, point)
        x, layers = float(point["x"] or 0), float(point["layers"] or 0)
        optimizer.observe(number, [(x - 1) ** 2 + layers, (x + 1) ** 2 + layers])
        near += number >= 30 and abs(x) <= 1.5 and layers <= 2

    assert near > 10  # chance: 3


def test_library_versions_are_known_without_importing_the_library() -> None:
    """The web process names the library's version, and does not pay for its import."""
    code = (
        "import sys; from gridtune_steering import optimizers;"
        "print(optimizers.library_versions('hyperopt/tpe'), 'hyperopt' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "'hyperopt': '" in out
    assert out.strip().endswith("False")
