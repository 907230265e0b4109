"""The simulated experiment: it runs, it is judged by promises that can be broken, and time passes as it should."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed

from benchmarks.simulation.checks import find_flaws  # noqa: E402
from benchmarks.simulation.clock import Agenda, Clock  # noqa: E402
from benchmarks.simulation.experiment import Experiment, experiment  # noqa: E402
from benchmarks.simulation.plan import Plan  # noqa: E402
from benchmarks.simulation.report import report  # noqa: E402

from gridtune_common.protocol import EvaluationState, PointState, TaskState  # noqa: E402
from gridtune_steering.bookkeeping.schema import evaluations, events, points, tasks  # noqa: E402

PLAN = Plan(
    tasks=3,
    workers=12,
    slots=3,
    hours=0.07,
    web=1,
    hosts=2,
    sites=2,
    training=15.0,
    points=8,
    lease=20.0,
    failing=0.1,
    vanishing=0.9,
    cancelled=0.3,
    algorithms=("random", "sobol"),
)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiment]:
    """A small experiment that is over, on SQLite; tests put back what they change."""
    with experiment(PLAN, tmp_path_factory.mktemp("simulation")) as world:
        world.run()
        yield world


def test_all_promises_are_kept(played: Experiment) -> None:
    """Workers fail, vanish and leave, tasks end and are cancelled, and nothing gets lost or is done twice."""
    flaws = find_flaws(played)

    assert {promise: found for promise, found in flaws.items() if found} == {}
    assert len(played.journal.acknowledged) > 20
    assert played.journal.vanished
    assert played.journal.ended
    assert len(played.journal.learning.all) > 20


def test_the_report_has_all_its_tables(played: Experiment) -> None:
    """Each section is there, and says what was seen."""
    text = "\n".join(report(played, find_flaws(played)))

    sections = (
        "What must be true",
        "What an hour costs",
        "How it went",
        "Calls and rounds",
        "Statements",
        "What grows",
    )
    assert [title for title in sections if f"## {title}" not in text] == []
    assert "| every result was learnt | yes |" in text
    assert "| web | tell |" in text
    assert f"* results that were acknowledged: {len(played.journal.acknowledged)}" in text


def test_an_experiment_ages_by_its_own_clock(played: Experiment) -> None:
    """Four minutes pass in a few seconds, and what the service notes lies within them."""
    with played.databases["web"].read() as connection:
        first, last = connection.execute(sa.select(sa.func.min(events.c.at), sa.func.max(events.c.at))).one()

    assert 200 < (last - first).total_seconds() < 300
    assert played.wall_seconds < 200


def forget_a_result(connection: sa.Connection) -> None:
    """A done point is ready again."""
    _change_one(connection, state=PointState.READY.value)


def unlearn_a_result(connection: sa.Connection) -> None:
    """An optimizer has not learnt a result."""
    _change_one(connection, observed=None)


def lose_a_worker(connection: sa.Connection) -> None:
    """Somebody who was there was called lost."""
    done = sa.select(events).where(events.c.kind == "point.done").order_by(events.c.id.desc()).limit(1)
    row = connection.execute(done).one()
    lost = {**row._mapping, "kind": "evaluation.lost"}  # noqa: SLF001 - SQLAlchemy's public name
    del lost["id"]
    connection.execute(sa.insert(events).values(lost))


def do_a_point_twice(connection: sa.Connection) -> None:
    """A second evaluation of a done point has been done, too."""
    row = connection.execute(
        sa.select(evaluations).where(evaluations.c.state == EvaluationState.DONE.value).limit(1)
    ).one()
    again = {**row._mapping, "id": "again", "epoch": row.epoch + 7}  # noqa: SLF001 - SQLAlchemy's public name
    connection.execute(sa.insert(evaluations).values(again))


def keep_running(connection: sa.Connection) -> None:
    """An evaluation of a task that has ended runs."""
    ended = sa.select(tasks.c.id).where(tasks.c.state != TaskState.RUNNING.value)
    row = connection.execute(sa.select(evaluations.c.id).where(evaluations.c.task_id.in_(ended)).limit(1)).one()
    running = {"state": EvaluationState.RUNNING.value}
    connection.execute(sa.update(evaluations).where(evaluations.c.id == row.id).values(running))


PLANTED: dict[Callable[[sa.Connection], None], str] = {
    forget_a_result: "every acknowledged result is in the database",
    unlearn_a_result: "every result was learnt",
    lose_a_worker: "only workers that vanished lost their leases",
    do_a_point_twice: "no point is done twice",
    keep_running: "no evaluation runs on after the end of its task",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_broken_promise_is_found(played: Experiment, plant: Callable[[sa.Connection], None]) -> None:
    """Whatever the service might do wrong, the check that is there for it sees."""
    with played.databases["web"].engine.connect() as connection:  # what is not committed is undone
        plant(connection)
        found = {promise for promise, flaws in find_flaws(played, connection).items() if flaws}

    assert PLANTED[plant] in found


def test_a_point_with_two_workers_is_found(played: Experiment) -> None:
    """What workers see counts, too."""
    played.journal.flaws.append("point 1 of t went to e2; e1 had it")

    flaws = find_flaws(played)

    assert flaws["nothing unexpected was answered; no point had two workers"] == [played.journal.flaws.pop()]


def test_time_runs_while_work_is_done_alone() -> None:
    """Between events the clock stands still; work takes as long as it takes, and is over at once."""
    clock = Clock()
    agenda = Agenda(clock)
    seen: list[float] = []

    def work() -> None:
        with clock.working() as cost:
            sum(range(10_000))
            seen.append(clock.seconds())
        seen.extend([clock.seconds(), cost.wall])

    agenda.at(5.0, work)
    agenda.run(60.0)

    during, afterwards, wall = seen
    assert 5.0 < during <= 5.0 + wall
    assert afterwards == 5.0
    assert clock.seconds() == 60.0


def _change_one(connection: sa.Connection, **values: object) -> None:
    row = connection.execute(sa.select(points).where(points.c.state == PointState.DONE.value).limit(1)).one()
    which = sa.and_(points.c.task_id == row.task_id, points.c.number == row.number)
    connection.execute(sa.update(points).where(which).values(**values))
