"""The inputs of a task: in the node's cache, and as links in each working directory.

A link is symbolic: the cache is often on another disk than the working directory, and ``file://`` always may be, where
hard links end. It also shows where the data really is. What it leads to is read-only.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import socket
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Callable, Final
from urllib.parse import unquote, urlsplit

from gridtune_common.taskfile.data import DataSource
from gridtune_common.units import show_seconds
from gridtune_evaluation import fetching
from gridtune_evaluation.cache import Allowance, Cache, DataUnavailable, Entry, FetchInterrupted
from gridtune_evaluation.contract import Room
from gridtune_evaluation.fetching import AddressDesk, Halt, NoAddress, show_url
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.plan import Plan

__all__ = ["DataUnavailable", "FetchInterrupted", "Inputs", "Supplies", "fetch_data"]

_log = logging.getLogger("gridtune.agent")

#: Seconds between two questions whether to go on.
_LOOK: Final = 0.1
#: Seconds that a fetch which was told to end is waited for.
_LAST_WAIT: Final = 2.0
#: A checksum that is wrong may be a bad moment of the network, once.
_TRIES: Final = 2


class Inputs:
    """Brings inputs to this node. Safe to share between threads.

    Args:
        cache: Where they are kept.
        guard: Ends commands should the agent die.
        desk: Gives addresses of objects in S3.
        patience: Seconds without a new byte after which a download is given up.
    """

    def __init__(
        self, cache: Cache, guard: OrphanGuard, desk: AddressDesk, patience: float = fetching.PATIENCE
    ) -> None:
        self._cache = cache
        self._guard = guard
        self._desk = desk
        self._patience = patience
        self._verified: dict[Any, str] = {}
        self._verifying = threading.Lock()

    def prepare(self) -> None:
        """Make the cache's folder.

        Raises:
            ConfigurationError: It cannot be used.
        """
        self._cache.prepare()

    def get(self, path: str, source: DataSource, keep_going: Callable[[], bool]) -> Entry:
        """An input on this node, which stays there until the answer is closed.

        Raises:
            DataUnavailable: It cannot be had.
            FetchInterrupted: *keep_going* said no.
        """
        try:
            if source.url is not None and urlsplit(source.url).scheme == "file":
                return Entry(self._on_this_node(source, keep_going))
            bring = _Bring(self, path, source, keep_going)
            return self._cache.entry(_key(path, source), bring, keep_going)
        except DataUnavailable as error:
            raise DataUnavailable(f"payload.data.{path}: {error}") from error
        except (OSError, ValueError) as error:
            raise DataUnavailable(f"payload.data.{path} cannot be kept in {self._cache.folder}: {error}") from error

    def fetch(self, source: DataSource, target: Path, allowance: Allowance, halt: Halt) -> Path:
        """Fetch an input into a folder, and check it; return where it is."""
        flaw = ""
        for _ in range(_TRIES):
            _empty(target.parent)
            found = self._fetch_once(source, target, allowance, halt)
            flaw = fetching.flaw_of(found, source, halt)
            if not flaw:
                return found
            text = "%s arrived damaged (%s)."
            _log.warning(text, target.name, flaw, extra={"action": "data_damaged"})
        raise DataUnavailable(f"{_origin(source)} is not what was meant: {flaw}; correct the task, or the data")

    def _fetch_once(self, source: DataSource, target: Path, allowance: Allowance, halt: Halt) -> Path:
        if source.url is None:
            return fetching.fetch_by_command(source, target, halt, self._guard)
        is_checked = source.sha256 is not None
        if urlsplit(source.url).scheme == "s3":
            self._fetch_s3(source.url, target, allowance, halt, is_checked)
        else:
            fetching.fetch_http(source.url, target, allowance, halt, self._patience, is_checked=is_checked)
        return target

    def _fetch_s3(self, url: str, target: Path, allowance: Allowance, halt: Halt, is_checked: bool) -> None:
        """By an address that the service signs, or else with what the user has on this node."""
        try:
            fetching.fetch_signed(url, target, self._desk, allowance, halt, self._patience, is_checked=is_checked)
        except NoAddress as no_address:
            text = "%s; trying it with the S3 profile of this node."
            _log.info(text, no_address, extra={"action": "fetch_by_profile"})
            try:
                fetching.fetch_s3(url, target, allowance, halt, self._guard, self._patience)
            except DataUnavailable as error:
                raise DataUnavailable(f"{error}. Nor does the service give an address: {no_address}") from error

    def _on_this_node(self, source: DataSource, keep_going: Callable[[], bool]) -> Path:
        """The file or folder itself: what is on this node already is not copied."""
        path = Path(unquote(urlsplit(source.url or "").path))
        errand = _Errand(lambda halt: self._check_file(path, source, halt))
        return errand.done(keep_going, source.timeout_seconds)

    def _check_file(self, path: Path, source: DataSource, halt: Halt) -> Path:
        """Check that a file is there and is the right one, the latter once for each of its versions."""
        try:
            found = path.stat()
        except OSError as error:
            raise DataUnavailable(f"{path} cannot be had on {socket.gethostname()}: {error.strerror}") from error
        version = (path, found.st_ino, found.st_size, found.st_mtime_ns, source)
        with self._verifying:  # a checksum by one slot is a checksum for all; nothing else waits here
            if version not in self._verified:
                self._verified[version] = fetching.flaw_of(path, source, halt)
            flaw = self._verified[version]
        if flaw:
            raise DataUnavailable(f"{path} on {socket.gethostname()} is not what was meant: {flaw}")
        return path


class Supplies:
    """The inputs of one evaluation, linked into its directory; closed when nobody reads them any more.

    Attributes:
        paths: Where they really are, by their path below the working directory.
    """

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}
        self._held = ExitStack()

    def add(self, path: str, entry: Entry) -> None:
        """Take over an input."""
        self._held.enter_context(closing(entry))
        self.paths[path] = entry.path

    def close(self) -> None:
        """Let go of the inputs. Can be repeated."""
        self._held.close()

    def __enter__(self) -> Supplies:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fetch_data(plan: Plan, room: Room, inputs: Inputs, keep_going: Callable[[], bool]) -> Supplies:
    """Link the task's inputs into a working directory, and fetch before what this node does not have.

    Args:
        plan: Says which inputs.
        room: The working directory.
        inputs: Brings them to this node.
        keep_going: Asked several times a second for as long as it takes.

    Returns:
        What keeps the inputs in the cache; to be closed after the payload's end.

    Raises:
        DataUnavailable: An input cannot be had on this node.
        FetchInterrupted: *keep_going* said no.
        OSError: The working directory.
    """
    supplies = Supplies()
    try:
        for path, source in plan.data.items():
            supplies.add(path, inputs.get(path, source, keep_going))
            link = room.directory / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(supplies.paths[path])
    except BaseException:  # whatever it was, nobody reads them; it goes on to the caller
        supplies.close()
        raise
    return supplies


class _Bring:
    """Brings one input into the cache."""

    def __init__(self, inputs: Inputs, path: str, source: DataSource, keep_going: Callable[[], bool]) -> None:
        self._inputs = inputs
        self._path = path
        self._source = source
        self._keep_going = keep_going

    def __call__(self, folder: Path, allowance: Allowance) -> Path:
        """Fetch it, in a thread that can be left alone with a network that does not answer."""
        source, target = self._source, folder / Path(self._path).name
        _log.info("Fetching %s from %s.", self._path, _origin(source), extra={"action": "fetch_began"})
        if source.size_bytes is not None:
            allowance.need(source.size_bytes)
        began = time.monotonic()
        errand = _Errand(lambda halt: self._inputs.fetch(source, target, allowance, halt))
        found = errand.done(self._keep_going, source.timeout_seconds)
        lasted = show_seconds(time.monotonic() - began)
        _log.info("Fetched %s in %s.", self._path, lasted, extra={"action": "fetch_ended"})
        return found


class _Errand(threading.Thread):
    """Does something that may take long, or hang, beside a caller who must not."""

    def __init__(self, task: Callable[[Halt], Path]) -> None:
        super().__init__(name="fetch", daemon=True)
        self._task = task
        self._halt = Halt()
        self._result: Path | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        """Do it; an error of the agent itself is shown by the interpreter."""
        try:
            self._result = self._task(self._halt)
        except (DataUnavailable, FetchInterrupted, OSError, ValueError) as error:
            self._error = error

    def done(self, keep_going: Callable[[], bool], timeout: float) -> Path:
        """Have it done, and return what came of it."""
        self.start()
        deadline = time.monotonic() + timeout
        while self.is_alive():
            if not keep_going():
                self._leave()
                raise FetchInterrupted("fetching an input")
            if time.monotonic() > deadline:
                self._leave()
                limit = show_seconds(timeout)
                raise DataUnavailable(f"fetching it took longer than its timeout, {limit}; give it a longer one")
            self.join(_LOOK)
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise DataUnavailable("fetching it broke off by an error of the agent, which is in its log")
        return self._result

    def _leave(self) -> None:
        self._halt.call()
        self.join(_LAST_WAIT)


def _key(path: str, source: DataSource) -> str:
    """The name of an input in the cache: its checksum, or else what it is made of."""
    if source.sha256 is not None:
        return source.sha256
    made_of = ["url", source.url] if source.url is not None else ["command", source.command, path]
    return hashlib.sha256(repr([*made_of, source.size_bytes]).encode()).hexdigest()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _origin(source: DataSource) -> str:
    return show_url(source.url) if source.url is not None else "its command"
