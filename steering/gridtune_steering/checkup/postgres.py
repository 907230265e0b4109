"""What to know of PostgreSQL besides: whether commits are durable, room for connections, clocks and rings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_steering.checkup.finding import Finding, about_clocks, milliseconds, ok, warning, wrong
from gridtune_steering.doorbell import open_bell
from gridtune_steering.identity.secrets import new_id
from gridtune_steering.settings import Settings

#: A service has a web process and an optimizer host at least; what each keeps besides the connections of its pool.
_PROCESSES: Final = 2
_BESIDES: Final = 2
#: How the server writes that a user or a database has no limit.
_NO_LIMIT: Final = -1
#: How long a ring may take, in seconds.
_PATIENCE: Final = 3.0

_CONNECTIONS: Final = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS room,
       (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND application_name <> 'gridtune') AS used,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS for_user,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS for_database
"""


def examine(settings: Settings, connection: Connection) -> Iterator[Finding]:
    """What to know of the server."""
    yield _about_durability(connection)
    yield _about_connections(settings, connection)
    yield _about_clock(settings, connection)
    yield _about_rings(settings)


def _about_durability(connection: Connection) -> Finding:
    names = ("fsync", "full_page_writes", "synchronous_commit")
    off = [name for name in names if connection.execute(sa.text(f"SHOW {name}")).scalar_one() == "off"]
    if connection.execute(sa.text("SHOW transaction_read_only")).scalar_one() == "on":
        return wrong("durability", "the database is read-only", "name the primary server, not a standby")
    if off:
        seen = f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} off"
        return warning("durability", seen, "switch on: what was acknowledged can be lost when the server goes down")
    return ok("durability", "a commit is on disk before it is acknowledged")


def _about_connections(settings: Settings, connection: Connection) -> Finding:
    found = connection.execute(sa.text(_CONNECTIONS)).one()
    limits = [limit for limit in (found.for_user, found.for_database) if limit != _NO_LIMIT]
    room = min([found.room - found.used, *limits])
    each = settings.database_connections + _BESIDES
    seen = f"{max(room, 0)} are to be had: enough for {max(room, 0) // each} processes with up to {each} each"
    if room < _PROCESSES * each:
        advice = "raise max_connections (or the user's limit), or lower GRIDTUNE_STEERING_DATABASE_CONNECTIONS"
        return warning("connections", seen, advice)
    return ok("connections", seen)


def _about_clock(settings: Settings, connection: Connection) -> Finding:
    before = time.time()
    theirs = connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()
    after = time.time()
    ahead = theirs - (before + after) / 2
    return about_clocks("database clock", ahead, blur=(after - before) / 2, tolerable=settings.host_lease_seconds)


def _about_rings(settings: Settings) -> Finding:
    advice = "let the service speak with the server itself, or pool by session: PgBouncer's transaction mode is deaf"
    try:
        took = _ring(settings)
    except psycopg.Error as error:
        return wrong("rings", f"LISTEN fails: {str(error).strip().splitlines()[0]}", advice)
    if took is None:
        return wrong("rings", f"a NOTIFY was not heard within {_PATIENCE:g} s", advice)
    return ok("rings", f"a NOTIFY is heard after {milliseconds(took)}")


def _ring(settings: Settings) -> float | None:
    """Seconds until a ring is heard; None if it is not."""
    bell, name = open_bell(settings), f"probe-{new_id()}"
    try:
        with bell.listen_as_host() as listener:  # hosts pass over tasks that are not theirs
            started = time.monotonic()
            bell.ring_hosts(name)
            while (left := started + _PATIENCE - time.monotonic()) > 0:
                if name in listener.wait(left):
                    return time.monotonic() - started
    finally:
        bell.close()
    return None
