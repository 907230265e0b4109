"""What is true of the service at a moment, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

_MOST_SITES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the database says.

    Attributes:
        tasks: How many tasks are in each state; each state is there.
        running: How many evaluations run, by site.
        waiting: How many workers wait for a point.
        ready: How many points of running tasks wait for a worker.
        oldest_ready_seconds: For how long the first of them has; 0 if there is none.
        oldest_unlearnt_seconds: For how long a running task's optimizer has left a result unlearnt; 0 if there is none.
        stored_bytes: The size of all objects in storage, uploads included.
    """

    tasks: Mapping[str, int]
    running: Mapping[str, int]
    waiting: int
    ready: int
    oldest_ready_seconds: float
    oldest_unlearnt_seconds: float
    stored_bytes: int


def families(state: State | None) -> Iterator[Metric]:
    """The state as metrics; None if the database did not tell."""
    yield GaugeMetricFamily("gridtune_database_up", "Whether the database answered.", value=float(state is not None))
    if state is None:
        return
    yield _by_label("gridtune_tasks", "Tasks by their state.", "state", state.tasks)
    yield _by_label("gridtune_running_evaluations", "Evaluations that run.", "site", _largest(state.running))
    for name, said, value in (
        ("gridtune_waiting_workers", "Workers that wait for a point.", state.waiting),
        ("gridtune_ready_points", "Points of running tasks that wait for a worker.", state.ready),
        (
            "gridtune_oldest_ready_point_age_seconds",
            "For how long a ready point has waited for a worker, at most.",
            state.oldest_ready_seconds,
        ),
        (
            "gridtune_oldest_unlearnt_result_age_seconds",
            "For how long a result has waited for its optimizer to learn it, at most.",
            state.oldest_unlearnt_seconds,
        ),
        ("gridtune_stored_bytes", "Bytes of checkpoints and logs in object storage.", state.stored_bytes),
    ):
        yield GaugeMetricFamily(name, said, value=value)


def _by_label(name: str, said: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, said, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _largest(counts: Mapping[str, int]) -> dict[str, int]:
    """The sites with most evaluations, and all others as one: their names are what agents say."""
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    shown = dict(ranked[:_MOST_SITES])
    if rest := sum(n for _, n in ranked[_MOST_SITES:]):
        shown["(other)"] = rest
    return shown
