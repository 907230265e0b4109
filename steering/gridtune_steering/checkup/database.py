"""The database: whether it answers, whether its schema is this program's, and whether it keeps what it promises."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.errors import ConfigurationError
from gridtune_steering.bookkeeping.database import Database, sqlite_file
from gridtune_steering.checkup.finding import Finding, milliseconds, ok, warning, wrong
from gridtune_steering.settings import Settings

_CHECK: Final = "database"
#: A round trip that takes longer than this, in seconds, is felt in every request, which takes several.
_SLOW: Final = 0.02
_TRIES: Final = 5


def examine(settings: Settings) -> Iterator[Finding]:
    """What to know of the database."""
    try:
        database = Database(settings.database_url, connections=1)
    except ConfigurationError as error:
        yield wrong(_CHECK, str(error), "correct GRIDTUNE_STEERING_DATABASE")
        return
    try:
        yield from _examine(settings, database)
    except sa.exc.SQLAlchemyError as error:
        advice = "start the database, or correct GRIDTUNE_STEERING_DATABASE"
        yield wrong(_CHECK, f"{shown(settings)} cannot be used: {first_line(error)}", advice)
    finally:
        database.close()


def _examine(settings: Settings, database: Database) -> Iterator[Finding]:
    file = sqlite_file(settings.database_url)
    if file is not None and str(file) in {"", ":memory:"}:
        advice = "name a file: sqlite:////PATH/gridtune.db"
        yield wrong(_CHECK, "SQLite in memory, which the service's processes cannot share", advice)
        return
    if file is not None and not file.exists():
        yield ok(_CHECK, f"SQLite, {file} is made by the first start")
        return
    with database.engine.connect() as connection:
        yield _about_answers(settings, connection)
        if file is None:
            from gridtune_steering.checkup import postgres  # its driver need not be installed for SQLite

            yield from postgres.examine(settings, connection)
    yield _about_schema(database)


def shown(settings: Settings) -> str:
    """The database as messages call it: without its password, and without options, which may hold another one."""
    url = sa.make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        return f"SQLite, {url.database}"
    host = f"{url.host or 'localhost'}{f':{url.port}' if url.port else ''}"
    return f"PostgreSQL, {f'{url.username}@' if url.username else ''}{host}/{url.database or ''}"


def first_line(error: sa.exc.SQLAlchemyError) -> str:
    """What the driver says, in a line."""
    said = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    return next(iter(str(said).strip().splitlines()), type(said).__name__)


def _about_answers(settings: Settings, connection: Connection) -> Finding:
    function = "sqlite_version()" if connection.dialect.name == "sqlite" else "current_setting('server_version')"
    version = connection.execute(sa.text(f"SELECT {function}")).scalar_one()
    trip = min(_round_trip(connection) for _ in range(_TRIES))
    kind, _, rest = shown(settings).partition(", ")
    seen = f"{kind} {str(version).partition(' ')[0]}, {rest}, {milliseconds(trip)} a round trip"
    if trip > _SLOW:
        return warning(_CHECK, seen, "every request takes several of these: bring service and database closer together")
    return ok(_CHECK, seen)


def _round_trip(connection: Connection) -> float:
    started = time.perf_counter()
    connection.execute(sa.text("SELECT 1")).scalar_one()
    return time.perf_counter() - started


def _about_schema(database: Database) -> Finding:
    current, known = database.revision(), database.path_from(None, finish=True)
    if current == known[-1]:
        return ok("schema", f"revision {current}, up to date")
    if current is not None and current not in known:
        seen = f"revision {current} was made by a newer gridtune; this one knows {known[-1]}"
        return wrong("schema", seen, "install the newer version, or restore a backup of before")
    if not _may_make_tables(database):
        seen = "the tables are not up to date, and this user may make none"
        return wrong("schema", seen, "GRANT CREATE ON SCHEMA public to the service's user, or make it the owner")
    if current is None:
        return ok("schema", "none yet; the first start makes the tables")
    if not database.path_from(current, finish=False):
        advice = "when no process of the version before runs any more: gridtune migrate --finish"
        return warning("schema", f"revision {current}, still fit for the version before", advice)
    advice = "back up first, for there is no way back; then gridtune migrate"
    return warning("schema", f"revision {current}, and this program needs {known[-1]}", advice)


def _may_make_tables(database: Database) -> bool:
    if database.is_embedded:
        return True
    query = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
    with database.read() as connection:
        return bool(connection.execute(sa.text(query)).scalar_one())
