"""Several processes on one PostgreSQL at a time, and what the ways of asks and results cost there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import sqlalchemy as sa

from gridtune_common.client import new_request_id
from gridtune_common.protocol import Advice, Ask, EvaluationState, Heartbeat, Lease, PointState, Report, Reports, Tell
from gridtune_steering.bookkeeping import evaluations, events, points
from gridtune_steering.services import asking, leases, records, results
from gridtune_steering.services.errors import RequestInProgress
from real_service import wait_for
from servers.postgres import Postgres
from service_bench import OPERATOR, Bench

N_WORKERS = 8


@pytest.fixture
def database_kind() -> str:
    """SQLite has one writer at a time."""
    return "postgresql"


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    """Make all calls at the same time; what they return, or raise."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        start.wait()
        try:
            return call()
        except RequestInProgress as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_asks_at_the_same_time_get_different_points(bench: Bench) -> None:
    """Whoever comes second passes over what the first is about to take."""
    task = bench.submit(points=N_WORKERS)
    for number in range(N_WORKERS):
        bench.ask(task, f"w{number}")
    bench.work()

    found = at_once([partial(bench.ask, task, f"w{number}") for number in range(N_WORKERS)])

    assert sorted(lease.point for lease in found if isinstance(lease, Lease)) == list(range(N_WORKERS))


def test_the_same_ask_at_the_same_time_takes_one_point(bench: Bench) -> None:
    """A copy that comes while the first is answered does nothing; sent again, it gets the same answer."""
    task = bench.submit(points=N_WORKERS)
    for number in range(N_WORKERS):
        bench.ask(task, f"w{number}")
    bench.work()
    message = Ask(new_request_id(), "w0")

    found = at_once([lambda: asking.ask(bench.steering, OPERATOR, task, message)] * N_WORKERS)
    again = asking.ask(bench.steering, OPERATOR, task, message)

    assert isinstance(again, Lease)
    assert {lease.evaluation for lease in found if isinstance(lease, Lease)} <= {again.evaluation}
    assert all(isinstance(answer, (Lease, RequestInProgress)) for answer in found)
    assert [e.id for e in records.export(bench.steering, OPERATOR, task).evaluations] == [again.evaluation]


def test_the_same_result_at_the_same_time_counts_once(bench: Bench) -> None:
    """Every copy gets the same answer."""
    task = bench.submit()
    lease = bench.lease(task)
    message = Tell(new_request_id(), lease.epoch, {"loss": 1.0})

    found = at_once([lambda: results.tell(bench.steering, OPERATOR, lease.evaluation, message).accepted] * N_WORKERS)

    exported = records.export(bench.steering, OPERATOR, task)
    assert found == [True] * N_WORKERS
    assert Counter(event.kind for event in exported.events)["point.done"] == 1


def test_a_heartbeat_that_comes_too_late_stands_in_nobodys_way(bench: Bench) -> None:
    """It has locked an evaluation that was lost meanwhile, and does not go on from there to the point."""
    task = bench.submit()
    lease = bench.lease(task)
    heartbeat = Heartbeat(lease.epoch)

    with ThreadPoolExecutor(2) as pool:
        with bench.steering.database.write() as reaper:
            evaluations.find_for_update(reaper, lease.evaluation)
            evaluations.end(reaper, lease.evaluation, state=EvaluationState.LOST, now=bench.clock())
            points.update(reaper, task, lease.point, state=PointState.READY.value)
            verdict = pool.submit(leases.heartbeat, bench.steering, OPERATOR, lease.evaluation, heartbeat)
            outcome = pool.submit(bench.tell, lease)
            wait_for("two that wait", lambda: n_blocked(bench) == 2)

    assert outcome.result().accepted
    assert verdict.result().advice in {Advice.CONTINUE, Advice.STOP}


def n_blocked(bench: Bench) -> int:
    """How many transactions wait for another one."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with bench.steering.database.read() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def test_no_event_is_missed_by_whoever_follows(bench: Bench) -> None:
    """A line that was numbered first and written last comes in its place: a page waits for it."""
    task = bench.submit()
    pages: list[list[str]] = []

    def read() -> None:
        page = records.event_page(bench.steering, OPERATOR, task, kind=None, after=None, limit=100)
        pages.append([event.kind for event in page.items])

    reader = threading.Thread(target=read)
    with bench.steering.database.write() as slow:
        events.add(slow, at=bench.clock(), actor="me", kind="slow", task=task)
        with bench.steering.database.write() as quick:
            events.add(quick, at=bench.clock(), actor="me", kind="quick", task=task)
        reader.start()
        reader.join(0.5)
        waited = reader.is_alive()
    reader.join(10)

    assert waited
    assert pages == [["task.submitted", "slow", "quick"]]


@pytest.fixture
def touched(bench: Bench, postgres: Postgres) -> Iterator[list[int]]:
    """The rows that each transaction has read, of all tables, as PostgreSQL counts them."""
    database = bench.steering.database
    name = database.engine.url.database
    postgres.query(f'ALTER DATABASE "{name}" SET enable_seqscan = off')  # small tables are cheaper without an index
    database.engine.dispose()
    rows: list[int] = []

    def count(connection: sa.Connection) -> int:
        query = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        return int(connection.exec_driver_sql(query).scalar_one() or 0)

    @sa.event.listens_for(database.engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.info["before"] = count(connection)

    @sa.event.listens_for(database.engine, "commit")
    def _commit(connection: sa.Connection) -> None:
        rows.append(count(connection) - connection.info["before"])

    yield rows
    sa.event.remove(database.engine, "begin", _begin)
    sa.event.remove(database.engine, "commit", _commit)


def cost(bench: Bench, task: str, touched: list[int]) -> dict[str, int]:
    """The rows that an ask, a report, a heartbeat, a tell and the host's round read."""
    found: dict[str, int] = {}

    def of(name: str, call: Callable[[], object]) -> object:
        touched.clear()
        answer = call()
        found[name] = sum(touched)
        return answer

    bench.ask(task)
    of("round", bench.work)
    lease = of("ask", lambda: bench.ask(task))
    assert isinstance(lease, Lease)
    reports = Reports(lease.epoch, [Report(1, {"loss": 1.0})])
    of("report", lambda: leases.report(bench.steering, OPERATOR, lease.evaluation, reports))
    of("heartbeat", lambda: leases.heartbeat(bench.steering, OPERATOR, lease.evaluation, Heartbeat(lease.epoch)))
    of("tell", lambda: bench.tell(lease))
    return found


@pytest.mark.slow
def test_no_call_costs_more_for_a_long_history(bench: Bench, touched: list[int]) -> None:
    """Asks, reports, heartbeats, results and the host's rounds read as many rows after 300 results as after few."""
    task = bench.submit(points=1000)
    cost(bench, task, touched)
    early = cost(bench, task, touched)
    for _ in range(300):
        bench.tell(bench.lease(task))

    late = cost(bench, task, touched)

    assert all(late[name] <= early[name] + 4 for name in early), (early, late)
    assert min(early.values()) > 0, early
    assert max(late.values()) < 100, late
