"""The service's processes as children of a command: web processes and optimizer hosts, kept running until Ctrl-C."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gridtune_common.errors import ConfigurationError
from gridtune_steering.metrics import files
from gridtune_steering.settings import Settings
from gridtune_steering.supervisor import Child, Supervisor

_log = logging.getLogger("gridtune.serve")
DEFAULT_PORT = 8470
#: Seconds to wait for a predecessor to let go of the port, and for children to end.
_BIND_PATIENCE, _GRACE = 10.0, 10.0
_MOST = 64


def add_address(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that say where to listen."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=port, default=DEFAULT_PORT, help="port, 0 for any free one (default: %(default)s)"
    )


def count(word: str) -> int:
    """A number of processes."""
    if not word.isdecimal() or not 1 <= int(word) <= _MOST:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 to {_MOST}")
    return int(word)


def port(word: str) -> int:
    """A port."""
    if not word.isdecimal() or int(word) > 65535:
        raise argparse.ArgumentTypeError(f"{word!r} is no port from 0 to 65535")
    return int(word)


def web_processes(settings: Settings, listener: socket.socket, n: int) -> list[Child]:
    """Web processes that share one listening socket; the kernel spreads the connections over them."""
    descriptor = listener.fileno()
    command = _python("gridtune_steering.api", str(descriptor))
    return [Child(name, command, _environment(settings), pass_fds=[descriptor]) for name in _names("web process", n)]


def optimizer_hosts(settings: Settings, n: int) -> list[Child]:
    """Optimizer hosts, which share the tasks among them and with those on other machines."""
    command = _python("gridtune_steering.host")
    return [Child(name, command, _environment(settings)) for name in _names("optimizer host", n)]


def supervisor_of(children: Sequence[Child]) -> Supervisor:
    """Start the children; they are kept running until SIGTERM or Ctrl-C."""
    supervisor = Supervisor(children)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.start()
    return supervisor


def run(supervisor: Supervisor) -> None:
    """Look after the children until the end."""
    supervisor.run(grace=_GRACE)
    _log.info("stopped", extra={"action": "stopped"})


def _names(what: str, n: int) -> list[str]:
    return [f"the {what}"] if n == 1 else [f"{what} {number}" for number in range(1, n + 1)]


def _python(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", *words]  # no file in the folder that we were started in is taken for a module


def _environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "GRIDTUNE_STEERING_DATA": str(settings.data.resolve()),
        files.VARIABLE: str(files.shared_folder(settings.data)),
    }


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
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
        if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            _log.warning("listening beyond this machine without TLS; let others in through a proxy that has it")
        yield listener


def url_of(listener: socket.socket) -> str:
    """Where clients on this machine find it."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"
