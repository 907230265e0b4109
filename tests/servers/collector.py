"""A collector of traces: keeps all that it is sent by OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Sent:
    """A span as it arrived.

    Attributes:
        about: What it says of itself.
        process: What it says of its process.
    """

    name: str
    id: str
    parent: str
    trace: str
    failed: bool
    ns: int
    about: Mapping[str, Any]
    process: Mapping[str, Any]


class Collector:
    """Listens on a port of its own as long as its block."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.bodies))

    def __enter__(self) -> Collector:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What the setting is to be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def spans(self) -> list[Sent]:
        """All spans so far."""
        return [span for body in list(self.bodies) for span in _spans(body)]


def _handler(bodies: list[bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            bodies.append(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


def _spans(body: bytes) -> list[Sent]:
    message = ExportTraceServiceRequest.FromString(body)
    return [
        Sent(
            name=span.name,
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            trace=span.trace_id.hex(),
            failed=span.status.code == Status.STATUS_CODE_ERROR,
            ns=span.end_time_unix_nano - span.start_time_unix_nano,
            about=_facts(span.attributes),
            process=_facts(group.resource.attributes),
        )
        for group in message.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _facts(attributes: Any) -> dict[str, Any]:
    return {fact.key: getattr(fact.value, str(fact.value.WhichOneof("value"))) for fact in attributes}
