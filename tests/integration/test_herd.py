"""A thundering herd: a thousand agents that a site starts in one second."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtune_common.client import new_request_id
from gridtune_common.protocol import CreateToken, Scope, TaskState
from real_service import RealService, wait_for
from servers.postgres import Postgres
from service_bench import document

N_PROCESSES, N_THREADS = 8, 125
#: Each thread is an agent that asks for a point, as long as it takes, and brings a result.
HERD = """
import json, sys, threading, time
from gridtune_common.client import Client, NothingYet, Unreachable, new_request_id
from gridtune_common.protocol import Ask, Tell

url, token, task, first, n = json.loads(sys.stdin.readline())
found = []

def lead(number):
    begun = time.monotonic()
    client = Client(url, token, retry_for=120)
    try:
        ask = Ask(new_request_id(), f"w{number}", site="herd", host=f"h{number // 10}", wait=20.0)
        while isinstance(lease := client.ask(task, ask), NothingYet):
            time.sleep(lease.retry_after)
        waited = time.monotonic() - begun
        outcome = client.tell(lease.evaluation, Tell(new_request_id(), lease.epoch, {"loss": 1.0}, leaving=True))
        found.append([lease.point, outcome.accepted, waited])
    except Unreachable as error:
        found.append([None, False, str(error)])

threads = [threading.Thread(target=lead, args=(first + number,)) for number in range(n)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(found))
"""


@pytest.fixture
def service(postgres: Postgres, tmp_path: Path) -> Iterator[RealService]:
    """One web process and one optimizer host, as they come, on a database server."""
    url = postgres.new_database()
    settings = {"GRIDTUNE_STEERING_DATABASE": url, "GRIDTUNE_STEERING_LEASE_SECONDS": "60"}
    started = RealService(tmp_path, settings=settings)
    started.start()
    yield started
    started.end()
    postgres.drop(url)


@pytest.mark.slow
def test_a_thousand_agents_at_once_are_all_served(service: RealService) -> None:
    """Each gets a point of its own and has its result taken; nobody is turned away for good, and nothing is lost."""
    n = N_PROCESSES * N_THREADS
    task = service.submit(document(points=n))
    with service.client() as client:
        secret = client.create_token(CreateToken(new_request_id(), Scope.TASK, task=task)).secret
    herds = [
        subprocess.Popen([sys.executable, "-c", HERD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(N_PROCESSES)
    ]
    try:
        for number, herd in enumerate(herds):
            tell(herd, json.dumps([service.url, secret, task, number * N_THREADS, N_THREADS]))
        assert [answer(herd) for herd in herds] == ["ready"] * N_PROCESSES
        for herd in herds:
            tell(herd, "go")
        found = [entry for herd in herds for entry in json.loads(answer(herd))]
    finally:
        for herd in herds:
            herd.kill()
            herd.communicate()

    assert [entry for entry in found if not entry[1]] == []
    assert sorted(point for point, _, _ in found) == list(range(n))
    wait_for("the end", lambda: service.export(task).task.summary.state is TaskState.FINISHED)
    exported = service.export(task)
    assert Counter(evaluation.state.value for evaluation in exported.evaluations) == {"done": n}


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Write a line to a process."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    """The next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
