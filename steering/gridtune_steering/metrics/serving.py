"""A port for the metrics of this machine's processes, where no web process tells them."""

from __future__ import annotations

import hmac
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gridtune_common.errors import ConfigurationError
from gridtune_steering.metrics import files

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: Seconds for a client to say what it wants.
_PATIENCE: Final = 10


class _Shared(Collector):
    """What the processes that share a folder have counted."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared

    def collect(self) -> Iterator[Metric]:
        files.drop_dead(self._shared)
        everybody = MultiProcessCollector(None, str(self._shared))  # type: ignore[no-untyped-call]  # it has no types
        yield from everybody.collect()  # type: ignore[no-untyped-call]


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


@contextmanager
def served(shared: Path, address: str, port: int, secret: str) -> Iterator[str]:
    """Serve the metrics of all processes that share a folder, while the block lasts.

    Args:
        shared: The folder (`files.shared_folder`).
        address: The IP address to listen on; without a secret one that other machines do not reach.
        port: 0 for any free one.
        secret: What a client has to send as its bearer token; empty if anybody on this machine may look.

    Yields:
        The URL.

    Raises:
        ConfigurationError: Nobody can listen there, or anybody could.
    """
    try:
        listens_to = ipaddress.ip_address(address)
    except ValueError as error:
        raise ConfigurationError(f"--metrics-bind: {address!r} is no IP address") from error
    if not secret and not listens_to.is_loopback:
        raise ConfigurationError(
            f"--metrics-bind {address}: others get metrics with a secret alone; set GRIDTUNE_STEERING_METRICS_TOKEN"
        )
    kind = _ServerOfIPv6 if listens_to.version == 6 else _Server
    try:
        server = kind((address, port), _Handler)
    except OSError as error:
        message = f"cannot listen on {address} port {port} ({error.strerror}); choose --metrics-bind or --metrics-port"
        raise ConfigurationError(message) from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shared(shared))
    server.set_app(_guarded(make_wsgi_app(registry), secret))
    with server:
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        shown = f"[{address}]" if listens_to.version == 6 else address
        yield f"http://{shown}:{server.server_port}/metrics"
        server.shutdown()


def _guarded(application: Application, secret: str) -> Application:
    """The application, for who asks for the metrics and has the secret."""

    def guarded(request: dict[str, Any], begin: Callable[..., Any]) -> Iterable[bytes]:
        if request["PATH_INFO"] != "/metrics":
            return _refuse(begin, "404 Not Found", [])
        if secret and not _has(secret, request.get("HTTP_AUTHORIZATION", "")):
            return _refuse(begin, "401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        return application(request, begin)

    return guarded


def _has(secret: str, header: str) -> bool:
    kind, _, word = header.partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(word.strip().encode(), secret.encode())


def _refuse(begin: Callable[..., Any], status: str, headers: list[tuple[str, str]]) -> list[bytes]:
    begin(status, [("Content-Type", "text/plain"), *headers])
    return [status.encode() + b"\n"]
