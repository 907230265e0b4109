"""Docker's own package and the engine behind it: how to reach it, what it says of itself, and its errors as ours."""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Final

import requests

from gridtune_common.units import show_bytes
from gridtune_evaluation.cache import FetchInterrupted
from gridtune_evaluation.runtimes.images import not_had
from gridtune_evaluation.runtimes.port import EngineError, Limits, RuntimeUnavailable

if TYPE_CHECKING:
    from docker import DockerClient

_log = logging.getLogger("gridtune.agent")

#: Seconds for one answer of the engine, and between two words of a download.
PATIENCE: Final = 60.0
#: The same for what a slot asks again and again.
SHORT_PATIENCE: Final = 5.0
#: Seconds between two lines about a download.
_NEWS: Final = 10.0
#: Payloads of an agent that is root run as nobody.
_NOBODY: Final = 65534


class Gone(EngineError):  # noqa: N818 - named for the fact
    """The engine does not know of what it was asked for."""


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


def connect(addresses: Iterable[str]) -> tuple[str, DockerClient]:
    """The first engine that answers, and where.

    Raises:
        RuntimeUnavailable: None does, or the package is missing.
    """
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
            with translated("the engine"):
                return address, client_at(address, PATIENCE)
        except EngineError as error:
            reasons.append(f"{address}: {error}")
    raise RuntimeUnavailable("no engine answers at " + ", or at ".join(reasons))


def client_at(address: str, patience: float) -> DockerClient:
    """A client of an engine that answers, with so many seconds for each answer."""
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


def errors_of_sdk() -> Any:
    """The package's errors, loaded on use: it is an extra."""
    return importlib.import_module("docker.errors")


def types_of_sdk() -> Any:
    """The package's types, likewise."""
    return importlib.import_module("docker.types")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the engine's package, and of the network below it, become ours."""
    errors = errors_of_sdk()
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


def pull(client: DockerClient, name: str, keep_going: Callable[[], bool]) -> None:
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
