"""Last words on disk: what an agent has to say about an evaluation is written down before it is first said.

``spool/<request_id>.json`` holds one message, without the token, until the service has answered it;
``spool/refused/`` keeps those that it refused, with its reasons. Each file is locked by the process that is
delivering it, so agents can share a spool, and what a dead agent left behind is free for the next one.
Where the file system knows no locks two agents may deliver the same message, which its request id makes
harmless.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gridtune_common import protocol, wire
from gridtune_common.errors import ServiceError
from gridtune_evaluation.steering import Final as FinalWord
from gridtune_evaluation.workplace import make_private

_log = logging.getLogger("gridtune.agent")

_KINDS: Final[dict[str, Any]] = {"tell": protocol.Tell, "fail": protocol.Fail, "release": protocol.Release}


@dataclass(frozen=True)
class Letter:
    """A last word and where it belongs."""

    server: str
    task: str
    evaluation: str
    message: FinalWord


class Held:
    """A letter whose delivery is this process's business, until one of the three methods is called.

    Attributes:
        letter: What to deliver.
    """

    def __init__(self, letter: Letter, path: Path | None, descriptor: int | None) -> None:
        self.letter = letter
        self._path = path
        self._descriptor = descriptor

    def delivered(self) -> None:
        """The service has answered; forget the letter."""
        if self._path is not None:
            with _tolerance(self._path):
                self._path.unlink()
        self._let_go()

    def refused(self, reason: str) -> None:
        """The service will never take it: put it aside with the *reason*."""
        if self._path is not None:
            with _tolerance(self._path):
                aside = self._path.parent / "refused" / self._path.name
                os.replace(self._path, aside)
                aside.write_text(_written(self.letter, reason), encoding="utf-8")
        self._let_go()

    def left(self) -> None:
        """It could not be delivered now; leave it to the next agent."""
        self._let_go()

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


class Spool:
    """The letters of all agents that share a work folder. Safe to share between threads."""

    def __init__(self, work: Path) -> None:
        self._folder = work / "spool"
        make_private(self._folder)
        make_private(self._folder / "refused")

    def put(self, letter: Letter) -> Held:
        """Write a letter down; it is on disk, whole and locked, when this returns.

        A full disk does not stop a result: then the letter lives in memory alone.
        """
        path = self._folder / f"{letter.message.request_id}.json"
        draft = path.with_suffix(".draft")
        try:
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            _lock(descriptor)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(_written(letter).encode())
            os.fsync(descriptor)
            os.replace(draft, path)
            _sync_folder(self._folder)
        except OSError as error:
            _log.error("Cannot write %s, keeping it in memory: %s", path, error, extra={"action": "spool_failed"})
            return Held(letter, None, None)
        return Held(letter, path, descriptor)

    def leftovers(self, server: str) -> Iterator[Held]:
        """Letters to *server* that nobody delivers."""
        for path in sorted(self._folder.glob("*.json")):
            held = self._take(path)
            if held is None:
                continue
            if held.letter.server == server:
                yield held
            else:
                held.left()

    def _take(self, path: Path) -> Held | None:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return None  # another agent was faster
        if not _lock(descriptor) or not _is_there(path, descriptor):
            os.close(descriptor)
            return None
        try:
            return Held(_read(path), path, descriptor)
        except (OSError, ValueError, KeyError, TypeError, ServiceError) as error:
            _log.error("Cannot read %s, leaving it: %s", path, error, extra={"action": "spool_unreadable"})
            os.close(descriptor)
            return None


@contextmanager
def _tolerance(path: Path) -> Iterator[None]:
    """A disk in trouble does not stop an agent that has just got its answer."""
    try:
        yield
    except OSError as error:
        _log.warning("Cannot tidy up %s: %s", path, error, extra={"action": "spool_failed"})


def _written(letter: Letter, refusal: str = "") -> str:
    kind = next(kind for kind, message in _KINDS.items() if isinstance(letter.message, message))
    data = {
        "server": letter.server,
        "task": letter.task,
        "evaluation": letter.evaluation,
        "kind": kind,
        "message": wire.encode(letter.message),
    }
    return json.dumps({**data, "refusal": refusal} if refusal else data, indent=1) + "\n"


def _read(path: Path) -> Letter:
    data = json.loads(path.read_text(encoding="utf-8"))
    message = wire.decode(_KINDS[data["kind"]], data["message"])
    return Letter(data["server"], data["task"], data["evaluation"], message)


def _lock(descriptor: int) -> bool:
    """Whether nobody else holds this file; without a word from the file system, assume so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether the open file still has its name: its last holder may have delivered it meanwhile."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
