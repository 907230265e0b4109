"""What has to be so before a process serves: the schema, the service's key, and an operator who can sign in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gridtune_common.errors import ConfigurationError, Unreachable
from gridtune_steering.bookkeeping import facts
from gridtune_steering.bookkeeping.database import TROUBLE, Database, in_short
from gridtune_steering.identity.secrets import fingerprint, service_key
from gridtune_steering.services import tokens
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings


def found(steering: Steering, *, finish: bool = False) -> list[str]:
    """Make what is missing; returns the revisions that were applied.

    Args:
        steering: The service's surroundings.
        finish: Also apply what older versions of the program cannot live with. An embedded database has no others.

    Raises:
        ConfigurationError: The database belongs to a service with another key.
        Unreachable: The database does not answer.
    """
    database = steering.database
    with _reaching_it():
        before = database.revision()
    path = database.path_from(before, finish=finish or database.is_embedded)
    if path:
        database.migrate(path[-1])
    with database.write() as connection:
        if facts.find(connection, facts.SERVICE_KEY) is None:
            facts.state(connection, facts.SERVICE_KEY, _fingerprint(steering))
    _check_key(steering)
    tokens.ensure_operator(steering)
    return path


def check(steering: Steering) -> None:
    """Refuse to serve where something is missing.

    Raises:
        ConfigurationError: The schema is too old, or the key is another one.
        Unreachable: The database does not answer.
    """
    database = steering.database
    with _reaching_it():
        before = database.revision()
    missing = database.path_from(before, finish=False)
    if missing:
        raise ConfigurationError(f"the database lacks {', '.join(missing)}; run 'gridtune migrate' first")
    _check_key(steering)


def left_to_finish(settings: Settings) -> list[str]:
    """Revisions that wait for the end of all older processes."""
    database = Database(settings.database_url)
    left = database.path_from(database.revision(), finish=True)
    database.close()
    return left


@contextmanager
def _reaching_it() -> Iterator[None]:
    try:
        yield
    except TROUBLE as error:
        raise Unreachable(f"the database of GRIDTUNE_STEERING_DATABASE does not answer: {in_short(error)}") from error


def _check_key(steering: Steering) -> None:
    with steering.database.read() as connection:
        known = facts.find(connection, facts.SERVICE_KEY)
    if known is not None and known != _fingerprint(steering):
        path = steering.settings.data / "service.key"
        raise ConfigurationError(f"{path} is not the key of this database's service; copy that one here")


def _fingerprint(steering: Steering) -> str:
    return fingerprint(service_key(steering.settings.data / "service.key"))
