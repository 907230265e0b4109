"""Which revision of the schema a database has, and which ones this program knows."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from gridtune_steering.bookkeeping.database import MIGRATIONS


def current(connection: Connection) -> str | None:
    """The database's revision; None if it has no tables of ours."""
    from alembic.runtime.migration import MigrationContext  # as in `Database.migrate`: few need it

    return MigrationContext.configure(connection).get_current_revision()


def known() -> list[str]:
    """The revisions that this program can make, newest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
