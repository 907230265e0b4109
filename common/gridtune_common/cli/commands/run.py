"""Tune on this machine: starts a service and workers, shows the task live, and writes its results.

    gridtune run task.yaml

Everything is kept in the data folder. Ctrl-C gives running points back and pauses the task; with --resume it
goes on where it was. A service that already runs on the data folder is used, and left running.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from gridtune_common import protocol
from gridtune_common.cli import arguments as kinds
from gridtune_common.cli import closing, connection, exits, follow, halt, loading, output, text
from gridtune_common.cli.commands import submit
from gridtune_common.client import Client, new_request_id
from gridtune_common.embedded import Service, Workers
from gridtune_common.errors import ConfigurationError, MachineUnfit, ServiceError
from gridtune_common.settings import Connection, Secret

if TYPE_CHECKING:
    from gridtune_common.taskfile import LoadedTask

_MOST_WORKERS = 4
_UNFINISHED = (protocol.TaskState.RUNNING, protocol.TaskState.PAUSED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a task file, YAML or JSON")
    parser.add_argument(
        "--workers", type=kinds.positive, metavar="N", help="points at the same time (the CPUs, 4 at most)"
    )
    parser.add_argument("--points", type=kinds.positive, metavar="N", help="make N points, whatever the file says")
    parser.add_argument("--resume", action="store_true", help="go on with the newest unfinished task of that name")
    parser.add_argument("--task", metavar="TASK", help="go on with this task instead")
    parser.add_argument("--results", type=Path, metavar="DIR", help="gridtune-results/NAME-ID if not given")
    parser.add_argument("--data", metavar="DIR", help="where everything is kept (GRIDTUNE_DATA; gridtune-data)")


def run(arguments: argparse.Namespace) -> int:
    """Tune on this machine."""
    loaded = loading.load(arguments.file)
    for note in loading.notes(loaded):
        output.note(note)
    data = connection.settings_of(argparse.Namespace(data=arguments.data)).data
    output.note(f"starting the service on {data}{os.sep}")
    with _interruptible(), Service(data) as service:
        output.note(f"service at {service.url}")
        with connection.connected(Connection(service.url, service.token), retry_for=30.0) as client:
            task = _resumed(client, arguments, loaded) if _goes_on(arguments) else _submitted(client, arguments, loaded)
            return _LocalRun(arguments, service, client, task).go()


def _goes_on(arguments: argparse.Namespace) -> bool:
    return arguments.resume or arguments.task is not None


def _submitted(client: Client, arguments: argparse.Namespace, loaded: LoadedTask) -> protocol.TaskSummary:
    document = dict(loaded.document)
    if arguments.points:
        document["stop"] = {**(document.get("stop") or {}), "points": arguments.points}
    message = protocol.SubmitTask(new_request_id(), document, loaded.source, loaded.files)
    task = client.submit(message)
    for line in submit.warm_start(client, task):
        output.note(line)
    return task.summary


def _resumed(client: Client, arguments: argparse.Namespace, loaded: LoadedTask) -> protocol.TaskSummary:
    name = str(loaded.document["name"])
    named = client.task_id(arguments.task) if arguments.task else _newest_unfinished(client, name, arguments.file)
    found = client.task(named)
    summary = found.summary
    if found.source != loaded.source:
        output.warn(f"{arguments.file} is not what was submitted; task {summary.id} goes on as it was submitted")
    if arguments.points and arguments.points > (summary.points or 0):
        extra = arguments.points - (summary.points or 0)
        summary = _changed(client, summary.id, protocol.TaskAction.EXTEND, extra)
    if summary.state is protocol.TaskState.PAUSED:
        summary = _changed(client, summary.id, protocol.TaskAction.RESUME)
    if summary.state not in _UNFINISHED:
        reason = f" ({text.one_line(summary.reason)})" if summary.reason else ""
        raise ConfigurationError(f"task {summary.id} is {summary.state.value}{reason}; --points N makes it larger")
    return summary


def _newest_unfinished(client: Client, name: str, file: Path) -> str:
    for summary in client.tasks(name=name, limit=100).items:
        if summary.state in _UNFINISHED:
            return summary.id
    raise ConfigurationError(f"no task {name!r} is unfinished here; start one with: gridtune run {file}")


def _changed(client: Client, task: str, action: protocol.TaskAction, points: int = 0) -> protocol.TaskSummary:
    return client.change_task(task, protocol.ChangeTask(new_request_id(), action, points)).summary


@dataclass
class _LocalRun:
    """A task, worked on until it ends or somebody interrupts."""

    arguments: argparse.Namespace
    service: Service
    client: Client
    task: protocol.TaskSummary

    def go(self) -> int:
        """Work on the task. However it is left unfinished, it is left paused, with word of how to go on."""
        ended = False
        try:
            summary = self._worked_on()
            ended = True
        except KeyboardInterrupt:
            return exits.ExitCode.INTERRUPTED
        finally:
            if not ended:
                output.note(f"{'paused' if self._pause() else 'stopped'}; go on with: {self._resume_line()}")
        if halt.is_halted(summary):
            for line in [*halt.reason(self.client, summary), f"go on with: {self._resume_line()}"]:
                output.note(line)
            return follow.exit_code(summary)
        for line in closing.lines(self.client, summary, self._results(), output.style_of(sys.stdout)):
            output.say(line)
        return follow.exit_code(summary)

    def _worked_on(self) -> protocol.TaskSummary:
        """Follow the task to its end, with workers meanwhile, which give their points back if it does not come."""
        with self._task_token() as token, self._workers(token) as workers:
            try:
                return follow.follow(self.client, self.task.id, tick=lambda: self._tick(workers))
            except KeyboardInterrupt:
                output.note("stopping the workers; Ctrl-C again kills them")
                raise

    def _tick(self, workers: Workers) -> None:
        self.service.keep_alive()
        if workers.exit_code == exits.ExitCode.UNFIT:
            fix = "ask for less under resources, or submit the task to a service with other workers"
            raise MachineUnfit(f"{self._why_unfit(workers)}\n{fix}")
        workers.keep_alive()

    def _why_unfit(self, workers: Workers) -> str:
        """What the service says; if workers elsewhere fit the task, the workers' own log knows."""
        with contextlib.suppress(ServiceError):
            if why := self.client.task(self.task.id).unfit:
                return text.one_line(why)
        return f"why not: see {workers.log}"

    def _pause(self) -> bool:
        try:
            state = self.client.task(self.task.id).summary.state
            if state is protocol.TaskState.RUNNING:
                state = _changed(self.client, self.task.id, protocol.TaskAction.PAUSE).state
        except ServiceError:
            return False
        return state is protocol.TaskState.PAUSED

    def _resume_line(self) -> str:
        words = ["gridtune", "run", "--resume", str(self.arguments.file)]
        words += ["--workers", str(self.arguments.workers)] if self.arguments.workers else []
        words += ["--data", self.arguments.data] if self.arguments.data else []
        words += ["--results", str(self.arguments.results)] if self.arguments.results else []
        return shlex.join(words)

    @contextlib.contextmanager
    def _task_token(self) -> Iterator[Secret]:
        """A token that can evaluate this task's points and nothing else, for as long as the run lasts."""
        message = protocol.CreateToken(new_request_id(), protocol.Scope.TASK, name="gridtune run", task=self.task.id)
        created = self.client.create_token(message)
        try:
            yield Secret(created.secret)
        finally:
            with contextlib.suppress(ServiceError):
                self.client.revoke_token(created.token.id)

    def _workers(self, token: Secret) -> Workers:
        n = self.arguments.workers or min(_n_cpus(), _MOST_WORKERS)
        log = self.service.data / "logs" / f"agent-{self.task.id}.log"
        output.note(f"task {text.one_line(self.task.name)}, id {self.task.id}, {n} workers, log {log}")
        return Workers(self.service.url, token, self.task.id, n, log=log)

    def _results(self) -> Path:
        name = re.sub(r"[^\w.-]+", "-", f"{self.task.name}-{self.task.id}").lstrip(".-")
        given: Path | None = self.arguments.results
        return given or Path("gridtune-results") / name


def _n_cpus() -> int:
    """How many CPUs this process may use, which in a batch job are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal like Ctrl-C; what is ignored, as under nohup, stays ignored."""
    signals = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, _interrupt)) for number in heeded]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a terminal that closes may say so twice
    raise KeyboardInterrupt
