"""The database: schema, transactions, times."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gridtune_steering.bookkeeping import events
from gridtune_steering.bookkeeping.database import Database
from gridtune_steering.bookkeeping.schema import metadata
from service_bench import Bench


def test_migrations_lead_to_the_tables_in_the_code(bench: Bench) -> None:
    """Whoever changes a table writes the migration."""
    with bench.steering.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(bench: Bench) -> None:
    """Every start migrates, and most have nothing to do."""
    task = bench.submit()

    bench.steering.database.migrate()

    assert bench.ask(task) is None


def test_a_transaction_that_raises_has_no_effect(bench: Bench) -> None:
    """Half a change is no change."""

    class MistakeError(Exception):
        pass

    def fail_halfway() -> None:
        with bench.steering.database.write() as connection:
            events.add(connection, at=bench.clock(), actor="me", kind="test", task="t")
            raise MistakeError

    with pytest.raises(MistakeError):
        fail_halfway()
    with bench.steering.database.read() as connection:
        assert events.page(connection, "t", kind=None, after=0, limit=10) == []


def test_naive_times_are_refused(bench: Bench) -> None:
    """A time without a zone is a mistake, not a guess."""
    with pytest.raises(sa.exc.StatementError, match="naive time"), bench.steering.database.write() as connection:
        events.add(connection, at=datetime(2030, 1, 1), actor="me", kind="test")  # noqa: DTZ001 - that is the point


def test_what_was_acknowledged_survives_a_killed_process(tmp_path: Path) -> None:
    """A commit is on disk when it returns, though the process is killed in the next moment."""
    url = f"sqlite:///{tmp_path / 'g.db'}"
    Database(url).migrate()
    code = f"""
import os, signal
from datetime import UTC, datetime
from gridtune_steering.bookkeeping import events
from gridtune_steering.bookkeeping.database import Database
with Database({url!r}).write() as connection:
    events.add(connection, at=datetime.now(UTC), actor="me", kind="test", task="t")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)

    with Database(url).read() as connection:
        assert len(events.page(connection, "t", kind=None, after=0, limit=10)) == 1
