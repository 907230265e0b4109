"""Payloads in containers of Docker, or of Podman through its Docker-compatible socket.

The container has a read-only root, no capabilities, a user that is not root, no network unless the task asks for it,
and the limits of its slot. The working directory is mounted at `SEEN_AT`. Containers carry labels, so that those of an
agent that was killed are known to the next one; before that, the warden ends them.
"""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Callable, Final

import requests

from gridtune_common.protocol import Usage
from gridtune_common.units import show_bytes
from gridtune_evaluation.cache import Cache, FetchInterrupted
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.images import SEEN_AT, VARIABLES, Images, make_scratch_points, not_had
from gridtune_evaluation.runtimes.init import LEAVE, SCRIPT, Notes, open_lifeline
from gridtune_evaluation.runtimes.port import (
    EngineError,
    Exit,
    Image,
    ImageUnavailable,
    Job,
    Limits,
    RuntimeUnavailable,
)
from gridtune_evaluation.untrusted import touch
from gridtune_evaluation.workplace import lock_of

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_log = logging.getLogger("gridtune.agent")

_LABEL: Final = "org.gridtune.room"
#: Seconds for one answer of the engine, and between two words of a download.
_PATIENCE: Final = 60.0
#: The same for what a slot asks again and again.
_SHORT_PATIENCE: Final = 5.0
#: An engine that restarts is waited for; its containers may live on meanwhile.
_AWAY: Final = 60.0
#: Seconds between two lines about a download.
_NEWS: Final = 10.0
#: A container older than these seconds whose working directory cannot be seen from here is nobody's any more.
_UNSEEN: Final = 24 * 3600.0
#: The states of a container that has ended; some versions of Podman say "stopped" first.
_ENDED: Final = frozenset({"exited", "dead", "stopped"})
#: Payloads of an agent that is root run as nobody.
_NOBODY: Final = 65534
#: How a container ends that is removed.
_KILLED: Final = Exit(137, signal=9)


class Gone(EngineError):  # noqa: N818 - named for the fact
    """The engine does not know of what it was asked for."""


class Docker:
    """Runs a job's command by the shell of the job's image.

    Args:
        guard: Ends containers should the agent die.

    Raises:
        RuntimeUnavailable: The Python package is missing, or no engine answers.
    """

    name = "docker"

    def __init__(self, guard: OrphanGuard, cache: Cache) -> None:
        self._guard = guard
        self._address, self._client = _connect(self._addresses())
        with _translated("the engine"):
            self._engine = Engine(self._client.info())
            self._quick = _client(self._address, _SHORT_PATIENCE)
        self._network = os.environ.get("GRIDTUNE_CONTAINER_NETWORK") or "bridge"
        self._images = Images(self.name, self._bring)
        self._left: set[ContainerHandle] = set()
        self._lock = threading.Lock()

    def _addresses(self) -> Iterable[str]:
        if os.environ.get("DOCKER_HOST"):
            yield os.environ["DOCKER_HOST"]
            return
        yield "unix:///var/run/docker.sock"
        if os.environ.get("XDG_RUNTIME_DIR"):
            yield f"unix://{os.environ['XDG_RUNTIME_DIR']}/docker.sock"

    def locate(self, directory: Path) -> PurePosixPath:
        """The same for every payload."""
        return SEEN_AT

    def prepare(self, image: Image | None, keep_going: Callable[[], bool]) -> str:
        """Fetch the image as its rule says, once for this agent: all of its payloads get the same."""
        self._remove_left()
        return self._images.prepare(image, keep_going)

    def _bring(self, image: Image, keep_going: Callable[[], bool]) -> str:
        """The id of an image that is on this node now."""
        with _translated(f"the image {image.name}"):
            found = None if image.pull == "always" else self._find(image)
            if found is None and image.pull == "never":
                raise ImageUnavailable(f"the image {image.name} is not on this node, and payload.pull is never")
            if found is None:
                _pull(self._client, image.name, keep_going)
                found = self._find(image)
            if found is None:
                raise ImageUnavailable(f"the image {image.name} was fetched and is gone again; is the disk full?")
            return str(found)

    def _find(self, image: Image) -> str | None:
        try:
            return str(self._client.images.get(image.name).id)
        except _errors().ImageNotFound:
            return None

    def hand_over(self, directory: Path) -> None:
        """Make it, and all in it, the container's user's."""
        if self._engine.own is not None:
            _give(directory, self._engine.own)

    def start(self, job: Job) -> ContainerHandle:
        """Create and start a container."""
        if job.image is None:
            raise EngineError("there is no image to run the command in")
        self._remove_left()
        make_scratch_points(job, [(path, PurePosixPath(path)) for path in job.inputs])
        container = self._create(job, job.image)
        quick = self._quick.containers.prepare_model({"Id": container.id})
        alive = open_lifeline(job.directory / ".gridtune", self._engine.own)
        handle = ContainerHandle(quick, job, alive, self._guard, self._address, self.name, self._keep)
        try:
            with _translated("the container"):
                container.start()
        except EngineError:
            handle.close()
            raise
        return handle

    def _create(self, job: Job, image: Image) -> Container:
        called = self._images.ready(image)
        try:
            with _translated("the container"):
                return self._client.containers.create(called, **self._options(job))
        except Gone as error:
            self._images.forget(image, called)
            raise ImageUnavailable(f"the image {image.name} was removed from this node: {error}") from error

    def _options(self, job: Job) -> Mapping[str, Any]:
        types = _types()
        limits = job.limits
        mounts = [types.Mount(str(SEEN_AT), str(job.directory), type="bind")]
        mounts += [types.Mount(str(path), str(path), type="bind", read_only=True) for path in job.inputs]
        if job.scratch is not None:
            mounts.append(types.Mount("/tmp", str(job.scratch), type="bind"))  # noqa: S108 - of this job alone
        return {
            "entrypoint": ["/bin/sh", "-c", SCRIPT, "gridtune"],
            "command": [job.command, str(SEEN_AT / job.output.name)],
            "environment": {**VARIABLES, **job.variables},
            "working_dir": str(SEEN_AT),
            "mounts": mounts,
            "user": self._engine.user,
            "userns_mode": self._engine.userns_mode,
            "cgroupns": self._engine.cgroupns,
            "labels": {_LABEL: str(job.directory)},
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges", "label=disable"],  # what is mounted has no label of SELinux's
            "network_mode": self._network if limits.network else "none",
            **self._engine.limited(limits),
            "shm_size": _shared_memory(limits),
            "device_requests": [self._request(limits.gpus)] if limits.gpus else None,
            "log_config": types.LogConfig(type="none"),
            "detach": True,
        }

    def _request(self, gpus: Sequence[str]) -> Mapping[str, Any]:
        request: Mapping[str, Any] = _types().DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])
        return request

    def sweep(self) -> None:
        """Remove the containers of agents that do not live any more."""
        try:
            with _translated("what is left of dead agents"):
                for container in self._client.containers.list(all=True, filters={"label": _LABEL}, sparse=True):
                    room = Path(container.attrs["Labels"][_LABEL])
                    if _is_abandoned(room) or _is_forgotten(room, container.attrs):
                        text = "Removing container %s, left by an agent that was killed."
                        _log.info(text, container.short_id, extra={"action": "container_swept"})
                        container.remove(force=True, v=True)
        except EngineError as error:  # another agent may be faster
            _log.warning("Cannot remove what dead agents left: %s", error, extra={"action": "sweep_failed"})

    def close(self) -> None:
        """Remove what could not be removed before, and close the connections to the engine."""
        self._remove_left()
        self._quick.close()
        self._client.close()

    def _keep(self, handle: ContainerHandle) -> None:
        """Remember a container that could not be removed."""
        with self._lock:
            self._left.add(handle)

    def _remove_left(self) -> None:
        with self._lock:
            left, self._left = self._left, set()
        for handle in left:
            handle.close()  # which comes back to `_keep` if it fails again


class Podman(Docker):
    """The same engine's interface at Podman's socket."""

    name = "podman"

    def _addresses(self) -> Iterable[str]:
        if os.environ.get("CONTAINER_HOST"):
            yield os.environ["CONTAINER_HOST"]
            return
        if os.environ.get("XDG_RUNTIME_DIR"):
            yield f"unix://{os.environ['XDG_RUNTIME_DIR']}/podman/podman.sock"
        yield "unix:///run/podman/podman.sock"

    def _request(self, gpus: Sequence[str]) -> Mapping[str, Any]:
        names = [f"nvidia.com/gpu={gpu}" for gpu in gpus]
        request: Mapping[str, Any] = _types().DeviceRequest(driver="cdi", device_ids=names)
        return request


class ContainerHandle:
    """A container, from its creation to its removal."""

    def __init__(
        self,
        container: Container,
        job: Job,
        alive: int | None,
        guard: OrphanGuard,
        address: str,
        runtime: str,
        keep: Callable[[ContainerHandle], None],
    ) -> None:
        self._container = container
        self._room = Path(job.directory)
        self._control = self._room / ".gridtune"
        self._alive = alive
        self._guard = guard
        self._runtime = runtime
        self._keep = keep
        self._exit: Exit | None = None
        self._was_told = False
        self._owed: str | None = None
        self._is_gone = False
        self._is_left = False
        self._silent_since: float | None = None
        self._started = time.monotonic()
        self._wall_seconds: float | None = None
        self._key = f"{address.removeprefix('unix://')} {container.id}" if address.startswith("unix://") else ""
        if self._key:
            guard.watch(self._key)

    def poll(self) -> Exit | None:
        """How the container's first process ended; the kernel ends all others with it."""
        if self._exit is None:
            self._exit = self._look()
        if self._exit is not None and self._wall_seconds is None:
            self._wall_seconds = time.monotonic() - self._started
        return self._exit

    def terminate(self) -> None:
        """Send SIGTERM to the first process, which hands it on."""
        self._was_told = True
        with suppress(OSError):  # the payload may have removed the folder
            touch(self._room, self._control / LEAVE)
        self._signal("SIGTERM")

    def kill(self) -> None:
        """Send SIGKILL to the first process, and thereby to all."""
        self._was_told = True
        self._signal("SIGKILL")

    def usage(self) -> Usage:
        """By the container's control groups, file cache included."""
        notes = Notes.read(self._control)
        wall = self._wall_seconds if self._wall_seconds is not None else time.monotonic() - self._started
        return Usage(
            wall_seconds=round(wall, 3),
            cpu_seconds=notes.cpu_seconds,
            peak_memory_bytes=notes.peak_memory_bytes,
            runtime=self._runtime,
        )

    def close(self) -> None:
        """Remove the container, running or not; one that cannot be removed now is left to the runtime."""
        if self._is_gone:
            return
        try:
            with _translated("the container's removal"), suppress(_errors().NotFound):
                self._container.remove(force=True, v=True)
        except EngineError as error:
            self._leave(error)
            return
        finally:
            self._let_go()  # not before: an engine fails to stop what is just ending by itself
        self._is_gone = True
        self._exit = self._exit or _KILLED
        if self._key:
            self._guard.forget(self._key)

    def _let_go(self) -> None:
        """End the lifeline: what cannot be removed ends itself."""
        if self._alive is not None:
            os.close(self._alive)
        self._alive = None

    def _leave(self, error: EngineError) -> None:
        if not self._is_left:
            text = "Container %s is left for later: %s"
            _log.warning(text, self._container.short_id, error, extra={"action": "container_left"})
        self._is_left = True
        self._keep(self)

    def _look(self) -> Exit | None:
        try:
            state = self._state()
        except Gone:  # somebody removed it
            return _KILLED
        if state is None:
            return None
        if state["Status"] in _ENDED:
            return self._read(state)
        if self._owed is not None:
            self._signal(self._owed)
        return None

    def _state(self) -> Mapping[str, Any] | None:
        """What the engine says; None if it is away, which is borne for a while."""
        try:
            with _translated("the container"):
                self._container.reload()
        except Gone:
            raise
        except EngineError as error:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since > _AWAY:
                raise EngineError(f"the engine has been away for {_AWAY:g} s: {error}") from error
            return None
        self._silent_since = None
        state: Mapping[str, Any] = self._container.attrs["State"]
        return state

    def _read(self, state: Mapping[str, Any]) -> Exit:
        notes = Notes.read(self._control)
        code = int(state["ExitCode"])
        out_of_memory = code != 0 and (bool(state.get("OOMKilled")) or notes.n_killed > 0)
        return Exit(
            code,
            is_out_of_memory=out_of_memory,
            is_evicted=notes.was_asked and not self._was_told and not out_of_memory,
        )

    def _signal(self, name: str) -> None:
        if self._exit is not None or self._is_gone:
            return
        try:
            with _translated("the container"):
                self._container.kill(name)
        except EngineError as error:  # either it has just ended, which the next poll shows, or the engine is away
            _log.debug("%s was not delivered: %s", name, error)
            self._owed = name
        else:
            self._owed = None


class Engine:
    """What an engine says of itself, and what follows for containers.

    Args:
        info: In the engine's words; what it does not mention, it can do.

    Attributes:
        user: As whom payloads run, for the engine.
        own: Whose the working directory has to be, if not the agent's.
        userns_mode: Where the engine gives containers other users, theirs are the node's all the same.
        cgroupns: With version 2 of control groups a container could see the node's instead of its own.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        options = info.get("SecurityOptions") or []
        self.user, self.own = _user(is_rootless=any("rootless" in option for option in options))
        self.userns_mode = "host" if any(option.startswith("name=userns") for option in options) else None
        self.cgroupns = "private" if info.get("CgroupVersion") == "2" else None
        self._cannot = {name for name in ("CPUSet", "MemoryLimit", "CpuCfsQuota") if info.get(name) is False}
        self._has_told = False

    def limited(self, limits: Limits) -> Mapping[str, Any]:
        """The limits of a payload as options, but for those that this engine cannot set."""
        wanted: dict[str, Mapping[str, Any]] = {}
        if limits.cpus is not None:
            wanted["CPUSet"] = {"cpuset_cpus": ",".join(map(str, limits.cpus))}
        elif limits.n_cpus is not None and limits.n_cpus < (os.cpu_count() or 1):
            wanted["CpuCfsQuota"] = {"nano_cpus": limits.n_cpus * 10**9}
        if limits.memory_bytes is not None:  # together with swap: none of it
            wanted["MemoryLimit"] = {"mem_limit": limits.memory_bytes, "memswap_limit": limits.memory_bytes}
        self._tell(sorted(self._cannot & wanted.keys()))
        return {name: value for ability in wanted.keys() - self._cannot for name, value in wanted[ability].items()}

    def _tell(self, missing: Sequence[str]) -> None:
        if missing and not self._has_told:
            self._has_told = True
            text = "The container engine of this node cannot limit payloads (%s); they may use more than their share."
            _log.warning(text, ", ".join(missing), extra={"action": "limits_missing"})


def _user(*, is_rootless: bool) -> tuple[str, int | None]:
    if is_rootless:
        return "0:0", None  # which is the agent's user outside
    if os.getuid() == 0:
        return f"{_NOBODY}:{_NOBODY}", _NOBODY
    return f"{os.getuid()}:{os.getgid()}", None


def _shared_memory(limits: Limits) -> int:
    """The size of /dev/shm: programs that load data need much of it, and it counts as memory in any case."""
    memory = limits.memory_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return memory // 2


def _give(directory: Path, user: int) -> None:
    """Make a folder, and all in it, another user's."""
    os.chown(directory, user, user)
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), user, user, follow_symlinks=False)


def _connect(addresses: Iterable[str]) -> tuple[str, DockerClient]:
    try:
        importlib.import_module("docker")
    except ImportError as error:
        raise RuntimeUnavailable("the Python package docker is missing: pip install 'gridtune[docker]'") from error
    reasons = []
    for address in addresses:
        if address.startswith("unix://") and not os.path.exists(address.removeprefix("unix://")):
            reasons.append(f"{address}: there is no such socket")
            continue
        try:
            with _translated("the engine"):
                return address, _client(address, _PATIENCE)
        except EngineError as error:
            reasons.append(f"{address}: {error}")
    raise RuntimeUnavailable("no engine answers at " + ", or at ".join(reasons))


def _client(address: str, patience: float) -> DockerClient:
    docker = importlib.import_module("docker")
    is_named = address == os.environ.get("DOCKER_HOST")
    place = docker.utils.kwargs_from_env() if is_named else {"base_url": address}  # the former with its certificates
    client: DockerClient = docker.DockerClient(**place, timeout=patience)
    try:
        client.ping()
    except BaseException:  # whatever it was, it goes on to the caller
        client.close()
        raise
    return client


def _errors() -> Any:
    return importlib.import_module("docker.errors")


def _types() -> Any:
    return importlib.import_module("docker.types")


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Errors of the engine's package, and of the network below it, become ours."""
    errors = _errors()
    try:
        yield
    except errors.APIError as error:
        kind = Gone if isinstance(error, errors.NotFound) else EngineError
        raise kind(f"{what}: {_words(str(error.explanation or error))}") from error
    except (errors.DockerException, requests.RequestException) as error:
        raise EngineError(f"{what}: {_words(str(error))}") from error


def _words(text: str) -> str:
    hint = "; the image needs a shell at /bin/sh" if "/bin/sh" in text and "no such file" in text else ""
    return " ".join(text.split())[:500] + hint


def _pull(client: DockerClient, name: str, keep_going: Callable[[], bool]) -> None:
    """Fetch an image, and say from time to time how far it has come."""
    docker = importlib.import_module("docker")
    repository, tag = docker.utils.parse_repository_tag(name)
    _log.info("Fetching the image %s.", name, extra={"action": "image_fetch_began"})
    layers: dict[str, tuple[int, int]] = {}
    news_at = time.monotonic() + _NEWS
    try:
        for word in client.api.pull(repository, tag or "latest", stream=True, decode=True):
            if not keep_going():
                raise FetchInterrupted("fetching an image")
            if "error" in word:
                raise not_had(name, str(word["error"]))
            detail = word.get("progressDetail") or {}
            if word.get("status") == "Downloading" and "total" in detail:
                layers[word["id"]] = (int(detail["current"]), int(detail["total"]))
            if time.monotonic() > news_at:
                have, total = (show_bytes(sum(numbers)) for numbers in zip(*layers.values() or [(0, 0)]))
                _log.info("Fetching the image %s: %s of %s.", name, have, total, extra={"action": "image_fetch"})
                news_at = time.monotonic() + _NEWS
    except docker.errors.APIError as error:
        raise not_had(name, str(error.explanation or error)) from error
    _log.info("Fetched the image %s.", name, extra={"action": "image_fetch_ended"})


def _is_forgotten(room: Path, listed: Mapping[str, Any]) -> bool:
    """Whether a container ended long ago whose agent cannot be seen from here; of a running one the agent may live."""
    return (
        not room.parent.is_dir() and listed["State"] in {"exited", "dead"} and time.time() - listed["Created"] > _UNSEEN
    )


def _is_abandoned(room: Path) -> bool:
    """Whether the agent of a working directory does not live any more; no if that cannot be seen from here."""
    if not room.parent.is_dir():
        return False
    try:
        with open(lock_of(room), "r+") as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return True
    except OSError:
        return False
