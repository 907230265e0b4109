"""The text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gridtune_steering.metrics import files, instruments

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class _Given(Collector):
    """Passes on what it was given."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def text(families: Iterable[Metric]) -> bytes:
    """The numbers of all processes of the service, and *families* besides."""
    given = CollectorRegistry(auto_describe=False)
    given.register(_Given(families))
    return generate_latest(_counted()) + generate_latest(given)


def _counted() -> CollectorRegistry:
    shared = files.folder()
    if shared is None:
        return instruments.REGISTRY
    files.drop_dead(shared)
    everybody = CollectorRegistry()
    MultiProcessCollector(everybody, str(shared))  # type: ignore[no-untyped-call]  # it has no types
    return everybody
