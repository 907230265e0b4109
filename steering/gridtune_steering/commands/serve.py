"""Run the steering service on this machine: the HTTP API and an optimizer host, kept running until Ctrl-C.

Everything lives in the data folder: the database, the service's key, the operator's token (operator.token, readable
by you alone) and service.json, from which other commands on this machine find the service. Starting again on the same
folder goes on where it ended.
"""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridtune_common.errors import ConfigurationError
from gridtune_common.parent import stop_with_parent
from gridtune_steering import agentfile, logs
from gridtune_steering.assembly import assemble
from gridtune_steering.doorbell import open_bell
from gridtune_steering.identity.secrets import write_private
from gridtune_steering.metrics import files
from gridtune_steering.services import tokens
from gridtune_steering.settings import Settings
from gridtune_steering.supervisor import Child, Supervisor

_log = logging.getLogger("gridtune.serve")
DEFAULT_PORT = 8470
#: Seconds to wait for a predecessor to let go of the port, and for children to end.
_BIND_PATIENCE, _GRACE = 10.0, 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: gridtune-data)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="port, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument("--stop-with-parent", action="store_true", help="end when standard input closes")


def _port(word: str) -> int:
    if not word.isdecimal() or int(word) > 65535:
        raise argparse.ArgumentTypeError(f"{word!r} is no port from 0 to 65535")
    return int(word)


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
        with _listening(arguments.host, arguments.port) as listener:
            _serve(settings, listener)
    return 0


def _prepare(settings: Settings) -> None:
    if settings.agent_libraries:
        agentfile.find_libraries(settings.agent_libraries)
    steering, bell = assemble(settings)
    steering.database.migrate()
    tokens.ensure_operator(steering)
    steering.database.close()
    bell.close()
    bell.remove()  # sockets of a service that was killed


def _serve(settings: Settings, listener: socket.socket) -> None:
    environment = {
        **os.environ,
        "GRIDTUNE_STEERING_DATA": str(settings.data.resolve()),
        files.VARIABLE: str(files.empty_folder(settings.data)),
    }
    python = [sys.executable, "-P", "-m"]  # no file in the folder that we were started in is taken for a module
    web = Child(
        "the web process",
        [*python, "gridtune_steering.api", str(listener.fileno())],
        environment,
        pass_fds=[listener.fileno()],
    )
    host = Child("the optimizer host", [*python, "gridtune_steering.host"], environment)
    supervisor = Supervisor([web, host])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.start()
    url = _url(listener)
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        _log.warning("listening beyond this machine without TLS; let others in through a proxy that has it")
    note = settings.data / "service.json"
    write_private(note, json.dumps({"url": url, "pid": os.getpid()}))
    _log.info(
        "serving on %s; operator's token: %s",
        url,
        settings.data / "operator.token",
        extra={"action": "serving"},
    )
    supervisor.run(grace=_GRACE)
    bell = open_bell(settings)
    bell.remove()
    bell.close()
    note.unlink(missing_ok=True)
    _log.info("stopped", extra={"action": "stopped"})


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


@contextmanager
def _alone_on(data: Path) -> Iterator[None]:
    """Hold the data folder for this service."""
    with (data / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"another service runs on {data}; stop it, or choose --data") from error
        yield


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open the port; the processes of a service that was killed may need a moment to let go of it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + _BIND_PATIENCE
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                listener.bind((host, port))
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    message = f"cannot listen on {host} port {port} ({error.strerror}); choose --host or --port"
                    raise ConfigurationError(message) from error
                time.sleep(0.2)
        listener.listen(1024)
        yield listener
