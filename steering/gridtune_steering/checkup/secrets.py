"""The service's key and the operator's token: there, private, and the right ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gridtune_common.errors import ConfigurationError
from gridtune_steering.bookkeeping import facts, tokens
from gridtune_steering.bookkeeping.database import Database, sqlite_file
from gridtune_steering.bookkeeping.schema import Record
from gridtune_steering.checkup.finding import Finding, ok, warning, wrong
from gridtune_steering.checkup.folder import about_secret
from gridtune_steering.identity.secrets import fingerprint, secret_hash
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
    path, known = settings.data / "service.key", _known_fingerprint(settings)
    if not path.exists():
        if known is not None:
            seen = f"{path} is missing, and the database belongs to one"
            return wrong(_KEY, seen, "put it back from a backup, or copy it from another machine of this service")
        return ok(_KEY, "none yet; the first start makes it")
    if (flaw := about_secret(_KEY, path)) is not None:
        return flaw
    key = key_of(settings)
    if key is None or known not in {None, fingerprint(key)}:
        seen = f"{path} holds {'no key' if key is None else 'another key than that of the database'}"
        return wrong(_KEY, seen, "put the right one there, from a backup or another machine of this service")
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
    """Why the token opens nothing; None if it does, or if the database cannot tell."""
    if _is_new(settings):
        return "is of another database"
    digest = secret_hash(path.read_text().strip())
    return _ask(settings, lambda connection: _flaw(tokens.find_by_hash(connection, digest)))


def _flaw(token: Record | None) -> str | None:
    if token is None:
        return "is not known to the database"
    if token.revoked_at is not None:
        return "was revoked"
    return "has expired" if token.expires_at is not None and token.expires_at <= datetime.now(UTC) else None


def _known_fingerprint(settings: Settings) -> str | None:
    """That of the key that the database's service has; None if the database cannot tell."""
    if _is_new(settings):
        return None
    return _ask(settings, lambda connection: facts.find(connection, facts.SERVICE_KEY))


def _is_new(settings: Settings) -> bool:
    try:
        file = sqlite_file(settings.database_url)
    except ConfigurationError:
        return False
    return file is not None and not file.exists()


def _ask(settings: Settings, question: Callable[[Connection], str | None]) -> str | None:
    """What the database says; None if it cannot answer, which its own lines tell of."""
    try:
        database = Database(settings.database_url, connections=1)
    except ConfigurationError:
        return None
    with suppress(sa.exc.SQLAlchemyError), closing(database), database.read() as connection:
        return question(connection)
    return None
