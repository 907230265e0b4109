"""The treaty between campaigns and optimizers, held against every row of the table."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import cloudpickle
import numpy
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gridtune_common.errors import InvalidDocument
from gridtune_common.protocol import Parameters
from gridtune_common.space import Normal, SearchSpace
from gridtune_common.taskfile import parse_task
from gridtune_steering import optimizers
from gridtune_steering.campaign import Action, Campaign, Credit, Finish, Note, StopRule, Suggest, Told
from gridtune_steering.optimizers.axes import Real, axis_of
from gridtune_steering.optimizers.constraints import Constraints
from gridtune_steering.optimizers.port import Optimizer, Problem
from optimizer_rows import QUICK, every_optimizer
from service_bench import document, loss_of
from strategies import normals, spaces

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
CONSTRAINTS = ["layers * batch <= 128", "drop < 0.4", "momentum >= 0.6"]


def make(name: str, space: SearchSpace | None = None, **more: Any) -> Optimizer:
    """A fresh optimizer that thinks quickly, for a space that it can search."""
    return optimizers.create(name, Problem(space=space or space_for(name), seed=7, **more), QUICK.get(name, {}))


def space_for(name: str) -> SearchSpace:
    """A space of all kinds that the optimizer called *name* can search."""
    return FINITE if optimizers.load(name).finite_spaces_only else SPACE


def loss(point: Parameters) -> float:
    """A bowl, also where there is no x."""
    return loss_of({"x": 0.0, **point})


def drive(optimizer: Optimizer, n: int) -> list[Parameters]:
    """Suggest, pend and observe *n* points one after the other."""
    points = []
    for number in range(n):
        point = optimizer.suggest(number, 1000 + number)
        optimizer.pend(number, point)
        optimizer.observe(number, [loss(point)])
        points.append(point)
    return points


def campaign_on(name: str, space: SearchSpace, constraints: Sequence[str] = ()) -> Campaign:
    """A campaign without a budget."""
    task = parse_task({**document(), "space": space.to_json(), "stop": {"target": -1.0}})
    problem = Problem(space=task.space, constraints=Constraints(constraints), seed=7)
    optimizer = optimizers.create(name, problem, QUICK.get(name, {}))
    return Campaign(objectives=task.objectives, stop=task.stop, problem=problem, optimizer=optimizer)


def credit(campaign: Campaign, workers: int) -> list[Suggest]:
    """The points that so many workers get."""
    return [action for action in campaign.handle(Credit(workers)) if isinstance(action, Suggest)]


def different(points: Iterable[Suggest]) -> int:
    """How many different points there are."""
    return len({repr(sorted(point.parameters.items())) for point in points})


@every_optimizer
class TestEveryOptimizer:
    """What a campaign may expect of any optimizer."""

    def test_suggestions_lie_in_the_space(self, name: str) -> None:
        """Types, bounds, grids and conditions hold, before and after there is something to learn from."""
        for point in drive(make(name), 60):
            assert space_for(name).explain(point) == ""
            assert json.loads(json.dumps(point, allow_nan=False)) == point

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
    @given(space=spaces())
    def test_any_space_can_be_searched(self, name: str, space: SearchSpace) -> None:
        """There is no space that can be written down and not be searched."""
        assume(space.is_finite or not optimizers.load(name).finite_spaces_only)
        optimizer = make(name, space)
        for number in range(24):
            point = optimizer.suggest(number, number)
            assert space.explain(point) == ""
            optimizer.pend(number, point)
            if number % 3:
                optimizer.observe(number, [float(number % 5)])

    def test_the_same_calls_give_the_same_points(self, name: str) -> None:
        """No hidden randomness, and none that others can disturb."""
        first = drive(make(name), 30)
        random.seed(1)
        numpy.random.seed(1)

        assert drive(make(name), 30) == first

    def test_global_generators_are_left_alone(self, name: str) -> None:
        """Two tasks in one process do not disturb each other."""
        random.seed(1)
        numpy.random.seed(1)
        drive(make(name), 14)

        drawn = random.random(), numpy.random.random()

        random.seed(1)
        numpy.random.seed(1)
        assert drawn == (random.random(), numpy.random.random())

    def test_suggestions_leave_no_trace_unless_it_says_so(self, name: str) -> None:
        """A suggestion that nobody took changes nothing, or a rebuild must ask again."""
        if optimizers.load(name).asking_matters:
            return
        quiet, busy = make(name), make(name)
        drive(quiet, 25)
        drive(busy, 25)

        for seed in range(10):
            busy.suggest(25, 100 + seed)

        assert busy.suggest(25, 5) == quiet.suggest(25, 5)

    def test_failures_and_pending_points_do_no_harm(self, name: str) -> None:
        """Points without a result are taken in, whatever their number."""
        optimizer = make(name)
        for number in range(40):
            point = optimizer.suggest(number, number)
            optimizer.pend(number, point)
            if number % 2:
                optimizer.observe(number, None)

        assert space_for(name).explain(optimizer.suggest(40, 0)) == ""

    def test_absurd_losses_do_no_harm(self, name: str) -> None:
        """A diverged training that reports an enormous loss does not end the search."""
        optimizer = make(name)
        for number in range(30):
            point = optimizer.suggest(number, number)
            optimizer.pend(number, point)
            optimizer.observe(number, [1e300 if number % 4 == 0 else -1e300 if number == 17 else loss(point)])

        assert space_for(name).explain(optimizer.suggest(30, 0)) == ""

    def test_points_of_others_are_learnt_from(self, name: str) -> None:
        """Points that it did not propose, and results from elsewhere, are taken in."""
        space, rng = space_for(name), random.Random(3)
        optimizer = make(name)
        for number in [-1, -2, -3, *range(20)]:
            if number >= 0 and number % 2:
                optimizer.suggest(number, number)
            point = space.sample(rng)
            optimizer.pend(number, point)
            optimizer.observe(number, [loss(point)])

        assert space.explain(optimizer.suggest(20, 0)) == ""

    def test_several_objectives_are_searched_or_refused(self, name: str) -> None:
        """Whoever says that it handles two losses takes them, failures among them; the others say no at once."""
        if not optimizers.load(name).several_objectives:
            with pytest.raises(InvalidDocument, match="takes one objective"):
                make(name, n_objectives=2)
            return
        optimizer, space = make(name, n_objectives=2), space_for(name)
        for number in range(30):
            point = optimizer.suggest(number, number)
            assert space.explain(point) == ""
            optimizer.pend(number, point)
            optimizer.observe(number, None if number % 7 == 3 else [loss(point), -loss(point) + number % 3])

    def test_sixty_four_pending_points_are_all_different(self, name: str) -> None:
        """Workers that ask at the same time get different points, though nothing new is known between them."""
        campaign = campaign_on(name, FINITE)
        known = []
        for number in range(40):
            known += credit(campaign, 1)
            campaign.handle(Told(number, {"loss": float(number % 7)}))

        points = credit(campaign, 64)

        assert len(points) == 64
        assert different([*known, *points]) == 104
        assert all(FINITE.contains(point.parameters) for point in points)

    def test_constraints_hold_for_every_point(self, name: str) -> None:
        """Alone and among many workers, no point breaks a constraint, and there is still one for everybody."""
        campaign = campaign_on(name, FINITE, CONSTRAINTS)
        points = []
        for number in range(30):
            points += credit(campaign, 1)
            campaign.handle(Told(number, {"loss": loss(points[-1].parameters)}))
        points += credit(campaign, 16)

        assert len(points) == different(points) == 46
        for point in points:
            assert Constraints(CONSTRAINTS).broken_by(point.parameters) == ""

    def test_a_finite_space_is_tried_once_and_then_over(self, name: str) -> None:
        """Every point of a small space is made, none twice, and the task ends with that reason."""
        small = SearchSpace.parse({"a": [1, 2, 3], "b": {"type": "int", "low": 0, "high": 3, "when": {"a": [1, 2]}}})
        campaign = campaign_on(name, small)
        points = []
        actions: list[Action] = []
        while not actions:
            [suggestion] = credit(campaign, 1)
            points.append(suggestion)
            actions = campaign.handle(Told(suggestion.number, {"loss": 1.0}))

        assert different(points) == len(points) == small.size == 9
        assert actions == [Finish(StopRule.SPACE, "all 9 points of the space have been tried")]

    def test_a_constrained_finite_space_comes_to_its_end_too(self, name: str) -> None:
        """When no further point fulfils the constraints, the task ends and says so."""
        small = SearchSpace.parse({"a": [1, 2, 3], "b": {"type": "int", "low": 0, "high": 3}})
        campaign = campaign_on(name, small, ["a + b == 4"])
        for number in range(3):
            [suggestion] = credit(campaign, 1)
            campaign.handle(Told(suggestion.number, {"loss": float(number)}))

        *_, end = campaign.handle(Credit(1))

        reason = "no further point of the space fulfils the constraints: 3 have been tried"
        assert end == Finish(StopRule.SPACE, reason)

    def test_a_snapshot_goes_on_as_the_original_would(self, name: str) -> None:
        """Where rebuilding means asking again, the state can be kept instead."""
        if not optimizers.load(name).asking_matters:
            return
        original = make(name)
        drive(original, 25)

        copy = cloudpickle.loads(cloudpickle.dumps(original))

        assert copy.suggest(25, 5) == original.suggest(25, 5)


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
    optimizer = optimizers.create(name, Problem(space=SearchSpace((parameter,)), seed=7), options)

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
        optimizers.create("sobol", Problem(space=SPACE, seed=seed), {}).suggest(100, 0) for seed in (1, 1, 2)
    )

    assert one == same != other


@every_optimizer
def test_only_unknown_options_are_refused_by_name(name: str) -> None:
    """A mistyped option is an error that lists the known ones."""
    with pytest.raises(InvalidDocument, match=r"algorithm\.options\.nonsense: .*has no such option"):
        optimizers.create(name, Problem(space=space_for(name)), {"nonsense": 1})


def test_options_have_ranges() -> None:
    """An option out of its range is an error that gives the range."""
    with pytest.raises(InvalidDocument, match=r"algorithm\.options\.gamma: 7 is out of range"):
        optimizers.create("hyperopt/tpe", Problem(space=SPACE), {"gamma": 7})


def test_an_unknown_algorithm_is_refused_with_the_closest_name() -> None:
    """A mistyped algorithm is an error that offers the right one."""
    with pytest.raises(InvalidDocument, match=r"did you mean 'hyperopt/tpe'\?"):
        optimizers.load("hyperopt/tep")


@pytest.mark.parametrize(
    "name",
    [
        "auto",
        "gp",
        "hyperopt/anneal",
        "hyperopt/tpe",
        "nevergrad/OnePlusOne",
        "optuna/tpe",
        pytest.param("skopt/et", marks=pytest.mark.slow),
        pytest.param("skopt/gbrt", marks=pytest.mark.slow),
        pytest.param("skopt/gp", marks=pytest.mark.slow),
        pytest.param("skopt/rf", marks=pytest.mark.slow),
    ],
)
def test_models_learn(name: str) -> None:
    """After 60 points, the later half is much better than random's."""
    found = [loss(point) for point in drive(make(name), 60)]
    chance = [loss(point) for point in drive(make("random"), 60)]

    assert median(found[30:]) < median(chance[30:]) / 2


@pytest.mark.parametrize("name", ["auto", "optuna/tpe"])
def test_several_objectives_are_searched_for_their_front(name: str) -> None:
    """Of two objectives that pull apart, TPE finds points between that chance seldom finds."""
    optimizer = make(name, n_objectives=2)
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


def test_auto_says_what_it_does_and_why() -> None:
    """One note when it begins and one when it changes, and none again after a rebuild."""
    task = parse_task({**document(), "stop": {"points": 30}})
    problem = Problem(space=task.space, budget=30, seed=7)

    def fresh() -> Campaign:
        optimizer = optimizers.create("auto", problem, {})
        return Campaign(objectives=task.objectives, stop=task.stop, problem=problem, optimizer=optimizer)

    campaign = fresh()
    notes: list[str] = []
    points: list[Suggest] = []
    results: list[Told] = []
    for number in range(12):
        actions = campaign.handle(Credit(1))
        notes += [action.text for action in actions if isinstance(action, Note)]
        points += [action for action in actions if isinstance(action, Suggest)]
        results.append(Told(number, {"loss": loss(points[-1].parameters)}))
        campaign.handle(results[-1])
    rebuilt = fresh()
    rebuilt.restore(points, results)

    assert [note.partition(":")[0] for note in notes] == ["Sobol sequence", "gp"]
    assert [type(action) for action in rebuilt.handle(Credit(1))] == [Suggest]


def test_auto_starts_with_what_the_user_knows() -> None:
    """Results from elsewhere make a start of its own unnecessary."""
    auto = make("auto", budget=50)
    rng = random.Random(1)
    for number in range(1, 21):
        point = SPACE.sample(rng)
        auto.pend(-number, point)
        auto.observe(-number, [loss(point)])

    assert auto.rationale.startswith("gp")


def test_a_gaussian_process_goes_on_beyond_what_it_can_see() -> None:
    """With a history far beyond its limit, what it proposes is among the best known."""
    process = optimizers.create("gp", Problem(space=SPACE, seed=7), {})
    rng = random.Random(5)
    known = [SPACE.sample(rng) for _ in range(300)]
    for number, point in enumerate(known):
        process.pend(number, point)
        process.observe(number, [loss(point)])

    proposals = [loss(process.suggest(300, seed)) for seed in range(5)]

    assert median(proposals) < sorted(map(loss, known))[15]


PLANE = SearchSpace.parse({name: {"type": "float", "low": 0.0, "high": 1.0} for name in ("a", "b")})


@pytest.mark.parametrize("name", ["Cobyla", "NGOpt", "MetaModel", "ChainNaiveTBPSAPowell"])
def test_methods_that_must_be_told_before_they_are_asked_keep_nobody_waiting(name: str) -> None:
    """Many workers, refused proposals and failed points: each gets an answer, where the library alone would wait."""
    optimizer = make(f"nevergrad/{name}", PLANE, budget=50)
    for number in range(24):
        optimizer.suggest(number, 100 + number)
        point = optimizer.suggest(number, number)
        optimizer.pend(number, point)
        if number >= 4:
            told = number - 4
            optimizer.observe(told, None if told % 5 == 2 else [(float(str(point["a"])) - 0.3) ** 2])

    assert PLANE.explain(optimizer.suggest(24, 0)) == ""


def test_threads_of_a_library_do_not_keep_the_process_alive() -> None:
    """A host that is told to stop can stop."""
    code = """
from gridtune_common.space import SearchSpace
from gridtune_steering import optimizers
from gridtune_steering.optimizers.port import Problem
space = SearchSpace.parse({"a": {"type": "float", "low": 0, "high": 1}, "b": {"type": "float", "low": 0, "high": 1}})
optimizer = optimizers.create("nevergrad/Cobyla", Problem(space=space), {})
optimizer.suggest(0, 0)
print("asked")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)

    assert run.stdout == "asked\n"
