"""The databases that a benchmark runs on: SQLite files, and a PostgreSQL server of its own, as durable as it comes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gridtune_common.errors import ConfigurationError
from servers import postgres
from servers.postgres import Postgres

#: What can be asked for.
KINDS = ("sqlite", "postgresql")


@contextmanager
def served_databases(kinds: Sequence[str]) -> Iterator[dict[str, Callable[[], str]]]:
    """For each kind, what makes a fresh database and returns its URL; empty for SQLite in the service's own folder."""
    found: dict[str, Callable[[], str]] = {}
    if "postgresql" not in kinds:
        yield {"sqlite": lambda: ""}
        return
    with postgres_server() as server:
        for kind in kinds:
            found[kind] = server.new_database if kind == "postgresql" else lambda: ""
        yield found


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A cluster of this run's own, with fsync as it comes."""
    if not postgres.is_installed():
        raise ConfigurationError("PostgreSQL is not installed (Debian: postgresql); choose sqlite")
    # not in a private folder: the server's user may not enter those
    server = Postgres(Path(tempfile.mkdtemp(prefix="gridtune-bench-postgres-")))
    server.make()
    try:
        yield server
    finally:
        server.end()
