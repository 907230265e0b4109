"""Spans by OpenTelemetry's SDK, sent by OTLP over HTTP. Its own variables, ``OTEL_…``, set all the rest."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import event

from gridtune_common import __version__
from gridtune_steering.tracing import Facts, Span

#: Seconds for the last spans; a collector that is away must not keep a process from its end.
_PATIENCE: Final = 1.0
#: Of a statement, so many characters: with many rows it is no more than question marks.
_LONGEST_STATEMENT: Final = 2000
_BEGAN: Final = "gridtune_began"


class _Traced(Span):
    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def note(self, facts: Facts) -> None:
        self._span.set_attributes(facts)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))


class OpenTelemetry:
    """Traces of one process. To be made in it, after any fork: it has a thread that sends.

    Args:
        address: Where the collector takes OTLP over HTTP, without ``/v1/traces``.
        role: What kind of process this is.
    """

    def __init__(self, address: str, role: str) -> None:
        self._provider = TracerProvider(resource=_resource(role), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=_endpoint(address))))
        self._tracer = self._provider.get_tracer("gridtune", __version__)
        self._parents = TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self, name: str, facts: Facts, *, parent: str | None, is_request: bool, began: int | None
    ) -> Iterator[Span]:
        """Make a span, and make it the current one."""
        # without `tracestate`, in which anybody may write anything
        context = self._parents.extract({"traceparent": parent}) if parent else None
        kind = SpanKind.SERVER if is_request else SpanKind.INTERNAL
        span = self._tracer.start_span(name, context, kind, facts, start_time=began)
        traced = _Traced(span)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield traced
            except BaseException as error:  # whatever it was, the span tells its kind; it goes on to the caller
                traced.fail(type(error).__name__)
                raise

    def watch_statements(self, engine: Any) -> None:
        """Make a span of each statement that is part of another span; not of those that are sent just to look around.

        The text of statements has placeholders for values. What the database says of an error may have the values, so
        it is left out.
        """
        event.listen(engine, "before_cursor_execute", _note_beginning)
        event.listen(engine, "after_cursor_execute", self._note_statement)
        event.listen(engine, "handle_error", self._note_failure)

    def _note_statement(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._tell_statement(connection, statement, None)

    def _note_failure(self, circumstances: Any) -> None:
        if circumstances.connection is not None and circumstances.statement is not None:
            kind = type(circumstances.original_exception).__name__
            self._tell_statement(circumstances.connection, circumstances.statement, kind)

    def _tell_statement(self, connection: Any, statement: str, failure: str | None) -> None:
        began = connection.info.pop(_BEGAN, None)
        if began is None:
            return
        verb = statement.split(None, 1)[0].upper()
        facts = {
            "db.system.name": connection.dialect.name,
            "db.operation.name": verb,
            "db.query.text": statement[:_LONGEST_STATEMENT],
        }
        span = self._tracer.start_span(verb, None, SpanKind.CLIENT, facts, start_time=began)
        if failure is not None:
            _Traced(span).fail(failure)
        span.end()

    def close(self) -> None:
        """Send what was not sent yet, unless the collector takes its time."""
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(_PATIENCE)


def send_nothing(address: str) -> bool:
    """Send a collector no spans; returns whether it took them."""
    log = logging.getLogger("opentelemetry")
    level = log.level
    log.setLevel(logging.CRITICAL)  # the answer says it all
    try:
        exporter = OTLPSpanExporter(endpoint=_endpoint(address), timeout=_PATIENCE)
        return exporter.export([]) is SpanExportResult.SUCCESS
    finally:
        log.setLevel(level)


def _endpoint(address: str) -> str:
    return f"{address.rstrip('/')}/v1/traces"


def _note_beginning(connection: Any, *_: Any) -> None:
    if trace.get_current_span().is_recording():
        connection.info[_BEGAN] = time.time_ns()


def _resource(role: str) -> Resource:
    ours: dict[str, str | int] = {
        "service.name": f"gridtune-{role}",
        "service.version": __version__,
        "process.pid": os.getpid(),
    }
    return Resource.create(ours).merge(OTELResourceDetector().detect())
