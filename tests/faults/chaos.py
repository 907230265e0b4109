"""The driver: from a seed it draws faults, and does them to a service and its agents while these work."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from faults.fleet import SLOTS, Berth, children_of, command_of, environment_of
from faults.journal import FROZEN, STATE, TRAIN, TRAININGS, FaultJournal
from faults.proxy import Proxy, Trouble
from faults.shelf import BucketDepot, Depot, FolderDepot, Remains, Shelf
from gridtune_common.client import new_request_id
from gridtune_common.protocol import ChangeTask, CreateToken, Export, Scope, TaskAction, TaskState
from real_service import RealService, wait_for
from servers.ceph import Ceph
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
_UNLIMITED: Final = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
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
    task: str
    seed: int
    faults: FaultJournal
    berths: list[Berth]
    complaints: list[str]
    exported: Export | None
    shelf: Shelf
    remains: Remains
    seconds: float


@dataclass
class Scene:
    """All that faults are done to."""

    service: RealService
    berths: list[Berth]
    shelf: Shelf
    journal: FaultJournal
    random: random.Random
    undoings: list[threading.Timer] = field(default_factory=list)

    @property
    def database(self) -> Path:
        """The service's SQLite file."""
        return self.service.folder / "data" / "gridtune.db"

    def later(self, seconds: float, undo: Callable[[], None]) -> None:
        """Undo a fault after a while."""
        timer = threading.Timer(seconds, undo)
        timer.daemon = True
        self.undoings.append(timer)
        timer.start()

    def living(self) -> Berth | None:
        """A berth with an agent, if there is one."""
        alive = [berth for berth in self.berths if berth.is_alive]
        return self.random.choice(alive) if alive else None

    def payload(self) -> int | None:
        """The process id of a training, if there is one."""
        found = [pid for berth in self.berths for pid in berth.payloads()]
        return self.random.choice(found) if found else None

    def training_of(self, point: int) -> int | None:
        """The process id of a point's training, if there is one."""
        mark = f"GRIDTUNE_POINT={point}"
        found = [pid for berth in self.berths for pid in berth.payloads() if mark in environment_of(pid)]
        return found[0] if found else None

    def part(self, module: str) -> int | None:
        """The process id of a part of the service: a web process (master or worker), or the optimizer host."""
        assert self.service.serving is not None
        children = children_of(self.service.serving.pid)
        found = [pid for pid in children if module.encode() in command_of(pid)]
        found += [pid for parent in found for pid in children_of(parent)]
        return self.random.choice(found) if found else None


# --- the kinds of faults: each does its harm, and tells to whom and for how long; None if nobody is there


Harm = tuple[str, float]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _freeze(scene: Scene, pid: int, longest: float) -> float:
    seconds = scene.random.uniform(0.3, longest)
    _signal(pid, signal.SIGSTOP)
    scene.later(seconds, lambda: _signal(pid, signal.SIGCONT))
    return seconds


def _kill_agent(scene: Scene) -> Harm | None:
    berth = scene.living()
    if berth is None:
        return None
    berth.end(signal.SIGKILL, replace_in=scene.random.uniform(0.1, 1.5))
    return berth.name, 0.0


def _end_agent(scene: Scene) -> Harm | None:
    berth = scene.living()
    if berth is None:
        return None
    berth.end(signal.SIGTERM, replace_in=scene.random.uniform(0.0, 1.0))
    return berth.name, 0.0


def _freeze_agent(scene: Scene) -> Harm | None:
    """Often for longer than a lease: then its payloads go on, and it comes back as one that was lost."""
    berth = scene.living()
    if berth is None or berth.agent is None:
        return None
    return berth.name, _freeze(scene, berth.agent.pid, longest=6.0)


def _kill_payload(scene: Scene) -> Harm | None:
    pid = scene.payload()
    if pid is None:
        return None
    _signal(pid, signal.SIGKILL)
    return f"payload {pid}", 0.0


def _freeze_payload(scene: Scene) -> Harm | None:
    pid = scene.payload()
    return None if pid is None else (f"payload {pid}", _freeze(scene, pid, longest=4.0))


def _kill_part(module: str) -> Callable[[Scene], Harm | None]:
    def harm(scene: Scene) -> Harm | None:
        pid = scene.part(module)
        if pid is None:
            return None
        _signal(pid, signal.SIGKILL)
        return f"{module} {pid}", 0.0

    return harm


def _freeze_part(module: str) -> Callable[[Scene], Harm | None]:
    def harm(scene: Scene) -> Harm | None:
        pid = scene.part(module)
        return None if pid is None else (f"{module} {pid}", _freeze(scene, pid, longest=3.0))

    return harm


def _kill_service(scene: Scene) -> Harm:
    """The main process alone; its children have to notice."""
    scene.service.kill()
    return _start_again(scene)


def _kill_everything(scene: Scene) -> Harm:
    """As when the machine loses power, as far as processes can tell."""
    assert scene.service.serving is not None
    family = children_of(scene.service.serving.pid)
    family += [pid for parent in family for pid in children_of(parent)]
    scene.service.kill()
    for pid in family:
        _signal(pid, signal.SIGKILL)
    return _start_again(scene)


def _restart_service(scene: Scene) -> Harm:
    """As for an update; the old one ends in order."""
    assert scene.service.serving is not None
    scene.service.serving.terminate()
    scene.service.serving.wait(30)
    return _start_again(scene)


def _start_again(scene: Scene) -> Harm:
    began = time.monotonic()
    time.sleep(scene.random.uniform(0.0, 1.0))
    scene.service.start()
    return "service", time.monotonic() - began


def _lock_database(scene: Scene) -> Harm | None:
    """Another process writes for a long time."""
    seconds = scene.random.uniform(0.3, 3.0)
    connection = sqlite3.connect(scene.database, timeout=5, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        connection.close()
        return None
    scene.later(seconds, connection.close)
    return "database", seconds


def _fill_disk(scene: Scene) -> Harm | None:
    """For a while neither the agent nor the payloads that it starts can write a byte into a file."""
    berth = scene.living()
    if berth is None or berth.agent is None:
        return None
    return berth.name, _forbid_writing(scene, berth.agent.pid)


def _fill_disk_of_part(module: str) -> Callable[[Scene], Harm | None]:
    """The database cannot be written to by one of the service's processes."""

    def harm(scene: Scene) -> Harm | None:
        pid = scene.part(module)
        return None if pid is None else (f"{module} {pid}", _forbid_writing(scene, pid))

    return harm


def _forbid_writing(scene: Scene, pid: int) -> float:
    seconds = scene.random.uniform(0.3, 2.0)
    _limit_files(pid, (0, resource.RLIM_INFINITY))
    scene.later(seconds, lambda: _limit_files(pid, _UNLIMITED))
    return seconds


def _limit_files(pid: int, limits: tuple[int, int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def _harm_checkpoint(harm: Callable[[Shelf, random.Random], int | None]) -> Callable[[Scene], Harm | None]:
    """One that is needed at once, for its training is killed."""

    def do(scene: Scene) -> Harm | None:
        point = harm(scene.shelf, scene.random)
        if point is None:
            return None
        pid = scene.training_of(point)
        if pid is not None:
            _signal(pid, signal.SIGKILL)
        return f"point {point}", 0.0

    return do


def _store_away(scene: Scene) -> Harm | None:
    seconds = scene.random.uniform(0.3, 3.0)
    come_back = scene.shelf.depot.go_away()
    if come_back is None:
        return None
    scene.later(seconds, come_back)
    return "object store", seconds


def _clean_store(scene: Scene) -> Harm | None:
    """Old checkpoints are deleted while their points are at work."""
    return ("object store", 0.0) if scene.shelf.clean() else None


def _network(trouble: Trouble) -> Callable[[Scene], Harm | None]:
    def harm(scene: Scene) -> Harm | None:
        berth = scene.living()
        if berth is None:
            return None
        seconds = scene.random.uniform(0.5, 4.0)
        berth.proxy.trouble(trouble, seconds=seconds, share=scene.random.uniform(0.3, 1.0))
        return berth.name, seconds

    return harm


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what it does, and how often it is drawn in comparison."""

    harm: Callable[[Scene], Harm | None]
    weight: int


_WEB, _HOST = "gridtune_steering.api", "gridtune_steering.host"
#: Every kind of fault there is.
FAULTS: Final[dict[str, Kind]] = {
    "agent: kill -9": Kind(_kill_agent, 7),
    "agent: SIGTERM": Kind(_end_agent, 4),
    "agent: freeze": Kind(_freeze_agent, 4),
    "agent: no space on disk": Kind(_fill_disk, 2),
    "payload: kill -9": Kind(_kill_payload, 6),
    "payload: freeze": Kind(_freeze_payload, 3),
    "web: kill -9": Kind(_kill_part(_WEB), 2),
    "web: freeze": Kind(_freeze_part(_WEB), 2),
    "web: no space on disk": Kind(_fill_disk_of_part(_WEB), 2),
    "host: kill -9": Kind(_kill_part(_HOST), 2),
    "host: freeze": Kind(_freeze_part(_HOST), 2),
    "host: no space on disk": Kind(_fill_disk_of_part(_HOST), 1),
    "service: kill -9": Kind(_kill_service, 1),
    "service: kill -9 of all": Kind(_kill_everything, 1),
    "service: restart": Kind(_restart_service, 1),
    "database: locked": Kind(_lock_database, 2),
    "store: damaged checkpoint": Kind(_harm_checkpoint(Shelf.damage), 3),
    "store: lost checkpoint": Kind(_harm_checkpoint(Shelf.lose), 2),
    "store: away": Kind(_store_away, 3),
    "store: cleaned": Kind(_clean_store, 1),
    "network: reset a request": Kind(_network(Trouble.RESET_REQUEST), 3),
    "network: reset an answer": Kind(_network(Trouble.RESET_ANSWER), 4),
    "network: cut a request": Kind(_network(Trouble.CUT_REQUEST), 2),
    "network: cut an answer": Kind(_network(Trouble.CUT_ANSWER), 2),
    "network: delay": Kind(_network(Trouble.DELAY), 3),
    "network: black hole": Kind(_network(Trouble.BLACK_HOLE), 3),
}


# --- a run


def run(
    folder: Path, *, seed: int, n_faults: int, kinds: Mapping[str, Kind] = FAULTS, ceph: Ceph | None = None
) -> Outcome:
    """Do *n_faults* of these kinds to a task while it runs, let it come to its end, and gather what is left.

    Checkpoints are kept in a folder, or in *ceph* if there is one.
    """
    began = time.monotonic()
    depot: Depot = FolderDepot(folder) if ceph is None else BucketDepot(ceph, f"seed-{seed}-{time.time_ns()}")
    settings = {**SETTINGS, **depot.settings, **_quota(seed)}
    service = RealService(folder, settings=settings)
    shelf = Shelf(folder / "data", depot, settings)
    complaints: list[str] = []
    with contextlib.ExitStack() as leftovers:
        leftovers.callback(service.end)
        service.start()
        task = service.submit(_document(folder), train_py=TRAIN)
        berths = [leftovers.enter_context(_berth(service, task, number, seed)) for number in range(N_BERTHS)]
        scene = Scene(service, berths, shelf, FaultJournal(folder / "faults.jsonl"), random.Random(seed))
        leftovers.callback(_undo_everything, scene)
        for berth in berths:
            berth.start()
        wait_for("the first training", (folder / TRAININGS).exists)
        complaints += _do_harm(scene, task, n_faults, kinds)
        complaints += _come_to_an_end(scene, task)
        exported = service.export(task)
        complaints += _close(service)
    remains = shelf.remains()
    seconds = time.monotonic() - began
    return Outcome(folder, task, seed, scene.journal, berths, complaints, exported, shelf, remains, seconds)


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


def _do_harm(scene: Scene, task: str, n_faults: int, kinds: Mapping[str, Kind]) -> list[str]:
    """Do the faults, one after the other at the seed's pace; returns what went wrong meanwhile."""
    complaints: list[str] = []
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
    """Have the task extended in time."""
    query = "select max_points - (select count(*) from points where task_id = id and state = 'done') from tasks"
    with contextlib.closing(sqlite3.connect(scene.database, timeout=5)) as connection:
        [(n_left,)] = connection.execute(query).fetchall()
    if n_left < _POINTS_AHEAD / 2:
        with scene.service.client() as client:
            client.change_task(task, ChangeTask(new_request_id(), TaskAction.EXTEND, _POINTS_AHEAD))


def _state(scene: Scene, task: str) -> TaskState:
    with contextlib.closing(sqlite3.connect(scene.database, timeout=5)) as connection:
        [(state,)] = connection.execute("select state from tasks where id = ?", [task]).fetchall()
    return TaskState(state)


def _set_aside(scene: Scene) -> list[Berth]:
    query = "select site from workers where set_aside_until is not null"
    with contextlib.closing(sqlite3.connect(scene.database, timeout=5)) as connection:
        sites = {site for (site,) in connection.execute(query)}
    return [berth for berth in scene.berths if berth.name in sites]


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
