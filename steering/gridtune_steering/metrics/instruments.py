"""All instruments that processes of the service count with. Labels take few values, never ids or names of workers.

In a process of ``gridtune serve`` the values live in files that all processes share (`exposition`), so a web process
can tell the numbers of all; elsewhere they live in memory.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gridtune_steering.metrics import files

files.reserve()
REGISTRY: Final = CollectorRegistry()
_MOST_SITES = 100
_OTHER: Final = "(other)"
#: Asks may wait for half a minute; everything else should not.
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_THINKING_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

REQUEST_SECONDS: Final = Histogram(
    "gridtune_http_request_duration_seconds",
    "From the arrival of a request to the beginning of its answer.",
    ["route", "status"],
    buckets=_REQUEST_SECONDS,
    registry=REGISTRY,
)
REQUESTS_IN_PROGRESS: Final = Gauge(
    "gridtune_http_requests_in_progress",
    "Requests that are being answered, waiting asks included.",
    multiprocess_mode=files.GAUGES,
    registry=REGISTRY,
)
TURNED_AWAY: Final = Counter(
    "gridtune_http_turned_away", "Requests that were sent away to come again.", ["reason"], registry=REGISTRY
)
ASKS: Final = Counter(
    "gridtune_asks", "Asks that were answered, with a point or without.", ["answer"], registry=REGISTRY
)
TELLS: Final = Counter("gridtune_tells", "Results that were told.", ["accepted"], registry=REGISTRY)
FAILURES: Final = Counter("gridtune_failures", "Evaluations that failed.", ["cause"], registry=REGISTRY)
RELEASES: Final = Counter(
    "gridtune_releases", "Evaluations that gave their point back unfinished.", ["cause"], registry=REGISTRY
)
LEASES_LOST: Final = Counter(
    "gridtune_leases_lost", "Evaluations whose worker fell silent.", ["site"], registry=REGISTRY
)
TASK_CLAIMS: Final = Counter(
    "gridtune_task_claims", "Tasks that optimizer hosts took over, new ones included.", registry=REGISTRY
)
THINKING_SECONDS: Final = Histogram(
    "gridtune_optimizer_cycle_seconds",
    "What learning results and making points took an optimizer, each time.",
    ["algorithm"],
    buckets=_THINKING_SECONDS,
    registry=REGISTRY,
)
DATABASE_CONNECTIONS: Final = Gauge(
    "gridtune_database_connections_in_use",
    "Connections to the database that are taken from the pools.",
    multiprocess_mode=files.GAUGES,
    registry=REGISTRY,
)

_sites: set[str] = set()
_sites_lock = threading.Lock()


def site_label(site: str) -> str:
    """The site's name, or what stands for all that came after many others: agents say what they like."""
    with _sites_lock:
        if site in _sites or len(_sites) < _MOST_SITES:
            _sites.add(site)
            return site
    return _OTHER


def watch_pool(engine: Any) -> None:
    """Count the connections that an SQLAlchemy engine hands out."""
    from sqlalchemy import event

    event.listen(engine, "checkout", lambda *_: DATABASE_CONNECTIONS.inc())
    event.listen(engine, "checkin", lambda *_: DATABASE_CONNECTIONS.dec())
