"""Traces: off unless they are wanted, and never with words of users."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from api_bench import Api
from gridtune_common.errors import ConfigurationError
from gridtune_steering import tracing
from gridtune_steering.checkup import Verdict, traces
from gridtune_steering.settings import Settings
from real_service import free_port
from servers.collector import Collector, Sent
from service_bench import Bench, on_sqlite

PRIVATE = "so_private"
Traced = Callable[[], list[Sent]]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of traces."""
    with Collector() as found:
        yield found


@pytest.fixture
def traced(bench: Bench, collector: Collector) -> Iterator[Traced]:
    """This process, traced until the spans are asked for."""
    settings = replace(bench.steering.settings, traces=collector.url)
    tracing.set_up(settings, "test", bench.steering.database.engine)

    def spans() -> list[Sent]:
        tracing.shut_down()
        return collector.spans

    yield spans
    tracing.shut_down()


def test_without_the_setting_nothing_is_loaded() -> None:
    """Web processes and hosts know no library for traces then."""
    code = (
        "import sys; from gridtune_steering import tracing; from gridtune_steering.settings import Settings\n"
        "import gridtune_steering.api.__main__, gridtune_steering.host.__main__\n"
        "tracing.set_up(Settings(), 'web', None)\n"
        "with tracing.span('x', {}) as span: span.note({'a': 1})\n"
        "tracing.shut_down()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout == "[]\n"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it; who sets nothing needs nothing."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)

    tracing.check(Settings())
    with pytest.raises(ConfigurationError, match=r"pip install 'gridtune\[opentelemetry\]'"):
        tracing.check(Settings(traces="http://127.0.0.1:4318"))


@pytest.mark.parametrize(
    "address",
    ["collector:4318", "grpc://collector:4317", "http://ann:word@collector", "http://collector?key=1", "http://"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """So is one with a secret in it: settings that are no secrets may be shown."""
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_HEADERS"):
        Settings.from_environment({"GRIDTUNE_STEERING_TRACES": address})


def test_the_check_before_the_start_tries_the_collector(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is away is a warning, a library that is missing is wrong, and who sets nothing hears nothing."""
    away = f"http://127.0.0.1:{free_port()}"

    found = [list(traces.examine(Settings(traces=address))) for address in ("", collector.url, away)]
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    [missing] = traces.examine(Settings(traces=collector.url))

    assert [[finding.verdict for finding in findings] for findings in found] == [[], [Verdict.OK], [Verdict.WARNING]]
    assert collector.spans == []
    assert (missing.verdict, "gridtune[opentelemetry]" in missing.seen) == (Verdict.WRONG, True)


@on_sqlite
def test_a_request_that_crashes_is_told_as_failed(
    api: Api, traced: Traced, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong is in the log alone; a refusal is no failure of the service."""

    def fail(*_: object) -> None:
        raise RuntimeError(PRIVATE)

    monkeypatch.setattr("gridtune_steering.services.asking.ask", fail)
    api.ask("2345abcd")
    api.call("GET", f"/tasks/{PRIVATE}", secret=PRIVATE)

    asked, refused = [span for span in traced() if not span.parent]
    assert (asked.name, asked.failed, asked.about["http.response.status_code"]) == (
        *("POST /api/v1/tasks/<task>/ask", True),
        500,
    )
    assert asked.about["gridtune.task"] == "2345abcd"
    assert (refused.failed, refused.about["http.response.status_code"]) == (False, 401)
    assert PRIVATE.encode() not in b"".join(collector.bodies)


def test_a_statement_that_fails_is_told_without_the_words_of_the_database(
    bench: Bench, traced: Traced, collector: Collector
) -> None:
    """PostgreSQL quotes the values that it did not like."""
    both = sa.text("INSERT INTO facts (name, value) VALUES (:name, :value)")
    values = {"name": PRIVATE, "value": PRIVATE}

    def insert_twice() -> None:
        with tracing.span("both", {}), bench.steering.database.write() as connection:
            connection.execute(both, values)
            connection.execute(both, values)

    with pytest.raises(sa.exc.IntegrityError) as caught:
        insert_twice()

    assert PRIVATE in str(caught.value.orig) or bench.steering.database.is_embedded
    found = {span.name: span for span in traced()}
    inserts = [span for span in collector.spans if span.name == "INSERT"]
    assert [span.failed for span in inserts] == [False, True]
    assert {span.parent for span in inserts} == {found["both"].id}
    assert found["both"].failed
    assert found["both"].about["error.type"] == "IntegrityError"
    assert PRIVATE.encode() not in b"".join(collector.bodies)


@on_sqlite
def test_statements_that_are_part_of_nothing_are_not_told(bench: Bench, traced: Traced) -> None:
    """Hosts look around again and again."""
    with bench.steering.database.read() as connection:
        connection.execute(sa.text("SELECT 1"))

    assert traced() == []


@on_sqlite
def test_the_variables_of_the_library_go_on_to_work(
    api: Api, bench: Bench, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part of all traces, for services with much to do; a caller who is traced counts all the same."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    settings = replace(bench.steering.settings, traces=collector.url)
    tracing.set_up(settings, "test", bench.steering.database.engine)

    api.call("GET", "/whoami")
    api.call("GET", "/tasks", headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
    tracing.shut_down()

    [request] = [span for span in collector.spans if span.name.startswith("GET")]
    assert (request.name, request.parent, request.process["service.name"]) == ("GET /api/v1/tasks", "2" * 16, "ours")


@on_sqlite
def test_a_collector_that_is_away_keeps_nobody_waiting(
    api: Api, bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests are answered, and the end of the process comes; the log says that spans were lost."""
    settings = replace(bench.steering.settings, traces=f"http://127.0.0.1:{free_port()}")
    tracing.set_up(settings, "test", bench.steering.database.engine)
    began = time.monotonic()

    with caplog.at_level(logging.WARNING):
        status = api.call("GET", "/whoami").status_code
        tracing.shut_down()

    assert status == 200
    assert time.monotonic() - began < 3
    assert "127.0.0.1" in caplog.text
