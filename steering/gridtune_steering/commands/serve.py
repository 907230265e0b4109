"""Run the steering service on this machine: the HTTP API and optimizer hosts, kept running until Ctrl-C.

Everything lives in the data folder: the database, the service's key, the operator's token (operator.token, readable
by you alone) and service.json, from which other commands on this machine find the service. Starting again on the same
folder goes on where it ended. For a service on several machines see 'gridtune web' and 'gridtune host'.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridtune_common.errors import ConfigurationError
from gridtune_common.parent import stop_with_parent
from gridtune_steering import agentfile, logs, tracing
from gridtune_steering.assembly import assemble
from gridtune_steering.commands import processes
from gridtune_steering.doorbell import open_bell
from gridtune_steering.identity.secrets import write_private
from gridtune_steering.services import founding
from gridtune_steering.settings import Settings
from gridtune_steering.supervisor import Child

_log = logging.getLogger("gridtune.serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: gridtune-data)")
    processes.add_address(parser)
    parser.add_argument("--web", type=processes.count, default=1, metavar="N", help="web processes (default: 1)")
    parser.add_argument("--hosts", type=processes.count, default=1, metavar="M", help="optimizer hosts (default: 1)")
    parser.add_argument("--stop-with-parent", action="store_true", help="end when standard input closes")


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    settings = Settings.from_environment(data=arguments.data)
    logs.set_up(settings)
    os.umask(0o077)  # the database and the logs are nobody else's
    settings.data.mkdir(parents=True, exist_ok=True)
    if arguments.stop_with_parent:
        stop_with_parent()
    with _alone_on(settings.data):
        _prepare(settings)
        with processes.listening(arguments.host, arguments.port) as listener:
            children = processes.web_processes(settings, listener, arguments.web)
            children += processes.optimizer_hosts(settings, arguments.hosts)
            _serve(settings, processes.url_of(listener), children)
    return 0


def _prepare(settings: Settings) -> None:
    tracing.check(settings)
    if settings.agent_libraries:
        agentfile.find_libraries(settings.agent_libraries)
    steering, bell = assemble(settings)
    founding.found(steering)
    steering.database.close()
    bell.close()
    bell.remove()  # sockets of a service that was killed


def _serve(settings: Settings, url: str, children: list[Child]) -> None:
    supervisor = processes.supervisor_of(children)
    note = settings.data / "service.json"
    write_private(note, json.dumps({"url": url, "pid": os.getpid()}))
    token = settings.data / "operator.token"
    _log.info("serving on %s; operator's token: %s", url, token, extra={"action": "serving"})
    processes.run(supervisor)
    bell = open_bell(settings)
    bell.close()
    bell.remove()
    note.unlink(missing_ok=True)


@contextmanager
def _alone_on(data: Path) -> Iterator[None]:
    """Hold the data folder for this service."""
    with (data / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"another service runs on {data}; stop it, or choose --data") from error
        yield
