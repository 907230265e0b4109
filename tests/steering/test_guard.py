"""How a web process guards itself: rates, crowds, pauses that are not in step, and answers that are made small."""

from __future__ import annotations

import gzip
import threading
import time
from collections import Counter
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.test import TestResponse

from api_bench import Api, api_on
from gridtune_common.client import new_request_id
from gridtune_steering.api.guard import Crowd, RateLimit, Turns, queues
from gridtune_steering.api.later import retry_after
from gridtune_steering.api.routing import ROUTES
from gridtune_steering.services import tasks
from gridtune_steering.services.errors import TooBusy, TooManyRequests
from real_service import wait_for
from service_bench import Bench, on_sqlite


class Seconds:
    """A clock to turn by hand."""

    now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def n_admitted(limit: RateLimit, token: str, n: int) -> int:
    """How many of some requests at once get in."""
    admitted = 0
    for _ in range(n):
        try:
            limit.take(token)
        except TooManyRequests:
            continue
        admitted += 1
    return admitted


def test_a_bucket_holds_a_burst_and_fills_again() -> None:
    """What was not used is there later, but never more than a burst; others have buckets of their own."""
    clock = Seconds()
    limit = RateLimit(10.0, 30.0, clock)

    at_once = n_admitted(limit, "a", 100)
    clock.now += 1.0
    later = n_admitted(limit, "a", 100)
    clock.now += 1000.0
    rested = n_admitted(limit, "a", 100)

    assert (at_once, later, rested) == (30, 10, 30)
    assert n_admitted(limit, "b", 100) == 30


def test_who_is_early_hears_when_to_come() -> None:
    """As long as it takes until the bucket holds a request again."""
    clock = Seconds()
    limit = RateLimit(0.25, 1.0, clock)
    limit.take("a")
    clock.now += 1.0

    with pytest.raises(TooManyRequests) as refusal:
        limit.take("a")

    assert refusal.value.seconds == pytest.approx(3.0)


def test_those_who_are_sent_away_come_one_after_the_other() -> None:
    """Thousands that ask at once are spread over seconds, as many as can be taken; nobody is told a time far away."""
    clock = Seconds()
    turns = Turns(10.0, clock)

    told = [turns.next(2.0) for _ in range(1000)]
    clock.now += 60.0

    assert told[:3] == pytest.approx([2.0, 2.1, 2.2])
    assert told[100] == pytest.approx(12.0)
    assert told[-1] == pytest.approx(20.0)
    assert turns.next(2.0) == pytest.approx(2.0)


def test_a_crowd_behind_one_token_is_spread() -> None:
    """As many agents as can be taken come back each second."""
    limit = RateLimit(100.0, 10.0, Seconds())

    told = [seconds_until(limit, "a") for _ in range(1010)]

    assert told[:10] == 10 * [0.0]
    assert told[-1] == pytest.approx(10.0, abs=0.1)


def seconds_until(limit: RateLimit, token: str) -> float:
    """When a request may come: 0 for at once."""
    try:
        limit.take(token)
    except TooManyRequests as refusal:
        return refusal.seconds
    return 0.0


def test_no_rate_is_no_limit() -> None:
    """Zero switches it off."""
    assert n_admitted(RateLimit(0.0, 1.0, Seconds()), "a", 1000) == 1000


def test_tokens_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that is full is as good as none; one that is not is kept."""
    monkeypatch.setattr("gridtune_steering.api.guard._MANY_TOKENS", 10)
    clock = Seconds()
    limit = RateLimit(1.0, 5.0, clock)
    for number in range(9):
        limit.take(str(number))
    clock.now += 2.0
    n_admitted(limit, "greedy", 100)

    n_admitted(limit, "new", 1)

    assert n_admitted(limit, "greedy", 100) == 0
    assert limit.n_remembered == 2


def test_who_waits_for_what_may_never_come_is_in_nobodys_way() -> None:
    """Of 64 threads 24 are for workers that will have a point, eight for those that may; the latter come back later."""
    queue, standby = queues(64, lambda: 0.0)

    n_seated = [sum(places.seats.enter() for _ in range(64)) for places in (queue, standby)]

    assert n_seated == [24, 8]
    assert (queue.turns.next(queue.earliest), standby.turns.next(standby.earliest)) == (2.0, 5.0)
    assert all(places.seats.enter() for places in queues(2))


def n_let_in(crowd: Crowd, n: int, *, urgent: bool) -> int:
    """How many of some requests find a place."""
    for number in range(n):
        try:
            crowd.enter(urgent=urgent)
        except TooBusy:
            return number
    return n


def test_the_urgent_get_the_last_places() -> None:
    """Of 64 threads eight are theirs, and four are for saying no."""
    crowd = Crowd(64)

    found = [n_let_in(crowd, 64, urgent=urgent) for urgent in (False, True)]
    crowd.leave()

    assert found == [52, 8]
    assert n_let_in(crowd, 64, urgent=True) == 1


def test_a_process_of_two_threads_uses_both() -> None:
    """It has none to spare, and would do nothing but say no."""
    crowd = Crowd(2)

    crowd.enter(urgent=False)
    crowd.enter(urgent=False)


@on_sqlite
def test_a_token_that_asks_too_often_is_told_to_come_later(bench: Bench) -> None:
    """With a problem document and a time; what agents have to say is never refused, and other tokens are served."""
    with api_on(bench, rate_limit=0.001, rate_burst=4.0) as api:
        task = api.submit()
        secret, other = api.token("task", task=task), api.token("task", task=task)
        beat = {"epoch": 1}

        asks = Counter(api.ask(task, secret=secret).status_code for _ in range(6))
        refused = api.ask(task, secret=secret)
        beats = {api.call("POST", "/evaluations/e/heartbeat", beat, secret=secret).status_code for _ in range(9)}

        assert asks == {204: 4, 429: 2}
        assert (refused.mimetype, refused.get_json()["type"]) == (
            "application/problem+json",
            "urn:gridtune:problem:TooManyRequests",
        )
        assert int(refused.headers["Retry-After"]) > 900
        assert beats == {404}
        assert api.ask(task, secret=other).status_code == 204


@on_sqlite
def test_a_crowded_process_says_so_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings are sent away while it is full of them; signs of life are let in, and so is monitoring."""
    inside, go_on = threading.Semaphore(0), threading.Event()
    listing = tasks.listing

    def slow_listing(*arguments: object, **more: object) -> object:
        inside.release()
        go_on.wait(30)
        return listing(*arguments, **more)  # type: ignore[arg-type]  # whatever they are

    with api_on(bench, threads=16) as api, ThreadPoolExecutor(13) as pool:
        monkeypatch.setattr(tasks, "listing", slow_listing)
        application = api.client.application
        slow = [pool.submit(Api(application.test_client(), api.secret).call, "GET", "/tasks") for _ in range(13)]
        for _ in slow:
            assert inside.acquire(timeout=30)

        refused = api.call("GET", "/tasks")
        let_in = [api.call("POST", "/evaluations/e/heartbeat", {"epoch": 1}), api.call("GET", "/metrics")]
        go_on.set()
        served = {future.result().status_code for future in slow}

        assert (refused.status_code, refused.get_json()["type"]) == (503, "urn:gridtune:problem:TooBusy")
        assert 1 <= int(refused.headers["Retry-After"]) <= 3
        assert [answer.status_code for answer in let_in] == [404, 200]
        assert served == {200}
        assert wait_for("room", lambda: api.call("GET", "/tasks").status_code == 200)


@on_sqlite
def test_idle_workers_crowd_nobody_out(bench: Bench) -> None:
    """Beside workers that wait for a task whose points are all made, one of another task waits, and has its point."""
    with api_on(bench, threads=8) as api, ThreadPoolExecutor(3) as pool:
        full, other = api.submit(points=1), api.submit(points=5)
        bench.lease(full)
        application = api.client.application

        def ask(task: str, worker: str, wait: float) -> TestResponse:
            return Api(application.test_client(), api.secret).ask(task, worker, wait=wait)

        idle = [pool.submit(ask, full, f"idle{n}", 8.0) for n in range(2)]
        sent_away, seated = futures.wait(idle, return_when=futures.FIRST_COMPLETED)
        wanted = pool.submit(ask, other, "wanted", 8.0)
        while not wanted.done():
            bench.work()
            time.sleep(0.05)

        assert wanted.result().status_code == 200
        assert [future.done() for future in seated] == [False]
        assert int(sent_away.pop().result().headers["Retry-After"]) >= 5


def test_the_urgent_routes_are_few() -> None:
    """Who marks another one as urgent takes something from heartbeats and results."""
    assert {entry.name for entry in ROUTES if entry.urgent} == {
        *("heartbeat", "report", "signs", "tell", "fail", "release", "send_output"),
        *("begin_upload", "get_upload", "commit_upload"),
        *("healthz", "readyz", "metrics"),
    }


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 2), (0.3, 3), (1.0, 3), (30.0, 47)])
def test_pauses_differ(seconds: float, most: int) -> None:
    """So that agents that were sent away together do not come back together; none is told to be early."""
    told = {int(retry_after(seconds)) for _ in range(300)}

    assert len(told) > 1
    assert seconds <= min(told)
    assert max(told) < most


@on_sqlite
def test_asks_without_a_point_come_back_at_different_times(api: Api) -> None:
    """Each answer names its own time."""
    task = api.submit()

    assert len({api.ask(task, request_id=new_request_id()).headers["Retry-After"] for _ in range(40)}) > 1


@on_sqlite
def test_large_answers_are_compressed_for_those_who_can_read_it(api: Api, bench: Bench) -> None:
    """Documents and tables alike; to others they are sent as they are, and caches can tell the two apart."""
    task = api.submit(points=40)
    for _ in range(20):
        bench.tell(bench.lease(task))
    for path in (f"/tasks/{task}/export", f"/tasks/{task}/export?format=csv", f"/tasks/{task}/points", "/metrics"):
        packed = api.call("GET", path, headers={"Accept-Encoding": "br, gzip"})
        refused = [api.call("GET", path, headers={"Accept-Encoding": word}) for word in ("identity", "gzip;q=0", "")]

        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(packed.data) == int(packed.headers["Content-Length"]) < len(refused[0].data) / 2
        assert all("Content-Encoding" not in answer.headers for answer in refused)
        assert {answer.headers["Vary"] for answer in (packed, *refused)} == {"Accept-Encoding"}
        if path != "/metrics":
            assert gzip.decompress(packed.data) == refused[0].data


@on_sqlite
@pytest.mark.parametrize("path", ["/healthz", "/whoami", "/tasks", "/tasks/nope", "/agent/gridtune-agent.pyz"])
def test_small_and_packed_answers_are_sent_as_they_are(api: Api, path: str) -> None:
    """There is nothing to gain."""
    answer = api.call("GET", path, headers={"Accept-Encoding": "gzip"})

    assert "Content-Encoding" not in answer.headers
