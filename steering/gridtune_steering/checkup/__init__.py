"""What an operator would look at before opening a service: its folder, database, store, secrets and address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from gridtune_common.errors import ConfigurationError
from gridtune_steering import agentfile
from gridtune_steering.bookkeeping.database import sqlite_file
from gridtune_steering.checkup import address, database, folder, secrets, store, traces
from gridtune_steering.checkup.finding import Finding, Verdict, ok, wrong
from gridtune_steering.checkup.web import Site
from gridtune_steering.settings import Settings

__all__ = ["Finding", "Site", "Verdict", "examine"]


def examine(settings: Settings, *, running: Site | None, public: Site | None) -> Iterator[Finding]:
    """All findings, one after the other; no secret of the settings is in any of them.

    Args:
        settings: The service's.
        running: The service that runs on the data folder now, if one does.
        public: Where agents are to reach it, if that is to be looked at too.
    """
    for finding in _examine(settings, running, public):
        yield _without_secrets(finding, settings)


def _examine(settings: Settings, running: Site | None, public: Site | None) -> Iterator[Finding]:
    yield from folder.examine(settings.data, _file_of(settings))
    yield from database.examine(settings)
    yield secrets.about_key(settings)
    yield secrets.about_operator(settings)
    yield from store.examine(settings, secrets.key_of(settings), public or running)
    yield _about_agent(settings)
    yield from traces.examine(settings)
    if public is not None:
        yield from address.examine(public)


def _file_of(settings: Settings) -> Path | None:
    try:
        return sqlite_file(settings.database_url)
    except ConfigurationError:
        return None  # which the database's own line tells of


def _about_agent(settings: Settings) -> Finding:
    where = settings.agent_libraries or "this environment"
    try:
        found = agentfile.find_libraries(settings.agent_libraries)
    except ConfigurationError as error:
        return wrong("agent's file", str(error), "see GRIDTUNE_STEERING_AGENT_LIBRARIES in docs/agents.md")
    return ok("agent's file", f"{len(found)} libraries from {where}")


def _without_secrets(finding: Finding, settings: Settings) -> Finding:
    """Drivers and libraries may repeat what they were given."""
    seen = finding.seen
    for secret in _secrets_of(settings):
        seen = seen.replace(secret, "***")
    return replace(finding, seen=seen)


def _secrets_of(settings: Settings) -> list[str]:
    try:
        url = sa.make_url(settings.database_url)
    except sa.exc.ArgumentError:
        return [secret for secret in (settings.database, settings.s3_secret) if secret]
    return [
        secret
        for secret in (url.password, url.query.get("password"), settings.s3_secret)
        if isinstance(secret, str) and secret
    ]
