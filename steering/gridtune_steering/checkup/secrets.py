"""The service's key and the operator's token: there, private, and the right ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from gridtune_common.errors import ConfigurationError
from gridtune_steering.bookkeeping import revisions, tokens
from gridtune_steering.bookkeeping.database import Database, sqlite_file
from gridtune_steering.checkup.finding import Finding, ok, warning, wrong
from gridtune_steering.checkup.folder import about_secret
from gridtune_steering.identity.secrets import secret_hash
from gridtune_steering.settings import Settings

_KEY, _TOKEN = "service key", "operator token"
_KEY_BYTES: Final = 32


def key_of(settings: Settings) -> bytes | None:
    """The service's key; None if it is not there, or is none."""
    try:
        key = bytes.fromhex((settings.data / "service.key").read_text().strip())
    except (OSError, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None


def about_key(settings: Settings) -> Finding:
    """What to know of the key."""
    path = settings.data / "service.key"
    if not path.exists():
        if _has_tables(settings):
            seen = f"{path} is missing, and the database is there"
            return warning(_KEY, seen, "put it back from a backup: the next start makes another one")
        return ok(_KEY, "none yet; the first start makes it")
    if (flaw := about_secret(_KEY, path)) is not None:
        return flaw
    if key_of(settings) is None:
        return wrong(_KEY, f"{path} holds no key", "put it back from a backup, or remove it for a new one")
    return ok(_KEY, f"{path}, private")


def about_operator(settings: Settings) -> Finding:
    """What to know of the operator's token."""
    path = settings.data / "operator.token"
    if not path.exists():
        return ok(_TOKEN, "no token file; the next start makes one")
    if (flaw := about_secret(_TOKEN, path)) is not None:
        return flaw
    if (why := _why_closed(settings, path)) is not None:
        return warning(_TOKEN, f"the token in {path} {why}", "the next start writes a new one there")
    return ok(_TOKEN, f"{path}, private")


def _why_closed(settings: Settings, path: Path) -> str | None:
    """Why the token opens nothing; None if it does, or if the database cannot be asked."""
    if not _has_tables(settings):
        return "is of another database" if _is_new(settings) else None
    database = Database(settings.database_url, connections=1)
    try:
        with database.read() as connection:
            row = tokens.find_by_hash(connection, secret_hash(path.read_text().strip()))
    except sa.exc.SQLAlchemyError:
        return None  # an older schema, which its own line tells of
    finally:
        database.close()
    if row is None:
        return "is not known to the database"
    if row.revoked_at is not None:
        return "was revoked"
    return "has expired" if row.expires_at is not None and row.expires_at <= datetime.now(UTC) else None


def _is_new(settings: Settings) -> bool:
    file = sqlite_file(settings.database_url)
    return file is not None and not file.exists()


def _has_tables(settings: Settings) -> bool:
    if _is_new(settings):
        return False
    try:
        database = Database(settings.database_url, connections=1)
    except ConfigurationError:
        return False
    try:
        with database.engine.connect() as connection:
            return revisions.current(connection) is not None
    except sa.exc.SQLAlchemyError:
        return False  # the database's own line tells of it
    finally:
        database.close()
