"""What operators see of a service of several processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from gridtune_common.client import Client, NothingYet, TaskEnded, new_request_id
from gridtune_common.protocol import Ask, Lease, Tell
from real_service import RealService, wait_for
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
    """All numbers, by name and the values of their labels."""
    answer = requests.get(f"{service.url}/metrics", headers={"Authorization": f"Bearer {SECRET}"}, timeout=30)
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
