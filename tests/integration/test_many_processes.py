"""A service of many processes on PostgreSQL: whatever is ended, killed or started, tasks go on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridtune_common.client import Client, new_request_id
from gridtune_common.protocol import Ask, EvaluationState, PointState, TaskState, TaskSummary
from real_service import GRIDTUNE, LEASE_SECONDS, RealService, wait_for
from servers.postgres import Postgres
from service_bench import document

TRAIN = """
import json, time
point = json.load(open("input.json"))
time.sleep(0.3)
json.dump({"loss": (point["x"] - 1) ** 2}, open("output.json", "w"))
"""


def training(points: int) -> dict[str, object]:
    """A task of short trainings."""
    return document(
        points=points, algorithm="hyperopt/tpe", payload={"command": "python train.py", "files": ["train.py"]}
    )


@pytest.fixture
def many(postgres: Postgres, tmp_path: Path) -> Iterator[RealService]:
    """A service with two web processes and two optimizer hosts on a database server."""
    url = postgres.new_database()
    settings = {"GRIDTUNE_STEERING_DATABASE": url}
    service = RealService(tmp_path, settings=settings, flags=["--web", "2", "--hosts", "2"])
    service.start()
    yield service
    service.end()
    postgres.drop(url)


def wait_for_results(client: Client, task: str, n: int) -> None:
    """Wait until so many points are done."""
    wait_for(f"{n} results", lambda: client.task(task).summary.counts.done >= n)


def children_of(pid: int) -> list[int]:
    """Living children of a process."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.slow
def test_any_process_may_be_killed(many: RealService) -> None:
    """Kill -9 of each process of the service in turn: all points are done, each once, and nobody is called lost."""
    task = many.submit(training(40), train_py=TRAIN)
    agents = [many.start_agent(task, "--slots", "2", name=f"agent{number}") for number in range(2)]
    assert many.serving is not None
    victims = children_of(many.serving.pid)
    with many.client() as client:
        for n, victim in enumerate(victims, 1):
            wait_for_results(client, task, 6 * n)
            os.kill(victim, signal.SIGKILL)
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED)

    assert len(victims) == 4
    assert [agent.wait(30) for agent in agents] == [0, 0]
    exported = many.export(task)
    assert [point.state for point in exported.points] == [PointState.DONE] * 40
    assert [evaluation.state for evaluation in exported.evaluations] == [EvaluationState.DONE] * 40


@pytest.mark.slow
def test_a_database_that_restarts_loses_nothing(many: RealService, postgres: Postgres) -> None:
    """A crash of PostgreSQL in mid-task: what was told is there, and agents and hosts carry on."""
    task = many.submit(training(20), train_py=TRAIN)
    agent = many.start_agent(task, "--slots", "2")
    with many.client() as client:
        wait_for("results", lambda: client.task(task).summary.counts.done >= 6)
        before = list(client.all_points(task, state="done"))
        postgres.crash()
        time.sleep(2.0)
        postgres.start()
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED)

    assert agent.wait(30) == 0
    after = {point.number: point for point in many.export(task).points}
    assert [after[point.number].metrics for point in before] == [point.metrics for point in before]
    assert [point.state for point in after.values()] == [PointState.DONE] * 20


@pytest.mark.slow
def test_tasks_are_spread_over_hosts_and_move_when_one_dies(many: RealService, postgres: Postgres) -> None:
    """Each host has tasks; those of one that died are taken over within seconds, and go on."""
    tasks = [many.submit(document(points=50)) for _ in range(8)]
    url = many.settings["GRIDTUNE_STEERING_DATABASE"]

    def owners() -> dict[str, int]:
        rows = postgres.query("SELECT host, count(*) FROM tasks WHERE host IS NOT NULL GROUP BY host", url)
        return {name: int(n) for name, n in (row.split("|") for row in rows.split())}

    wait_for("owners of all tasks", lambda: sum(owners().values()) == len(tasks))
    many_hosts = owners()
    victim, _ = max(many_hosts.items(), key=lambda entry: entry[1])
    pid = int(victim.split("/")[1])
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_for("new owners", lambda: victim not in owners() and sum(owners().values()) == len(tasks), timeout=30)

    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_every_process_is_replaced_while_agents_work(postgres: Postgres, tmp_path: Path) -> None:
    """A rolling restart, one process after the other: no agent notices, and no evaluation is repeated."""
    url = postgres.new_database()
    data = tmp_path / "data"
    environment = {
        **os.environ,
        "GRIDTUNE_STEERING_DATABASE": url,
        "GRIDTUNE_STEERING_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    subprocess.run([*GRIDTUNE, "migrate", "--data", str(data)], env=environment, check=True, capture_output=True)
    service = RealService(tmp_path)

    def begin(*words: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "serve.log").open("ab") as log:
            command = [*GRIDTUNE, *words, "--data", str(data)]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    webs = [begin("web", "--port", str(service.port), "--processes", "2")]
    hosts = [begin("host"), begin("host")]
    try:
        with service.client() as client:
            task = service.submit(training(40), train_py=TRAIN)
            agent = service.start_agent(task, "--slots", "2", "--verbose")
            for n in range(3):
                wait_for_results(client, task, 8 * (n + 1))
                if n == 1:
                    webs[-1].terminate()
                    assert webs[-1].wait(20) == 0
                    webs.append(begin("web", "--port", str(service.port), "--processes", "2"))
                else:
                    old = hosts.pop(0)
                    old.terminate()
                    assert old.wait(20) == 0
                    hosts.append(begin("host"))
            wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED)
        exported = service.export(task)
        assert agent.wait(30) == 0
    finally:
        service.end()
        for process in [*webs, *hosts]:
            process.terminate()
        codes = [process.wait(20) for process in [*webs, *hosts]]
        postgres.drop(url)

    assert codes == [0] * len(codes)
    assert [evaluation.state for evaluation in exported.evaluations] == [EvaluationState.DONE] * 40


def test_a_machine_can_tell_whether_its_hosts_work(many: RealService) -> None:
    """As many as were asked for; the answer is the exit code."""

    def check(n: int) -> int:
        command = [*GRIDTUNE, "host", "--check", "--processes", str(n), "--data", str(many.folder / "data")]
        return subprocess.run(command, env={**os.environ, **many.settings}, check=False).returncode

    wait_for("two hosts", lambda: check(2) == 0)

    assert (check(1), check(3)) == (0, 1)


def test_a_machine_without_the_services_key_does_not_join(postgres: Postgres, tmp_path: Path) -> None:
    """Tokens and addresses that one process makes have to be good for all. What is missing is said in a line."""
    url = postgres.new_database()
    environment = {**os.environ, "GRIDTUNE_STEERING_DATABASE": url}

    def say(*words: str) -> str:
        done = subprocess.run([*GRIDTUNE, *words], env=environment, capture_output=True, text=True, check=False)
        return f"{done.returncode} {done.stdout}{done.stderr}"

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "service.key").write_text("00" * 32)
    before = say("host", "--data", str(tmp_path / "other"))
    environment["GRIDTUNE_STEERING_DATABASE"] = "postgresql://gridtune:sesame@127.0.0.1:9/gridtune"
    away = say("host", "--data", str(tmp_path / "other"))
    environment["GRIDTUNE_STEERING_DATABASE"] = url
    made = say("migrate", "--data", str(tmp_path / "data"))
    again = say("migrate", "--data", str(tmp_path / "data"))
    without = say("web", "--data", str(tmp_path / "third"), "--port", "0")
    wrong = say("web", "--data", str(tmp_path / "other"), "--port", "0")
    postgres.drop(url)

    assert "run 'gridtune migrate' first" in before
    assert away.startswith("3 error: the database of GRIDTUNE_STEERING_DATABASE does not answer: ")
    assert away.count("\n") == 1
    assert "sesame" not in away
    assert made.startswith("0 applied: 0001, 0002")
    assert again == "0 the database was up to date\n"
    assert "copy it from the machine that ran 'gridtune migrate'" in without
    assert "is not the key of this database's service" in wrong
    assert not any(answer.startswith("0") for answer in (before, without, wrong))


#: Found by every Python process of the service at its start: lets the random optimizer hang in tasks with this seed.
HANG = """
import sys, time
if any("gridtune_steering.host" in word for word in sys.orig_argv):
    from gridtune_steering.optimizers.uniform import UniformRandom
    suggest = UniformRandom.suggest
    def hang(self, number, seed):
        while "poison" in self._problem.space.names:
            time.sleep(0.1)
        return suggest(self, number, seed)
    UniformRandom.suggest = hang
"""


@pytest.mark.slow
def test_an_optimizer_that_hangs_is_paused_and_others_go_on(postgres: Postgres, tmp_path: Path) -> None:
    """Its host gives the other tasks away, then itself up; the third host that it takes down is the last."""
    url = postgres.new_database()
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(HANG)
    settings = {
        "GRIDTUNE_STEERING_DATABASE": url,
        "GRIDTUNE_STEERING_THINK_SECONDS": "5",
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "patch"), os.environ.get("PYTHONPATH", "")]),
    }
    service = RealService(tmp_path, settings=settings, flags=["--hosts", "2"])
    service.start()
    try:
        fine = service.submit(training(30), train_py=TRAIN)
        agent = service.start_agent(fine)
        space = {"poison": {"type": "float", "low": 0.0, "high": 1.0}}
        poisoned = service.submit(document(points=5, space=space))
        with service.client() as client:
            paused = wait_for("the pause", lambda: is_paused(client, poisoned), timeout=90)
            wait_for("the end", lambda: client.task(fine).summary.state is TaskState.FINISHED, timeout=90)
        assert agent.wait(30) == 0
        exported = service.export(fine)
    finally:
        service.end()
        postgres.drop(url)

    assert "its optimizer did not answer for" in paused.reason
    assert [evaluation.state for evaluation in exported.evaluations] == [EvaluationState.DONE] * 30


def is_paused(client: Client, task: str) -> TaskSummary | None:
    """The task's summary once it is paused; until then somebody wants a point of it."""
    client.ask(task, Ask(new_request_id(), "w", wait=1))
    summary = client.task(task).summary
    return summary if summary.state is TaskState.PAUSED else None
