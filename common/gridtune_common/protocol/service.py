"""The service itself: its health, the caller's identity, and problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from gridtune_common.protocol.identity import Scope


@dataclass(frozen=True)
class Health:
    """Whether the service is alive, or ready: ``checks`` names what was looked at and what was found."""

    status: str
    version: str
    checks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """Who the caller is to the service."""

    user: str
    scope: Scope
    token: str
    task: Optional[str] = None


@dataclass(frozen=True)
class ProblemError:
    """One thing wrong with a request: where, and what to write instead."""

    path: str
    message: str


@dataclass(frozen=True)
class Problem:
    """An error, as RFC 9457 describes it, with ``errors`` for what is wrong with the request's body."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    errors: list[ProblemError] = field(default_factory=list)
