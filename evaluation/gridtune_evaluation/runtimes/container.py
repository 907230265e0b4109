"""One container of an engine, from its creation to its removal."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Final

from gridtune_common.protocol import Usage
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.runtimes.engine import Gone, errors_of_sdk, translated
from gridtune_evaluation.runtimes.init import LEAVE, Notes
from gridtune_evaluation.runtimes.port import EngineError, Exit, Job
from gridtune_evaluation.untrusted import touch

if TYPE_CHECKING:
    from docker.models.containers import Container

_log = logging.getLogger("gridtune.agent")

#: An engine that restarts is waited for; its containers may live on meanwhile.
_AWAY: Final = 60.0
#: The states of a container that has ended; some versions of Podman say "stopped" first.
_ENDED: Final = frozenset({"exited", "dead", "stopped"})
#: How a container ends that is removed.
_KILLED: Final = Exit(137, signal=9)


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
            with translated("the container's removal"), suppress(errors_of_sdk().NotFound):
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
            with translated("the container"):
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
            with translated("the container"):
                self._container.kill(name)
        except EngineError as error:  # either it has just ended, which the next poll shows, or the engine is away
            _log.debug("%s was not delivered: %s", name, error)
            self._owed = name
        else:
            self._owed = None
