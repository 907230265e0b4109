"""Payloads in containers of Docker, or of Podman through its Docker-compatible socket.

The container has a read-only root, no capabilities, a user that is not root, no network unless the task asks for it,
and the limits of its slot. The working directory is mounted at `SEEN_AT`. Containers carry labels, so that those of an
agent that was killed are known to the next one; before that, the warden ends them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Callable, Final

from gridtune_evaluation.cache import Cache
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.container import ContainerHandle
from gridtune_evaluation.runtimes.engine import (
    SHORT_PATIENCE,
    Engine,
    Gone,
    client_at,
    connect,
    errors_of_sdk,
    pull,
    translated,
    types_of_sdk,
)
from gridtune_evaluation.runtimes.images import SEEN_AT, VARIABLES, Images, make_scratch_points
from gridtune_evaluation.runtimes.init import SCRIPT, open_lifeline
from gridtune_evaluation.runtimes.port import (
    EngineError,
    Image,
    ImageUnavailable,
    Job,
    Limits,
)
from gridtune_evaluation.workplace import lock_of

if TYPE_CHECKING:
    from docker.models.containers import Container

_log = logging.getLogger("gridtune.agent")

_LABEL: Final = "org.gridtune.room"
#: A container older than these seconds whose working directory cannot be seen from here is nobody's any more.
_UNSEEN: Final = 24 * 3600.0


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
        self._address, self._client = connect(self._addresses())
        with translated("the engine"):
            self._engine = Engine(self._client.info())
            self._quick = client_at(self._address, SHORT_PATIENCE)
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
        with translated(f"the image {image.name}"):
            found = None if image.pull == "always" else self._find(image)
            if found is None and image.pull == "never":
                raise ImageUnavailable(f"the image {image.name} is not on this node, and payload.pull is never")
            if found is None:
                pull(self._client, image.name, keep_going)
                found = self._find(image)
            if found is None:
                raise ImageUnavailable(f"the image {image.name} was fetched and is gone again; is the disk full?")
            return str(found)

    def _find(self, image: Image) -> str | None:
        try:
            return str(self._client.images.get(image.name).id)
        except errors_of_sdk().ImageNotFound:
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
            with translated("the container"):
                container.start()
        except EngineError:
            handle.close()
            raise
        return handle

    def _create(self, job: Job, image: Image) -> Container:
        called = self._images.ready(image)
        try:
            with translated("the container"):
                return self._client.containers.create(called, **self._options(job))
        except Gone as error:
            self._images.forget(image, called)
            raise ImageUnavailable(f"the image {image.name} was removed from this node: {error}") from error

    def _options(self, job: Job) -> Mapping[str, Any]:
        types = types_of_sdk()
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
        request: Mapping[str, Any] = types_of_sdk().DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])
        return request

    def sweep(self) -> None:
        """Remove the containers of agents that do not live any more."""
        try:
            with translated("what is left of dead agents"):
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
        request: Mapping[str, Any] = types_of_sdk().DeviceRequest(driver="cdi", device_ids=names)
        return request


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
