"""What operators see of a service of several processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from gridtune_common.client import Client, NothingYet, TaskEnded, new_request_id
from gridtune_common.protocol import Ask, Lease, Tell
from real_service import GRIDTUNE, RealService, free_port, wait_for
from servers.postgres import Postgres
from service_bench import document

SECRET = "the-secret-of-monitoring"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[RealService]:
    """A service that is watched."""
    settings = {
        "GRIDTUNE_STEERING_METRICS_TOKEN": SECRET,
        "GRIDTUNE_STEERING_LOG_FORMAT": "json",
        "GRIDTUNE_STEERING_ACCESS_LOG": "on",
    }
    service = RealService(tmp_path, settings=settings, flags=["--web", "2", "--hosts", "2"])
    service.start()
    yield service
    service.end()


def read(service: RealService) -> dict[str, float]:
    """All numbers of a service, by name and the values of their labels."""
    return read_at(service.url)


def read_at(url: str) -> dict[str, float]:
    """All numbers that are told at an address."""
    answer = requests.get(f"{url}/metrics", headers={"Authorization": f"Bearer {SECRET}"}, timeout=30)
    answer.raise_for_status()
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def lease(client: Client, task: str, worker: str) -> Lease:
    """Ask until there is a point."""
    answer: Lease | NothingYet | TaskEnded = NothingYet(0)
    while isinstance(answer, NothingYet):
        answer = client.ask(task, Ask(new_request_id(), worker, site="cern", wait=10))
    assert isinstance(answer, Lease)
    return answer


def test_the_numbers_of_all_processes_are_in_one_place(watched: RealService) -> None:
    """Web processes and hosts count together; who was killed has nothing in progress, and what was counted stays."""
    task = watched.submit(document(algorithm="sobol", points=50))
    with watched.client() as client:
        for number in range(3):
            held = lease(client, task, f"w{number}")
            client.tell(held.evaluation, Tell(new_request_id(), held.epoch, {"loss": 1.0}))
        lease(client, task, "last")
    counted = wait_for("the host's numbers", lambda: _with_thoughts(watched))
    wait_for("a fresh count of the database", lambda: read(watched).get("gridtune_running_evaluations cern") == 1)

    assert counted["gridtune_asks_total point"] == 4
    assert counted["gridtune_tells_total yes"] == 3
    assert counted["gridtune_task_claims_total"] >= 1
    assert counted["gridtune_tasks running"] == 1
    assert counted["gridtune_http_request_duration_seconds_count tell 200"] == 3
    assert counted["gridtune_http_requests_in_progress"] == 1
    assert _gauges_of_the_living(watched)
    assert (watched.folder / "data" / "metrics").stat().st_mode & 0o077 == 0

    for pid in _pids(watched):
        os.kill(pid, signal.SIGKILL)
    wait_for("the service", lambda: _asked(watched))
    again = wait_for("numbers", lambda: read(watched))

    assert again["gridtune_tells_total yes"] == 3
    assert again["gridtune_http_requests_in_progress"] == 1
    assert _gauges_of_the_living(watched)


def _with_thoughts(service: RealService) -> dict[str, float] | None:
    """The numbers, once the host has thought about as many points as there are."""
    found = read(service)
    return found if found.get("gridtune_optimizer_cycle_seconds_count sobol", 0) >= 4 else None


def _pids(service: RealService) -> set[int]:
    return {int(path.stem.rpartition("_")[2]) for path in (service.folder / "data" / "metrics").glob("gauge_*.db")}


def _gauges_of_the_living(service: RealService) -> bool:
    """Whether all files of gauges belong to processes that live."""
    return all(Path(f"/proc/{pid}").exists() for pid in _pids(service))


def _asked(service: RealService) -> bool:
    try:
        return requests.get(f"{service.url}/healthz", timeout=5).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


@pytest.mark.slow
def test_hosts_on_a_machine_of_their_own_tell_what_they_count(postgres: Postgres, tmp_path: Path) -> None:
    """On a port of theirs, to who has the secret; the web processes elsewhere know nothing of it."""
    url, service, at = postgres.new_database(), RealService(tmp_path), f"http://127.0.0.1:{free_port()}"
    settings = {"GRIDTUNE_STEERING_DATABASE": url, "GRIDTUNE_STEERING_METRICS_TOKEN": SECRET}
    environment = {**os.environ, **settings}
    data, other = tmp_path / "data", tmp_path / "other"

    def begin(*words: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "serve.log").open("ab") as log:
            return subprocess.Popen([*GRIDTUNE, *words], env=environment, stdout=log, stderr=log)

    subprocess.run([*GRIDTUNE, "migrate", "--data", str(data)], env=environment, check=True, capture_output=True)
    other.mkdir()
    shutil.copy(data / "service.key", other)
    flags = ["--processes", "2", "--metrics-port", at.rpartition(":")[2]]
    parts = [
        begin("web", "--data", str(data), "--port", str(service.port)),
        begin("host", "--data", str(other), *flags),
    ]
    try:
        wait_for("both", lambda: all(map(_is_open, (service.url, at))))
        task = service.submit(document(algorithm="sobol", points=50))
        with service.client() as client:
            lease(client, task, "w")
        counted = wait_for("thoughts", lambda: _with(read_at(at), "gridtune_optimizer_cycle_seconds_count sobol"))
        elsewhere = read(service)
        for pid in {int(path.stem.rpartition("_")[2]) for path in (other / "metrics").glob("gauge_*.db")}:
            os.kill(pid, signal.SIGKILL)
        wait_for("new hosts", lambda: len(set((other / "metrics").glob("counter_*.db"))) == 4)
        after = read_at(at)
        without = [
            requests.get(f"{at}/metrics", headers=header, timeout=5).status_code
            for header in (
                {},
                {"Authorization": "Bearer "},
                {"Authorization": f"Bearer {SECRET}x"},
                {"Authorization": SECRET},
            )
        ]
    finally:
        for part in parts:
            part.terminate()
        codes = [part.wait(20) for part in parts]
        postgres.drop(url)

    assert counted["gridtune_task_claims_total"] == after["gridtune_task_claims_total"] == 1
    assert counted["gridtune_database_connections_in_use"] >= 0
    assert "gridtune_asks_total point" not in counted
    assert elsewhere["gridtune_asks_total point"] == 1
    assert "gridtune_optimizer_cycle_seconds_count sobol" not in elsewhere
    assert without == [401] * 4
    assert codes == [0, 0]


def _is_open(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 404
    except (requests.ConnectionError, requests.Timeout):
        return False


def _with(found: dict[str, float], name: str) -> dict[str, float] | None:
    return found if name in found else None


def test_all_processes_log_in_one_form(watched: RealService) -> None:
    """One object a line, whoever writes it; requests can be told apart, and no secret is told."""
    task = watched.submit(document(points=2))
    header = {"X-Request-ID": "from-outside", "Authorization": f"Bearer {watched.token}"}
    answer = requests.get(f"{watched.url}/api/v1/tasks?name=private", headers=header, timeout=30)
    requests.get(f"{watched.url}/api/v1/tasks/{task}", headers={**header, "X-Request-ID": "of-a-task"}, timeout=30)
    watched.end()

    text = (watched.folder / "serve.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert answer.headers["X-Request-ID"] == "from-outside"
    assert {"serving", "host_started", "task_claimed", "request", "stopped"} <= {line.get("action") for line in lines}
    [listed] = [line for line in lines if line.get("request") == "from-outside"]
    assert (listed["route"], listed["status"], listed["user"]) == ("list_tasks", 200, "operator")
    [seen] = [line for line in lines if line.get("request") == "of-a-task"]
    assert seen["task"] == task
    assert not [word for word in ("private", SECRET, watched.token) if word in text]
