"""What operators see of the service in numbers: counted where it happens, or read from the database now and then."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from api_bench import Api, api_on
from gridtune_common.errors import ConfigurationError
from gridtune_common.protocol import FailureCause
from gridtune_steering.bookkeeping import census as counts
from gridtune_steering.bookkeeping.schema import objects
from gridtune_steering.metrics import exposition, files, instruments, serving, state
from gridtune_steering.metrics.state import State
from gridtune_steering.services.census import Census
from gridtune_steering.services.leases import reap
from service_bench import Bench, on_sqlite

SECRET = "a-secret-of-the-monitoring"


def read(api: Api) -> dict[str, float]:
    """The metrics as operators get them: ``name{label=value,…}`` and its number."""
    answer = api.call("GET", "/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    return numbers(answer.get_data(as_text=True))


def numbers(text: str) -> dict[str, float]:
    """Metrics by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


@pytest.fixture
def growth(api: Api) -> Callable[[str], float]:
    """How much a number has grown since the test began: what is counted is counted for the whole process."""
    before = read(api)

    def grown(name: str) -> float:
        return read(api).get(name, 0.0) - before.get(name, 0.0)

    return grown


@on_sqlite
def test_metrics_are_for_operators_and_monitoring(bench: Bench) -> None:
    """An operator's token opens them, and the secret of the settings, which opens nothing else."""
    with api_on(bench, metrics_token=SECRET) as api:
        ann = api.token("user", user="ann")
        tried = {"operator": None, "monitoring": SECRET, "user": ann, "guess": SECRET[:-1], "nobody": ""}

        answers = {who: api.call("GET", "/metrics", secret=secret).status_code for who, secret in tried.items()}
        at_root = api.client.get("/metrics", headers={"Authorization": f"Bearer {SECRET}"})

        assert answers == {"operator": 200, "monitoring": 200, "user": 403, "guess": 401, "nobody": 401}
        assert at_root.status_code == 200
        assert api.call("GET", "/tasks", secret=SECRET).status_code == 401


@on_sqlite
def test_without_a_secret_none_is_guessed(api: Api) -> None:
    """An empty setting lets nobody in."""
    answers = [api.client.get("/metrics", headers={"Authorization": f"Bearer{word}"}) for word in ("", " ", "  x")]

    assert [answer.status_code for answer in answers] == [401, 401, 401]


@on_sqlite
def test_requests_are_counted_by_route_and_status(api: Api, growth: Callable[[str], float]) -> None:
    """Never by path: there is no end of ids and guesses."""
    for path in ("/tasks/some-task-or-other", "/tasks/another", "/no-such-route"):
        api.call("GET", path)

    assert growth("gridtune_http_request_duration_seconds_count{route=get_task,status=404}") == 2
    assert growth("gridtune_http_request_duration_seconds_count{route=none,status=404}") == 1
    assert not [name for name in read(api) if "some-task" in name or "no-such" in name]
    assert read(api)["gridtune_http_requests_in_progress{}"] == 1  # this one


@on_sqlite
def test_the_life_of_evaluations_is_counted(api: Api, bench: Bench, growth: Callable[[str], float]) -> None:
    """Asks with a point and without, results, failures by cause, points given back, and lost leases by site."""
    task = api.submit()
    api.ask(task)
    bench.work()
    api.ask(task)
    leases = [bench.lease(task, f"w{number}", site="cern") for number in range(4)]

    message = {"request_id": "r1", "epoch": leases[0].epoch, "metrics": {"loss": 1.0}}
    for _ in range(2):
        api.call("POST", f"/evaluations/{leases[0].evaluation}/tell", message)
    bench.fail(leases[1], FailureCause.OUT_OF_MEMORY)
    bench.release(leases[2])
    bench.clock.advance(120)
    reap(bench.steering)

    assert growth("gridtune_asks_total{answer=nothing}") == 1
    assert growth("gridtune_asks_total{answer=point}") == 1
    assert growth("gridtune_tells_total{accepted=yes}") == 1
    assert growth("gridtune_failures_total{cause=out_of_memory}") == 1
    assert growth("gridtune_releases_total{cause=walltime}") == 1
    assert growth("gridtune_leases_lost_total{site=cern}") == 1


@on_sqlite
def test_the_work_of_hosts_is_counted(api: Api, bench: Bench, growth: Callable[[str], float]) -> None:
    """Tasks taken over, and how long each algorithm thinks; looking around in vain is no thinking."""
    task = api.submit(algorithm="sobol")
    bench.tell(bench.lease(task))
    bench.work()
    thought = growth("gridtune_optimizer_cycle_seconds_count{algorithm=sobol}")
    bench.work()

    assert growth("gridtune_task_claims_total{}") == 1
    assert thought >= 2
    assert growth("gridtune_optimizer_cycle_seconds_count{algorithm=sobol}") == thought


def test_connections_in_use_are_counted(bench: Bench) -> None:
    """Those that are taken from the pool, until they are given back."""
    instruments.watch_pool(bench.steering.database.engine)
    before = numbers(exposition.text([]).decode())["gridtune_database_connections_in_use{}"]

    with bench.steering.database.read():
        during = numbers(exposition.text([]).decode())["gridtune_database_connections_in_use{}"]
    after = numbers(exposition.text([]).decode())["gridtune_database_connections_in_use{}"]

    assert (during - before, after - before) == (1, 0)


def test_sites_are_no_endless_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents name their sites as they like; the hundredth and first is one of the others."""
    monkeypatch.setattr(instruments, "_sites", set())

    labels = {instruments.site_label(f"site {number}") for number in range(1000)}

    assert len(labels) == 101
    assert "(other)" in labels


def test_the_largest_sites_are_told_by_name() -> None:
    """All others are one, and nobody is left out of the sum."""
    running = {f"site {number}": number for number in range(1, 151)}
    told = State(
        tasks={},
        running=running,
        waiting=0,
        ready=0,
        oldest_ready_seconds=0.0,
        oldest_unlearnt_seconds=0.0,
        stored_bytes=0,
    )

    found = numbers(exposition.text(state.families(told)).decode())

    sites = {name: n for name, n in found.items() if name.startswith("gridtune_running_evaluations")}
    assert (len(sites), sum(sites.values())) == (101, sum(running.values()))
    assert sites["gridtune_running_evaluations{site=site 150}"] == 150
    assert sites["gridtune_running_evaluations{site=(other)}"] == sum(range(1, 51))


def test_the_state_of_the_service_is_told(bench: Bench) -> None:
    """On both databases: tasks, evaluations, waiting workers, points and results that wait, bytes that are stored."""
    steering, first = bench.steering, bench.submit()
    running = [bench.lease(first, "a", site="cern"), bench.lease(first, "b", site="cern"), bench.lease(first, "c")]
    bench.submit()
    bench.ask(first, "d")
    bench.ask(first, "e")
    bench.work()
    bench.clock.advance(4)
    bench.tell(running[0])
    bench.clock.advance(3)
    with steering.database.write() as connection:
        values = {name: "" for name in ("owner", "evaluation_id", "key", "upload", "sha256", "format")}
        more = {"id": "o", "kind": "log", "task_id": first, "point": 0, "part_size": 1, "interrupted": False}
        connection.execute(objects.insert().values(**values, **more, size=1234, created_at=bench.clock()))

    found = Census(steering).take()

    assert found.tasks == {"running": 2, "paused": 0, "finished": 0, "cancelled": 0}
    assert found.running == {"cern": 1, "": 1}
    assert (found.ready, found.oldest_ready_seconds) == (2, 7.0)
    assert found.oldest_unlearnt_seconds == 3.0
    assert found.waiting == 1  # the one that has told; the others' asks are over
    assert found.stored_bytes == 1234


def test_a_point_that_came_back_waits_since_then(bench: Bench) -> None:
    """Not since it was made: it was trained meanwhile."""
    lease = bench.lease(bench.submit())
    bench.clock.advance(50)
    bench.release(lease)
    bench.clock.advance(2)

    assert Census(bench.steering).take().oldest_ready_seconds == 2.0


def test_points_of_paused_tasks_wait_for_nobody(bench: Bench) -> None:
    """Their age would tell operators of a trouble that is none."""
    task = bench.submit()
    lease = bench.lease(task)
    bench.release(lease)
    with bench.steering.database.write() as connection:
        connection.exec_driver_sql("UPDATE tasks SET state = 'paused'")

    found = Census(bench.steering).take()

    assert (found.ready, found.oldest_ready_seconds) == (0, 0.0)


def remembering(name: str, query: Callable[..., Any], asked: list[str]) -> Callable[..., Any]:
    """A query that leaves its name behind each time."""

    def ask(connection: Connection) -> Any:
        asked.append(name)
        return query(connection)

    return ask


@on_sqlite
def test_the_database_is_asked_seldom(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again within five seconds gets the same answer; the bytes are counted once a minute."""
    asked: list[str] = []
    for name in ("tasks_by_state", "stored_bytes"):
        monkeypatch.setattr(counts, name, remembering(name, getattr(counts, name), asked))
    census = Census(bench.steering)

    for seconds in (0, 4, 2, 60):
        bench.clock.advance(seconds)
        census.take()

    assert asked == ["tasks_by_state", "stored_bytes", "tasks_by_state", "tasks_by_state", "stored_bytes"]


@on_sqlite
def test_metrics_outlive_the_database(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was counted is told when it is away, above all then."""

    def fail(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("the database is away"))

    assert read(api)["gridtune_database_up{}"] == 1
    monkeypatch.setattr(Census, "take", fail)
    found = read(api)

    assert found["gridtune_database_up{}"] == 0
    assert "gridtune_http_requests_in_progress{}" in found
    assert "gridtune_ready_points{}" not in found


COUNT = """
from gridtune_steering.metrics import exposition, instruments
instruments.TASK_CLAIMS.inc(2)
instruments.REQUESTS_IN_PROGRESS.inc(3)
print(exposition.text([]).decode())
"""


def test_processes_count_together(tmp_path: Path) -> None:
    """Each tells the numbers of all. Of those that have ended what they counted stays, not what they had on hand."""
    environment = {**os.environ, files.VARIABLE: str(files.shared_folder(tmp_path))}
    command = [sys.executable, "-c", COUNT]

    told = [numbers(subprocess.check_output(command, env=environment, text=True)) for _ in range(3)]

    assert [found["gridtune_task_claims_total{}"] for found in told] == [2, 4, 6]
    assert [found["gridtune_http_requests_in_progress{}"] for found in told] == [3, 3, 3]


def test_a_service_begins_to_count_anew(tmp_path: Path) -> None:
    """What its predecessor counted is gone; who runs beside it, on the same data folder, goes on counting."""
    folder = files.shared_folder(tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (folder / f"counter_{ended.pid}.db").touch()
    (folder / f"counter_{os.getpid()}.db").touch()

    assert [path.name for path in files.shared_folder(tmp_path).iterdir()] == [f"counter_{os.getpid()}.db"]


def test_space_for_counting_is_taken_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up later takes no process down."""
    folder = files.shared_folder(tmp_path)
    monkeypatch.setenv(files.VARIABLE, str(folder))

    files.reserve()

    found = {path.name.rpartition("_")[0]: path.stat().st_blocks * 512 for path in folder.iterdir()}
    assert set(found) == {"counter", "histogram", "gauge_livesum"}
    assert min(found.values()) >= 2**20


@on_sqlite
def test_an_ask_of_a_host_that_is_set_aside_is_told_apart(
    api: Api, bench: Bench, growth: Callable[[str], float]
) -> None:
    """It is not for want of points that it gets none."""
    task = api.submit()
    bench.lease(task, "good", host="good")
    for word in "abcd":
        bench.fail(bench.lease(task, "w", host="bad"), text=f"{word} is broken")

    api.ask(task, host="bad")

    assert growth("gridtune_asks_total{answer=set_aside}") == 1


@on_sqlite
def test_the_census_survives_a_clock_that_is_put_back(bench: Bench) -> None:
    """An answer from the future is no answer."""
    census = Census(bench.steering)
    census.take()
    bench.clock.advance(-3600)
    bench.submit()

    assert census.take().tasks["running"] == 1


def test_what_is_counted_elsewhere_is_served_on_a_port(tmp_path: Path) -> None:
    """By processes that share a folder; on this machine anybody may look if there is no secret."""
    code = "from gridtune_steering.metrics import instruments; instruments.ASKS.labels('point').inc(3)"
    environment = {**os.environ, files.VARIABLE: str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)

    with serving.served(tmp_path, "127.0.0.1", 0, "") as url:
        answer = requests.get(url, timeout=5)
        elsewhere = requests.get(url.replace("/metrics", "/other"), timeout=5)

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert numbers(answer.text)["gridtune_asks_total{answer=point}"] == 6
    assert elsewhere.status_code == 404


@pytest.mark.parametrize(
    ("address", "secret", "words"),
    [
        ("0.0.0.0", "", "METRICS_TOKEN"),  # noqa: S104 - it is refused
        ("::", "", "METRICS_TOKEN"),
        ("203.0.113.9", SECRET, "cannot listen on 203.0.113.9"),
        ("localhost", SECRET, "is no IP address"),
    ],
)
def test_metrics_are_not_served_where_they_should_not_be(address: str, secret: str, words: str, tmp_path: Path) -> None:
    """Beyond this machine only with a secret, and only where there is an address to listen on."""
    with pytest.raises(ConfigurationError, match=words), serving.served(tmp_path, address, 0, secret):
        pass


def test_a_secret_is_asked_of_all(tmp_path: Path) -> None:
    """Also on this machine, where others may have an account, and where a proxy may let others in."""
    with serving.served(tmp_path, "127.0.0.1", 0, SECRET) as url:
        headers: tuple[dict[str, str], ...] = (
            {},
            {"Authorization": f"Bearer {SECRET[:-1]}"},
            {"Authorization": f"bearer {SECRET}"},
        )
        answers = [requests.get(url, headers=header, timeout=5).status_code for header in headers]

    assert answers == [401, 401, 200]
