"""Traces of a service of real processes, as a collector gets them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from gridtune_common.client import Client, NothingYet, TaskEnded, new_request_id
from gridtune_common.protocol import Ask, BeginUpload, Lease, ObjectKind, Tell
from real_service import RealService
from servers.collector import Collector, Sent
from service_bench import document

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
#: What users write, and put where it does not belong.
PRIVATE = "so_private"
SECRET = "the-secret-of-monitoring"


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that is there before the service and after it."""
    with Collector() as found:
        yield found


@pytest.fixture
def traced(tmp_path: Path, collector: Collector) -> Iterator[RealService]:
    """A service that tells the collector."""
    settings = {
        "GRIDTUNE_STEERING_TRACES": collector.url,
        "GRIDTUNE_STEERING_METRICS_TOKEN": SECRET,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=tests",
    }
    service = RealService(tmp_path, settings=settings)
    service.start()
    yield service
    service.end()


def private_document() -> dict[str, object]:
    """A task full of what a user has written."""
    return document(
        algorithm="sobol",
        points=10,
        name=PRIVATE,
        space={f"{PRIVATE}_parameter": {"type": "float", "low": 0, "high": 1}, "kind": [f"{PRIVATE}-choice", "other"]},
    )


def evaluate(client: Client, task: str, content: bytes) -> str:
    """Ask for a point, store a checkpoint of it and tell its result; returns the address that was written to."""
    held: Lease | NothingYet | TaskEnded = NothingYet(0)
    while isinstance(held, NothingYet):
        held = client.ask(task, Ask(new_request_id(), f"{PRIVATE}-worker", site=PRIVATE, wait=10))
    assert isinstance(held, Lease)
    digest = hashlib.sha256(content).hexdigest()
    message = BeginUpload(
        new_request_id(), held.epoch, ObjectKind.CHECKPOINT, size=len(content), sha256=digest, format="tar"
    )
    address = urljoin(client.server, client.begin_upload(held.evaluation, message).urls[0])
    requests.put(address, data=content, headers={"traceparent": f"00-{TRACE}-{CALLER}-01"}, timeout=30)
    client.tell(held.evaluation, Tell(new_request_id(), held.epoch, {"loss": 1.0}))
    return address


def named(spans: list[Sent], name: str) -> list[Sent]:
    """The spans of that name."""
    return [span for span in spans if span.name == name]


@pytest.mark.slow
def test_requests_and_rounds_are_told_without_secrets(traced: RealService, collector: Collector) -> None:
    """Requests go on with their callers' traces, rounds say what was done, and no word of anybody is in them."""
    task = traced.submit(private_document())
    with traced.client() as client:
        address = evaluate(client, task, PRIVATE.encode())
    header = {
        "Authorization": f"Bearer {traced.token}",
        "X-Request-ID": "from-outside",
        "traceparent": f"00-{TRACE}-{CALLER}-01",
        "tracestate": f"vendor={PRIVATE}",
        "baggage": f"word={PRIVATE}",
        "User-Agent": PRIVATE,
    }
    requests.get(f"{traced.url}/api/v1/tasks/{task}?name={PRIVATE}", headers=header, timeout=30)
    for path in (f"/api/v1/tasks/{traced.token}", f"/{PRIVATE}", f"/metrics?of={PRIVATE}"):
        requests.request(PRIVATE.upper(), f"{traced.url}{path}", headers=header, timeout=30)
        requests.get(f"{traced.url}{path}", headers=header, timeout=30)
    traced.end()

    spans, raw = collector.spans, b"".join(collector.bodies)
    [seen] = [span for span in named(spans, "GET /api/v1/tasks/<task>") if span.about.get("gridtune.task") == task]
    assert (seen.trace, seen.parent) == (TRACE, CALLER)
    assert seen.about["http.response.status_code"] in {200, 400, 422}
    assert (seen.about["gridtune.request"], seen.about["http.route"]) == ("from-outside", "/api/v1/tasks/<task>")
    assert (seen.process["service.name"], seen.process["deployment.environment.name"]) == ("gridtune-web", "tests")
    [told] = named(spans, "POST /api/v1/evaluations/<evaluation>/tell")
    statements = [span for span in spans if span.parent == told.id]
    assert {"UPDATE", "INSERT"} <= {span.about["db.operation.name"] for span in statements}
    assert all(0 < span.ns <= told.ns for span in statements)

    rounds = named(spans, "round")
    assert {span.process["service.name"] for span in rounds} == {"gridtune-host"}
    assert {(span.about["gridtune.task"], span.about["gridtune.algorithm"]) for span in rounds} == {(task, "sobol")}
    assert sum(span.about["gridtune.made"] for span in rounds) >= 1
    assert sum(span.about["gridtune.learnt"] for span in rounds) == 1
    assert [span for span in spans if span.parent == rounds[0].id and "db.query.text" in span.about]

    assert not [span.name for span in spans if "objects" in span.name or "healthz" in span.name]
    query = urlsplit(address).query
    signature = query.rpartition("=")[2]
    words = [traced.token, "Bearer", SECRET, PRIVATE, PRIVATE.upper(), query, signature, "vendor"]
    assert len(signature) > 16
    assert not [word for word in words if word.encode() in raw]
