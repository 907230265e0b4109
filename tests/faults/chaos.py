"""The driver: from a seed it draws faults, and does them to a service and its agents while these work."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faults.deployment import Deployment
from faults.fleet import SLOTS, Berth
from faults.journal import FROZEN, STATE, TRAIN, TRAININGS, FaultJournal
from faults.kinds import faults_of
from faults.proxy import Proxy
from faults.scene import Scene
from faults.shelf import BucketDepot, Depot, FolderDepot, Remains, Shelf
from gridtune_common.client import new_request_id
from gridtune_common.protocol import ChangeTask, CreateToken, Export, Scope, TaskAction, TaskState
from real_service import RealService, wait_for
from servers.ceph import Ceph
from servers.postgres import Postgres
from service_bench import document

N_BERTHS: Final = 3
#: Seconds between two faults, on average.
_PACE: Final = 0.3
#: There are always at least as many points to do as keep everybody busy while faults are done.
_POINTS_AHEAD: Final = 4 * N_BERTHS * SLOTS
#: Seconds for the task to come to its end once there are no more faults.
_PATIENCE: Final = 150.0
#: Nothing fails for good: whatever is done to it, a point has tries enough.
_RETRY: Final = {"attempts": 99, "lost": 99, "infrastructure": 99, "stalled": 999, "same_failure": 0}
_CHECKPOINT: Final = {"paths": [STATE, FROZEN], "interval": "0.3s", "keep": 2}
#: One seed of so many has room for a few dozen checkpoints only.
_SMALL_QUOTA_EVERY: Final = 4
_SMALL_QUOTA: Final = "400KiB"
#: One seed of so many keeps its checkpoints in S3.
S3_EVERY: Final = 5
#: Short, so that a lost worker is noticed within a run.
SETTINGS: Final = {
    "GRIDTUNE_STEERING_LEASE_SECONDS": "3",
    "GRIDTUNE_STEERING_HOST_LEASE_SECONDS": "4",
    "GRIDTUNE_STEERING_ASK_WAIT_SECONDS": "5",
}


@dataclass
class Outcome:
    """What is left when all is over, to be judged.

    Attributes:
        complaints: What went wrong before there was anything to judge: agents that died by themselves and the like.
        exported: What the bookkeeping says; None if the service could not say.
    """

    folder: Path
    deployment: Deployment
    task: str
    seed: int
    faults: FaultJournal
    berths: list[Berth]
    complaints: list[str]
    exported: Export | None
    shelf: Shelf
    remains: Remains
    seconds: float


def run(
    folder: Path,
    *,
    seed: int,
    n_faults: int,
    only: str = "",
    postgres: Postgres | None = None,
    ceph: Ceph | None = None,
) -> Outcome:
    """Do *n_faults* to a task while it runs, let it come to its end, and gather what is left.

    Args:
        folder: Where everything is, also afterwards.
        seed: What the faults are drawn from.
        n_faults: How many.
        only: Only faults with this in their name.
        postgres: Makes it the large deployment, on a database there.
        ceph: Where checkpoints are kept; in a folder without it.
    """
    began = time.monotonic()
    depot: Depot = FolderDepot(folder) if ceph is None else BucketDepot(ceph, f"seed-{seed}-{time.time_ns()}")
    deployment = Deployment.embedded(folder) if postgres is None else Deployment.large(postgres)
    settings = {**SETTINGS, **depot.settings, **deployment.settings, **_quota(seed)}
    service = RealService(folder, settings=settings, flags=deployment.flags)
    shelf = Shelf(folder / "data", deployment, depot, settings)
    complaints: list[str] = []
    with contextlib.ExitStack() as leftovers:
        leftovers.callback(service.end)
        service.start()
        task = service.submit(_document(folder), train_py=TRAIN)
        berths = [leftovers.enter_context(_berth(service, task, number, seed)) for number in range(N_BERTHS)]
        journal = FaultJournal(folder / "faults.jsonl")
        scene = Scene(service, deployment, berths, shelf, journal, random.Random(seed))
        leftovers.callback(_undo_everything, scene)
        for berth in berths:
            berth.start()
        wait_for("the first training", (folder / TRAININGS).exists)
        complaints += _do_harm(scene, task, n_faults, only)
        complaints += _come_to_an_end(scene, task)
        exported = service.export(task)
        complaints += _close(service)
    remains = shelf.remains()
    seconds = time.monotonic() - began
    return Outcome(folder, deployment, task, seed, journal, berths, complaints, exported, shelf, remains, seconds)


def _quota(seed: int) -> dict[str, str]:
    return {"GRIDTUNE_STEERING_STORAGE_TASK_QUOTA": _SMALL_QUOTA} if seed % _SMALL_QUOTA_EVERY == 1 else {}


def _document(folder: Path) -> dict[str, object]:
    payload = {
        "command": f"exec python train.py {folder / TRAININGS}",
        "files": ["train.py"],
        "checkpoint": _CHECKPOINT,
        "grace": "1s",
    }
    return document(points=_POINTS_AHEAD, payload=payload, retry=_RETRY)


def _undo_everything(scene: Scene) -> None:
    for undoing in scene.undoings:
        undoing.join()


@contextlib.contextmanager
def _berth(service: RealService, task: str, number: int, seed: int) -> Iterator[Berth]:
    with service.client() as client:
        token = client.create_token(CreateToken(new_request_id(), Scope.TASK, task=task)).secret
    chance = random.Random(f"{seed} {number}")
    proxy = Proxy(service.port, seed * N_BERTHS + number)
    berth = Berth(f"berth-{number}", service.folder, task, token, proxy, chance)
    try:
        yield berth
    finally:
        berth.kill()
        berth.proxy.close()


def _do_harm(scene: Scene, task: str, n_faults: int, only: str) -> list[str]:
    """Do the faults, one after the other at the seed's pace; returns what went wrong meanwhile."""
    complaints: list[str] = []
    kinds = {name: kind for name, kind in faults_of(scene.deployment).items() if only in name}
    names, weights = list(kinds), [kind.weight for kind in kinds.values()]
    while scene.journal.n_faults < n_faults:
        complaints += _pass_time(scene, task, scene.random.expovariate(1 / _PACE))
        [name] = scene.random.choices(names, weights)
        harm = kinds[name].harm(scene)
        if harm is not None:
            scene.journal.note(name, *harm)
    return complaints


def _pass_time(scene: Scene, task: str, seconds: float) -> list[str]:
    """Look after the fleet, and see that there is enough to do."""
    deadline = time.monotonic() + seconds
    complaints = []
    while True:
        complaints += _look_after(scene, task)
        _provide_points(scene, task)
        if time.monotonic() >= deadline:
            return complaints
        time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))


def _look_after(scene: Scene, task: str) -> list[str]:
    said = [berth.look_after(lambda: _state(scene, task) is TaskState.FINISHED) for berth in scene.berths]
    return [complaint for complaint in said if complaint is not None]


def _provide_points(scene: Scene, task: str) -> None:
    """Have the task extended in time, or when the database is back: other faults do not wait for it."""
    if scene.outage.locked():
        return
    done = "select count(*) from points where task_id = tasks.id and points.state = 'done'"
    [(n_left,)] = scene.deployment.rows(f"select max_points - ({done}) from tasks")  # noqa: S608 - both are ours
    if n_left < _POINTS_AHEAD / 2:
        with scene.service.client() as client:
            client.change_task(task, ChangeTask(new_request_id(), TaskAction.EXTEND, _POINTS_AHEAD))


def _state(scene: Scene, task: str) -> TaskState:
    [(state,)] = scene.deployment.rows("select state from tasks where id = :task", task=task)
    return TaskState(state)


def _set_aside(scene: Scene) -> list[Berth]:
    rows = scene.deployment.rows("select site from workers where set_aside_until is not null")
    return [berth for berth in scene.berths if berth.name in {site for (site,) in rows}]


def _come_to_an_end(scene: Scene, task: str) -> list[str]:
    """No more faults: the task has to end, its agents too, and what is in their spools is to be delivered."""
    _undo_everything(scene)
    for berth in scene.berths:
        berth.proxy.calm()
    complaints: list[str] = []
    deadline = time.monotonic() + _PATIENCE
    while _state(scene, task) is not TaskState.FINISHED:
        complaints += _look_after(scene, task)
        if time.monotonic() > deadline:
            return [*complaints, f"the task has not ended {_PATIENCE:g} s after the last fault"]
        time.sleep(0.1)
    for berth in _set_aside(scene):  # it sleeps, and would notice minutes later
        berth.end(signal.SIGTERM, replace_in=0.0)
    complaints += [said for berth in scene.berths if (said := berth.see_out(seconds=90.0))]
    undelivered = [berth for berth in scene.berths if berth.letters()]
    for berth in undelivered:
        berth.kill()
        berth.start()
    return complaints + [said for berth in undelivered if (said := berth.see_out(seconds=60.0))]


def _close(service: RealService) -> list[str]:
    assert service.serving is not None
    service.serving.terminate()
    code = service.serving.wait(30)
    return [] if code == 0 else [f"the service ended with code {code}"]
