"""Who may do what: tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Scope(str, Enum):
    """What a token may do. Values are only ever added."""

    OPERATOR = "operator"  #: Everything.
    USER = "user"  #: Submit tasks, and see and change one's own.
    TASK = "task"  #: Evaluate points of one task, and nothing else: what travels to worker nodes.


@dataclass(frozen=True)
class CreateToken:
    """Make a token.

    Attributes:
        user: Who acts with it; empty for the caller. Only operators may name others.
        task: The task of a token with scope ``task``.
        lifetime_seconds: None for one that does not expire.
    """

    request_id: str
    scope: Scope
    name: str = ""
    user: str = ""
    task: Optional[str] = None
    lifetime_seconds: Optional[float] = None


@dataclass(frozen=True)
class Token:
    """A token without its secret."""

    id: str
    name: str
    user: str
    scope: Scope
    created_at: str
    task: Optional[str] = None
    expires_at: Optional[str] = None
    revoked_at: Optional[str] = None


@dataclass(frozen=True)
class CreatedToken:
    """A new token with its secret, which is shown this once and not kept."""

    token: Token
    secret: str


@dataclass(frozen=True)
class TokenList:
    """The tokens that the caller may see."""

    items: list[Token]
