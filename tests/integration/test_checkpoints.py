"""Trainings that are longer than their workers live: nothing is lost, and nothing is trained twice without need."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from event_log import Tale
from gridtune_common.client import new_request_id
from gridtune_common.protocol import (
    Ask,
    BeginUpload,
    CommitUpload,
    EvaluationState,
    Export,
    Lease,
    ObjectKind,
    PointState,
    TaskState,
)
from real_service import GRIDTUNE, RealService, wait_for
from service_bench import document

#: Each step changes a number in a way that depends on all steps before; the state is replaced as a whole.
TRAIN = """
import hashlib, json, os, signal, sys, time
import gridtune
leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(1))
x = gridtune.params()["x"]
step, digest = 0, ""
if os.path.exists("state.json"):
    step, digest = json.load(open("state.json"))
print("from step", step, flush=True)
while step < int(sys.argv[1]):
    time.sleep(float(sys.argv[2]))
    digest = hashlib.sha256(f"{digest} {x} {step}".encode()).hexdigest()
    step += 1
    with open("draft.json", "w") as draft:
        json.dump([step, digest], draft)
    os.replace("draft.json", "state.json")
    gridtune.report(step, loss=step)
    if leaving:
        sys.exit(0)
gridtune.result(loss=int(digest[:12], 16))
"""


def training(steps: int, pause: float, *, points: int = 2, **payload: Any) -> dict[str, Any]:
    """A task that runs `TRAIN`, always on the same points."""
    rule = {"paths": ["state.json"], "interval": "0.5s"}
    section = {"command": f"python train.py {steps} {pause}", "files": ["train.py"], "checkpoint": rule, "grace": "2s"}
    return document(points=points, algorithm="sobol", payload={**section, **payload})


def results(exported: Export) -> dict[int, float | None]:
    """What each point's training came to."""
    assert {point.state for point in exported.points} == {PointState.DONE}
    return {point.number: point.value for point in exported.points}


def n_repeated(exported: Export) -> int:
    """Steps that were trained more than once."""
    point_of = {evaluation.id: evaluation.point for evaluation in exported.evaluations}
    trained = Counter((point_of[report.evaluation], report.step) for report in exported.reports)
    return sum(trained.values()) - len(trained)


def undisturbed(service: RealService, steps: int) -> dict[int, float | None]:
    """What trainings come to that nobody interrupts."""
    task = service.submit(training(steps, 0.0), train_py=TRAIN)
    assert service.start_agent(task, name="undisturbed").wait(120) == 0
    return results(service.export(task))


@pytest.mark.slow
def test_short_lived_workers_reach_the_same_results(service: RealService) -> None:
    """With agents that live for seconds, one after the other: the same numbers, and no step twice."""
    steps = 20
    expected = undisturbed(service, steps)
    task = service.submit(training(steps, 0.3), train_py=TRAIN)
    stretches = 0
    with service.client() as client:
        while client.task(task).summary.state is TaskState.RUNNING:
            assert service.start_agent(task, "--walltime", "8", name=f"short-{stretches}").wait(60) == 0
            stretches += 1
            assert stretches < 20

    exported = service.export(task)
    assert results(exported) == expected
    assert n_repeated(exported) == 0
    assert stretches > 2
    assert all(point.attempts == 0 for point in exported.points)
    assert {e.state for e in exported.evaluations} == {EvaluationState.DONE, EvaluationState.RELEASED}


@pytest.mark.slow
def test_after_a_kill_the_training_goes_on_from_its_last_checkpoint(service: RealService) -> None:
    """Kill -9 of the agent: at most what was trained since the last committed checkpoint is trained again."""
    steps = 25
    expected = undisturbed(service, steps)
    task = service.submit(training(steps, 0.2, points=2), train_py=TRAIN)
    first = service.start_agent(task, name="first")
    with service.client() as client:
        wait_for("a checkpoint", lambda: len(_committed(service.export(task))) >= 2)
        first.kill()
        service.start_agent(task, name="second")
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED, timeout=120)

    exported = service.export(task)
    [lost] = [e for e in exported.evaluations if e.state is EvaluationState.LOST]
    [resumed] = [e for e in exported.evaluations if e.point == lost.point and e.state is EvaluationState.DONE]
    assert resumed.resumed_from is not None
    assert results(exported) == expected
    assert n_repeated(exported) < 10
    assert min(report.step for report in exported.reports if report.evaluation == resumed.id) > 1


def _committed(exported: Export) -> list[str]:
    return [str(event.details["object"]) for event in exported.events if event.kind == "checkpoint.committed"]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_noticed_and_passed_over(service: RealService) -> None:
    """A bit that flipped in the store costs the steps since the checkpoint before, and nothing else."""
    steps = 25
    expected = undisturbed(service, steps)
    task = service.submit(training(steps, 0.2, points=2), train_py=TRAIN)
    first = service.start_agent(task, name="first")
    with service.client() as client:
        wait_for("checkpoints", lambda: len(_committed(service.export(task))) >= 3)
        first.kill()
        first.wait()
        newest = client.point(task, 0).objects
        kept = [o for o in newest if o.kind is ObjectKind.CHECKPOINT and o.committed_at and not o.doomed_at]
        [file] = (service.folder / "data" / "objects").rglob(kept[-1].id)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.chmod(0o600)
        file.write_bytes(content)
        service.start_agent(task, name="second")
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED, timeout=120)

    exported = service.export(task)
    assert results(exported) == expected
    [damage] = [event for event in exported.events if event.kind == "checkpoint.damaged"]
    assert damage.details["object"] == kept[-1].id


@pytest.mark.slow
def test_the_service_may_be_killed_during_checkpoints(service: RealService) -> None:
    """Uploads wait for it, and the training does not."""
    steps = 30
    expected = undisturbed(service, steps)
    task = service.submit(training(steps, 0.15), train_py=TRAIN)
    agent = service.start_agent(task, name="patient")
    with service.client() as client:
        for n in (1, 4):
            wait_for("checkpoints", lambda n=n: len(_committed(service.export(task))) >= n)  # type: ignore[misc]
            service.kill()
            time.sleep(1)
            service.start()
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED, timeout=120)
    assert agent.wait(60) == 0

    exported = service.export(task)
    assert results(exported) == expected
    assert n_repeated(exported) == 0
    assert [e.state for e in exported.evaluations] == [EvaluationState.DONE] * 2


#: Besides, a large file that is made once and needed at every step.
FROZEN = """
import os
if not os.path.exists("frozen"):
    with open("frozen.new", "wb") as new:
        new.write(bytes(10 * 2**20))
    os.replace("frozen.new", "frozen")
assert os.path.getsize("frozen") == 10 * 2**20
"""


def test_a_large_file_travels_once(service: RealService) -> None:
    """Though its worker is killed and another one goes on: all later checkpoints lean on the first one."""
    rule = {"paths": ["state.json", "frozen"], "interval": "0.3s"}
    task = service.submit(training(25, 0.2, points=1, checkpoint=rule), train_py=FROZEN + TRAIN)
    first = service.start_agent(task, name="first")
    with service.client() as client:
        wait_for("checkpoints", lambda: len(_committed(service.export(task))) >= 4)
        first.kill()
        service.start_agent(task, name="second")
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED, timeout=120)

    exported = service.export(task)
    assert {point.state for point in exported.points} == {PointState.DONE}
    details = [event.details for event in exported.events if event.kind == "checkpoint.committed"]
    large = [kept for kept in details if kept["size"] > 2**20]
    assert len(large) <= 2  # the second may have been packed before the first was there
    assert details[0] in large
    assert all(kept["base"] in {base["object"] for base in large} for kept in details if kept not in large)
    [lost, resumed] = sorted(exported.evaluations, key=lambda evaluation: evaluation.epoch)
    assert (lost.state, resumed.state) == (EvaluationState.LOST, EvaluationState.DONE)
    assert min(report.step for report in exported.reports if report.evaluation == resumed.id) > 1
    assert not Tale.of(exported.events).differences(exported)


@pytest.mark.parametrize("way", ["whole", "range", "head", "given up"])
def test_downloads_make_way_for_each_other(service: RealService, way: str) -> None:
    """However often a checkpoint is fetched, and by whatever way: there is room for the next one."""
    task = service.submit(document(points=1), train_py="")
    content = b"w" * 2**20
    sha256 = hashlib.sha256(content).hexdigest()
    with service.client() as client:
        lease = client.ask(task, Ask(new_request_id(), "w", wait=10))
        assert isinstance(lease, Lease)
        message = BeginUpload(new_request_id(), lease.epoch, ObjectKind.CHECKPOINT, len(content), sha256, "tar")
        upload = client.begin_upload(lease.evaluation, message)
        requests.put(service.url + upload.urls[0], data=content, timeout=10).raise_for_status()
        client.commit_upload(lease.evaluation, upload.id, CommitUpload(new_request_id(), lease.epoch))
        address = service.url + client.download(lease.evaluation, upload.id).url

    statuses = set()
    for _ in range(50):
        headers = {"Range": "bytes=7-"} if way == "range" else {}
        method = "HEAD" if way == "head" else "GET"
        with requests.request(method, address, headers=headers, stream=True, timeout=10) as answer:
            statuses.add(answer.status_code)
            assert way == "given up" or answer.content in (b"", content, content[7:])

    assert statuses == {206 if way == "range" else 200}


def test_logs_can_be_watched_and_read(service: RealService, tmp_path: Path) -> None:
    """Live while the training runs, whole when it has ended, also the stretches before."""
    task = service.submit(training(30, 0.2, points=1), train_py=TRAIN)
    environment = {**os.environ, "GRIDTUNE_SERVER": service.url, "GRIDTUNE_TOKEN": service.token}
    first = service.start_agent(task, name="first")
    with service.client() as client:
        wait_for("a running point", lambda: client.task(task).summary.counts.running)
        watching = subprocess.Popen(
            [*GRIDTUNE, "logs", task, "0", "--follow"], env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        assert watching.stdout is not None
        assert watching.stdout.readline() == "from step 0\n"
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0
        service.start_agent(task, name="second")
        wait_for("the end", lambda: client.task(task).summary.state is TaskState.FINISHED)
    rest = watching.communicate(timeout=30)[0]
    command = [*GRIDTUNE, "logs", task, "0"]
    stored = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)

    lines = stored.stdout.splitlines()
    assert lines[0] == "from step 0"
    assert len(lines) == 2
    assert int(lines[1].rpartition(" ")[2]) > 0
    assert rest.splitlines()[-1] == lines[1]


@pytest.mark.slow
def test_the_long_example_comes_to_the_same_bits(tmp_path: Path) -> None:
    """The network of examples/long_training, with and without short walltimes."""
    done = subprocess.run(
        [GRIDTUNE[0], "benchmarks/walltime.py", "--walltimes", "20", "--points", "1", "--epochs", "1500"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if "yes" in line]
    assert len(rows) == 2
    stretches, steps, wasted = (int(cell) for cell in rows[1].split("|")[2:5])
    assert stretches > 1
    assert wasted < 0.05 * steps
