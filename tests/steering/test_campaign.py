"""The campaign: exact budgets, sequential search, stop rules, replay."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtune_common.protocol import Parameters
from gridtune_common.space import SearchSpace
from gridtune_common.taskfile import Task, parse_task
from gridtune_steering import optimizers
from gridtune_steering.campaign import (
    Campaign,
    Credit,
    Failed,
    Finish,
    Known,
    Origin,
    Result,
    StopRule,
    Suggest,
    Tick,
    Told,
    Wish,
)
from gridtune_steering.optimizers.constraints import Constraints
from gridtune_steering.optimizers.port import Optimizer, Problem
from optimizer_rows import QUICK, every_optimizer
from service_bench import document, loss_of

FINITE: dict[str, Any] = {"x": {"type": "int", "low": -5, "high": 5}, "layers": [1, 2, 3, 4], "kind": ["adam", "sgd"]}


def campaign_of(task: Task, seed: int = 7) -> Campaign:
    """A fresh campaign."""
    problem = Problem(space=task.space, budget=task.stop.points, seed=seed)
    options = QUICK.get(task.algorithm.name, task.algorithm.options)
    return campaign_with(optimizers.create(task.algorithm.name, problem, options), task, seed)


def campaign_with(optimizer: Optimizer, task: Task, seed: int = 7) -> Campaign:
    """A fresh campaign on this optimizer."""
    return Campaign(
        objectives=task.objectives,
        stop=task.stop,
        problem=Problem(space=task.space, constraints=Constraints(task.constraints), seed=seed),
        optimizer=optimizer,
        initial_points=task.initial_points,
    )


def task_with(**stop: object) -> Task:
    """A task with these stop rules."""
    return parse_task({**document(), "stop": stop})


@given(points=st.integers(1, 40), seed=st.integers(0, 2**32), credits_=st.lists(st.integers(0, 60), max_size=12))
def test_no_credit_buys_more_than_the_budget(points: int, seed: int, credits_: list[int]) -> None:
    """However many workers wait, exactly the budget of points is made, numbered without a gap."""
    campaign = campaign_of(task_with(points=points), seed)

    actions = [action for workers in [*credits_, points] for action in campaign.handle(Credit(workers))]

    assert [action.number for action in actions if isinstance(action, Suggest)] == list(range(points))


@given(seed=st.integers(0, 2**32), workers=st.integers(1, 8))
def test_simulated_workers_finish_every_task(seed: int, workers: int) -> None:
    """With any number of workers, in any order of results and failures, the task ends when its last point has."""
    rng = random.Random(seed)
    campaign = campaign_of(task_with(points=20), seed)
    running: list[Suggest] = []
    n_ended = 0
    finishes: list[Finish] = []

    while not finishes:
        wanted = workers - len(running)
        running += [action for action in campaign.handle(Credit(wanted)) if isinstance(action, Suggest)]
        point = running.pop(rng.randrange(len(running)))
        n_ended += 1
        loss = loss_of(dict(point.parameters))
        result = Failed(point.number) if rng.random() < 0.2 else Told(point.number, {"loss": loss})
        finishes = [action for action in campaign.handle(result) if isinstance(action, Finish)]

    assert (n_ended, running) == (20, [])


def test_a_suggestion_knows_how_much_it_was_informed_by() -> None:
    """A point made after two results says so."""
    campaign = campaign_of(task_with(points=5))
    campaign.handle(Credit(2))
    campaign.handle(Told(0, {"loss": 1.0}))
    campaign.handle(Told(1, {"loss": 2.0}))

    [suggestion] = campaign.handle(Credit(1))

    assert isinstance(suggestion, Suggest)
    assert suggestion.informed_by == 2


def test_the_target_ends_the_task() -> None:
    """A value at the target is good enough."""
    campaign = campaign_of(task_with(target=0.5))
    campaign.handle(Credit(2))

    assert campaign.handle(Told(0, {"loss": 0.6})) == []
    [finish] = campaign.handle(Told(1, {"loss": 0.5}))

    assert finish == Finish(StopRule.TARGET, "target reached: loss is 0.5")


def test_a_target_is_from_below_when_maximising() -> None:
    """When more is better, the target is reached from below."""
    task = parse_task({**document(), "objective": {"metric": "loss", "goal": "maximize"}, "stop": {"target": 0.9}})
    campaign = campaign_of(task)
    campaign.handle(Credit(2))

    assert campaign.handle(Told(0, {"loss": 0.8})) == []
    assert campaign.handle(Told(1, {"loss": 0.95})) == [Finish(StopRule.TARGET, "target reached: loss is 0.95")]


def test_patience_counts_points_since_the_best() -> None:
    """Failures and worse points use patience up, a better one restores it."""
    campaign = campaign_of(task_with(patience=2))
    campaign.handle(Credit(5))

    for result in (Told(0, {"loss": 5.0}), Told(1, {"loss": 6.0}), Told(2, {"loss": 4.0}), Failed(3)):
        assert campaign.handle(result) == []
    assert campaign.handle(Told(4, {"loss": 4.0})) == [
        Finish(StopRule.PATIENCE, "patience: no better loss in 2 points")
    ]


def test_patience_of_several_objectives_counts_points_since_the_last_new_one_on_the_front() -> None:
    """A point that is better in any objective restores it; one that another equals or dominates does not."""
    objective = [{"metric": "loss", "goal": "minimize"}, {"metric": "score", "goal": "maximize"}]
    task = parse_task({**document(), "objective": objective, "stop": {"patience": 2}})
    campaign = campaign_with(Recorder(Problem(space=task.space), {}), task)
    campaign.handle(Credit(6))

    for number, (loss, score) in enumerate([(5.0, 1.0), (5.0, 1.0), (6.0, 2.0), (7.0, 1.5)]):
        assert campaign.handle(Told(number, {"loss": loss, "score": score})) == []
    assert campaign.handle(Told(4, {"loss": 5.5, "score": 1.0})) == [
        Finish(StopRule.PATIENCE, "patience: no new point on the front in 2 points")
    ]


def test_wall_time_ends_the_task_once() -> None:
    """The limit is reported when it is passed, and not again."""
    campaign = campaign_of(task_with(wall_time="1m"))

    assert campaign.handle(Tick(59.0)) == []
    assert campaign.handle(Tick(60.0)) == [Finish(StopRule.WALL_TIME, "wall time of 60 s is over")]
    assert campaign.handle(Tick(61.0)) == []
    assert campaign.handle(Credit(1)) == []


def test_the_last_point_ends_the_task() -> None:
    """Not when it is made, but when it has ended."""
    campaign = campaign_of(task_with(points=1))
    campaign.handle(Credit(1))

    assert campaign.handle(Credit(1)) == []
    assert campaign.handle(Told(0, {"loss": 1.0})) == [Finish(StopRule.POINTS, "all 1 points have ended")]


class Recorder(Optimizer):
    """An optimizer that notes what it is told."""

    def __init__(self, problem: Problem, options: dict[str, Any]) -> None:
        self._space = problem.space
        self.calls: list[Any] = []

    def suggest(self, number: int, seed: int) -> Parameters:
        """Any point."""
        return self._space.sample(random.Random(seed))

    def pend(self, number: int, parameters: Parameters) -> None:
        """Remember."""
        self.calls.append(("pend", number))

    def observe(self, number: int, losses: Sequence[float] | None) -> None:
        """Remember."""
        self.calls.append(("observe", number, losses))


def test_a_rebuilt_optimizer_sees_the_calls_of_the_first() -> None:
    """Points and results in the order in which they came, for libraries to which that makes a difference."""
    task = task_with(points=30)
    first, second = Recorder(Problem(space=task.space), {}), Recorder(Problem(space=task.space), {})
    campaign = campaign_with(first, task)
    points, results = drive(campaign, steps=12, seed=3)

    rebuilt = campaign_with(second, task)
    rebuilt.restore(points, results)

    assert second.calls == first.calls


class Astray(Recorder):
    """An optimizer that proposes what the space does not hold."""

    def suggest(self, number: int, seed: int) -> Parameters:
        """Out of bounds."""
        return {**self._space.sample(random.Random(seed)), "layers": 99}


def test_a_point_outside_of_the_space_is_the_optimizers_mistake() -> None:
    """Nothing leaves that is not of the declared type and inside the declared bounds."""
    task = task_with(points=3)
    astray = Astray(Problem(space=task.space), {})
    campaign = campaign_with(astray, task)

    with pytest.raises(ValueError, match="outside of the space: layers"):
        campaign.handle(Credit(1))


def drive(campaign: Campaign, *, steps: int, seed: int) -> tuple[list[Suggest], list[Told | Failed]]:
    """Let three simulated workers end *steps* points in any order; returns all points and results."""
    rng = random.Random(seed)
    points: list[Suggest] = []
    results: list[Told | Failed] = []
    running: list[Suggest] = []
    for _ in range(steps):
        new = [action for action in campaign.handle(Credit(3 - len(running))) if isinstance(action, Suggest)]
        points += new
        running += new
        point = running.pop(rng.randrange(len(running)))
        loss = loss_of(dict(point.parameters))
        results.append(Failed(point.number) if rng.random() < 0.2 else Told(point.number, {"loss": loss}))
        campaign.handle(results[-1])
    return points, results


@every_optimizer
@pytest.mark.parametrize("cut", [1, 7, 25])
def test_a_rebuilt_campaign_goes_on_as_the_first_would_have(name: str, cut: int) -> None:
    """History alone decides what comes next, with results out of order and points still open."""
    more: dict[str, Any] = {"space": FINITE} if optimizers.load(name).finite_spaces_only else {}
    task = parse_task(document(points=40, algorithm=name, **more))
    first, second = campaign_of(task), campaign_of(task)

    second.restore(*drive(first, steps=cut, seed=cut))

    assert second.handle(Credit(4)) == first.handle(Credit(4))


def test_the_users_own_points_come_first_and_are_learnt_from() -> None:
    """In their order; what follows is as if the optimizer had proposed them."""
    first: dict[str, Any] = {"x": 1.0, "rate": 0.01, "drop": 0.1, "width": 64, "layers": 1, "kind": "adam", "batch": 16}
    second = {**first, "x": 2.0}
    task = parse_task({**document(points=30), "initial_points": [first, second]})
    recorder = Recorder(Problem(space=task.space), {})
    campaign = campaign_with(recorder, task)

    suggestions = [action for action in campaign.handle(Credit(3)) if isinstance(action, Suggest)]
    campaign.handle(Told(1, {"loss": 0.5}))

    assert [suggestion.parameters for suggestion in suggestions[:2]] == [first, second]
    assert task.space.contains(suggestions[2].parameters)
    assert recorder.calls == [("pend", 0), ("pend", 1), ("pend", 2), ("observe", 1, [0.5])]


POINT: Parameters = {"x": 1.0, "rate": 0.01, "drop": 0.1, "width": 64, "layers": 1, "kind": "adam", "batch": 16}


def test_wishes_go_ahead_of_the_optimizer_and_after_the_initial_points() -> None:
    """In the order in which they came, each once however often it is handed in while it waits."""
    task = parse_task({**document(points=30), "initial_points": [POINT]})
    recorder = Recorder(Problem(space=task.space), {})
    campaign = campaign_with(recorder, task)
    wishes = [Wish(str(number), {**POINT, "x": 2.0 + number}) for number in range(2)]
    for wish in [*wishes, *wishes]:
        assert campaign.handle(wish) == []

    made = [action for action in campaign.handle(Credit(4)) if isinstance(action, Suggest)]

    assert made[:3] == [
        Suggest(0, POINT, 0, Origin.INITIAL),
        Suggest(1, wishes[0].parameters, 0, Origin.USER, "0"),
        Suggest(2, wishes[1].parameters, 0, Origin.USER, "1"),
    ]
    assert made[3].origin is Origin.ALGORITHM
    assert recorder.calls == [("pend", number) for number in range(4)]


def test_a_wish_takes_a_place_in_the_budget() -> None:
    """A wish beyond the budget waits."""
    campaign = campaign_of(task_with(points=2))
    campaign.handle(Wish("w", POINT))
    campaign.handle(Credit(2))
    campaign.handle(Wish("late", {**POINT, "x": 3.0}))

    assert campaign.handle(Credit(1)) == []
    assert campaign.next_number == 2


def test_known_results_are_learnt_and_count_for_no_rule() -> None:
    """Neither target nor patience nor budget nor best takes note; the optimizer and the next point do."""
    task = task_with(points=3, target=0.5, patience=1)
    recorder = Recorder(Problem(space=task.space), {})
    campaign = campaign_with(recorder, task)

    for number in range(1, 4):
        assert campaign.handle(Known(-number, {**POINT, "x": float(number)}, {"loss": 0.1})) == []
    made = campaign.handle(Credit(5))

    assert [action.informed_by for action in made if isinstance(action, Suggest)] == [3, 3, 3]
    assert recorder.calls[:4] == [("pend", -1), ("observe", -1, [0.1]), ("pend", -2), ("observe", -2, [0.1])]
    assert campaign.handle(Told(0, {"loss": 0.6})) == []


def test_the_goal_turns_known_results_too() -> None:
    """What is to be maximised reaches the optimizer as a loss."""
    task = parse_task({**document(), "objective": {"metric": "loss", "goal": "maximize"}})
    recorder = Recorder(Problem(space=task.space), {})

    campaign_with(recorder, task).handle(Known(-1, POINT, {"loss": 2.0}))

    assert recorder.calls[-1] == ("observe", -1, [-2.0])


def test_no_known_point_is_proposed_again() -> None:
    """In a space of six points of which four are known, the two others are made, and then the search is over."""
    task = parse_task({**document(), "space": {"layers": {"type": "int", "low": 1, "high": 6}}, "stop": {"points": 9}})
    campaign = campaign_of(task)
    for layers in range(1, 5):
        campaign.handle(Known(-layers, {"layers": layers}, {"loss": 1.0}))

    made = [action for action in campaign.handle(Credit(6)) if isinstance(action, Suggest)]
    campaign.handle(Told(0, {"loss": 1.0}))

    assert sorted(str(action.parameters["layers"]) for action in made) == ["5", "6"]
    assert [action.rule for action in campaign.handle(Told(1, {"loss": 1.0})) if isinstance(action, Finish)] == [
        StopRule.SPACE
    ]


def test_a_wish_that_waits_keeps_an_exhausted_search_open() -> None:
    """The user may want to measure again what is known from elsewhere."""
    task = parse_task({**document(), "space": {"layers": {"type": "int", "low": 1, "high": 2}}, "stop": {"points": 9}})
    campaign = campaign_of(task)
    campaign.handle(Wish("w", {"layers": 1}))

    assert campaign.handle(Known(-1, {"layers": 1}, {"loss": 1.0})) == []
    assert campaign.handle(Known(-2, {"layers": 2}, {"loss": 1.0})) == []
    assert campaign.handle(Credit(1)) == [Suggest(0, {"layers": 1}, 2, Origin.USER, "w")]


def drive_with_user(
    campaign: Campaign, space: SearchSpace, *, steps: int, seed: int
) -> tuple[list[Suggest], list[Result]]:
    """Like `drive`, while the user hands in results from elsewhere and points of their own."""
    rng = random.Random(seed)
    points: list[Suggest] = []
    results: list[Result] = []
    running: list[Suggest] = []
    for step in range(steps):
        if step % 3 == 0:
            point = space.sample(rng)
            results.append(Known(-1 - step // 3, point, {"loss": loss_of(dict(point))}))
            campaign.handle(results[-1])
        if step % 4 == 1:
            campaign.handle(Wish(str(step), space.sample(rng)))
        new = [action for action in campaign.handle(Credit(3 - len(running))) if isinstance(action, Suggest)]
        points += new
        running += new
        ended = running.pop(rng.randrange(len(running)))
        results.append(Told(ended.number, {"loss": loss_of(dict(ended.parameters))}))
        campaign.handle(results[-1])
    return points, results


@every_optimizer
def test_a_search_with_the_users_own_points_is_rebuilt_as_it_was(name: str) -> None:
    """Every library takes wishes and results from elsewhere, and goes on after them as if nothing had happened."""
    more: dict[str, Any] = {"space": FINITE} if optimizers.load(name).finite_spaces_only else {}
    task = parse_task(document(points=60, algorithm=name, **more))
    first, second = campaign_of(task), campaign_of(task)

    points, results = drive_with_user(first, task.space, steps=14, seed=1)
    second.restore(points, results)

    assert [point.origin for point in points].count(Origin.USER) == 4
    assert second.handle(Credit(4)) == first.handle(Credit(4))


def test_another_seed_gives_other_points() -> None:
    """The seed of the task decides."""
    task = task_with(points=5)

    assert campaign_of(task, 1).handle(Credit(5)) != campaign_of(task, 2).handle(Credit(5))
