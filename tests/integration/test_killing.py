"""Nothing acknowledged is lost, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from typing import Any

import pytest

from gridtune_common.client import Client, NothingYet, TaskEnded, new_request_id
from gridtune_common.protocol import (
    Ask,
    EvaluationState,
    Lease,
    PointState,
    Release,
    ReleaseCause,
    TaskState,
    Tell,
)
from real_service import RealService, wait_for
from service_bench import document

#: A training of ten short epochs that says how far it is and leaves its process id behind.
TRAIN = """
import json, os, sys, time
from pathlib import Path
point = json.load(open("input.json"))
Path(sys.argv[1], f"{os.environ['GRIDTUNE_POINT']}-{os.getpid()}").touch()
reports = open(os.environ["GRIDTUNE_DIR"] + "/reports.jsonl", "a", buffering=1)
loss = (point["x"] - 1) ** 2
for epoch in range(10):
    time.sleep(float(sys.argv[2]))
    print(json.dumps({"step": epoch, "loss": loss + 1 / (epoch + 1)}), file=reports)
json.dump({"loss": loss}, open("output.json", "w"))
"""


def training(pids: str, epoch_seconds: float, **more: Any) -> dict[str, Any]:
    """A task that runs `TRAIN`."""
    command = f"python train.py {pids} {epoch_seconds}"
    return document(payload={"command": command, "files": ["train.py"]}, **more)


def test_a_killed_agents_point_is_finished_by_another(service: RealService) -> None:
    """Kill -9 in mid-training: the same point, one attempt older, and no orphan keeps training."""
    pids = service.folder / "pids"
    pids.mkdir()
    task = service.submit(training(str(pids), 0.3, points=2), train_py=TRAIN)
    first = service.start_agent(task, name="first")
    [mark] = wait_for("a training", lambda: list(pids.iterdir()))

    first.kill()
    service.start_agent(task, name="second")
    with service.client() as client:
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED)

    exported = service.export(task)
    assert [point.state for point in exported.points] == [PointState.DONE, PointState.DONE]
    assert [(e.state, e.attempt) for e in exported.evaluations if e.point == 0] == [
        (EvaluationState.LOST, 1),
        (EvaluationState.DONE, 2),
    ]
    assert not _is_alive(int(mark.name.partition("-")[2]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return not status.stdout.startswith("Z")


def test_a_killed_service_loses_nothing_and_its_agents_carry_on(service: RealService) -> None:
    """Kill -9 of serve in mid-task: all that was told is there, trainings go on, and the search knows all it knew."""
    pids = service.folder / "pids"
    pids.mkdir()
    task = service.submit(training(str(pids), 0.1, points=14, algorithm="hyperopt/tpe"), train_py=TRAIN)
    agent = service.start_agent(task, "--slots", "2")
    with service.client() as client:
        wait_for("results", lambda: client.task(task).summary.counts.done >= 4)
        before = list(client.all_points(task, state="done"))

        service.kill()
        service.start()
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED)

    assert agent.wait(30) == 0
    exported = service.export(task)
    after = {point.number: point for point in exported.points}
    assert [after[point.number].metrics for point in before] == [point.metrics for point in before]
    assert [point.state for point in exported.points] == [PointState.DONE] * 14
    # nobody was called lost because the service was away, and no training was done twice
    assert [e.state for e in exported.evaluations] == [EvaluationState.DONE] * 14
    assert len(list(pids.iterdir())) == 14
    # the last points were informed by results from before and after
    assert max(point.informed_by for point in exported.points) >= 12
    assert sorted(point.observed for point in exported.points if point.observed is not None) == list(range(14))


def test_no_point_is_lost_on_an_ask_that_hung_up(service: RealService) -> None:
    """A worker that died while it waited is given nothing."""
    task = service.submit(document(points=1))
    with service.client() as client:
        lease = client.ask(task, Ask(new_request_id(), "w", wait=10))
        assert isinstance(lease, Lease)
        body = json.dumps({"request_id": new_request_id(), "worker": "gone", "wait": 20}).encode()
        head = (
            f"POST /api/v1/tasks/{task}/ask HTTP/1.1\r\nHost: {service.url}\r\n"
            f"Authorization: Bearer {service.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(head.encode() + body)
            time.sleep(0.5)
        time.sleep(0.2)
        client.release(lease.evaluation, Release(new_request_id(), lease.epoch, ReleaseCause.SHUTDOWN, leaving=True))
        time.sleep(1.5)

        assert client.task(task).summary.counts.ready == 1


@pytest.mark.slow
def test_a_killed_optimizer_host_is_replaced(service: RealService) -> None:
    """The supervisor starts another, which takes the task over from history."""
    task = service.submit(document(points=10, algorithm="hyperopt/tpe"))
    with service.client() as client:
        for _ in range(5):
            _evaluate_one(client, task)
        [host] = _pids_of("gridtune_steering.host", service)
        os.kill(host, signal.SIGKILL)
        for _ in range(5):
            _evaluate_one(client, task)

        summary = wait_for("the end", lambda: _ended(client, task))

    assert summary.reason == "all 10 points have ended"
    assert [point.informed_by for point in service.export(task).points] == list(range(10))


def _ended(client: Client, task: str) -> Any:
    summary = client.task(task).summary
    return summary if summary.state is TaskState.FINISHED else None


def _evaluate_one(client: Client, task: str) -> None:
    while True:
        lease = client.ask(task, Ask(new_request_id(), "w", wait=10))
        assert not isinstance(lease, TaskEnded)
        if not isinstance(lease, NothingYet):
            break
    outcome = client.tell(lease.evaluation, Tell(new_request_id(), lease.epoch, {"loss": float(lease.point)}))
    assert outcome.accepted


def _pids_of(module: str, service: RealService) -> list[int]:
    """Processes of this service that run a module."""
    assert service.serving is not None
    listing = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(service.serving.pid)], capture_output=True, text=True, check=True
    )
    return [int(line.split()[0]) for line in listing.stdout.splitlines() if module in line]


@pytest.mark.slow
def test_fifty_workers_start_exactly_the_budget_across_restarts(service: RealService) -> None:
    """With 50 workers and 60 points, exactly 60 points start, though the service is killed twice in between."""
    task = service.submit(document(points=60))
    token, url = service.token, service.url
    started: list[int] = []
    rest = threading.Event()

    def work(name: str) -> None:
        client = Client(url, token, retry_for=60)
        while True:
            lease = client.ask(task, Ask(new_request_id(), name, wait=5))
            if isinstance(lease, TaskEnded):
                break
            if isinstance(lease, NothingYet):
                rest.wait(lease.retry_after)
                continue
            started.append(lease.point)
            rest.wait(0.5)
            client.tell(lease.evaluation, Tell(new_request_id(), lease.epoch, {"loss": 1.0}))
        client.close()

    workers = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(50)]
    for worker in workers:
        worker.start()
    for threshold in (5, 52):
        wait_for("points to start", lambda n=threshold: len(started) >= n)  # type: ignore[misc]  # bound now
        service.kill()
        service.start()
    for worker in workers:
        worker.join(120)

    assert sorted(started) == list(range(60))
    assert [point.number for point in service.export(task).points] == list(range(60))
