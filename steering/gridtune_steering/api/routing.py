"""Routes as data: one decorator states method, path, who may call, what comes in and what goes out.

The Flask application, the OpenAPI document and the tests that walk all routes read the same table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, Final

from gridtune_common.protocol import Scope


class Access(Enum):
    """Who may call a route."""

    OPEN = "open"  #: Anyone, without a token.
    SIGNED = "signed"  #: Whoever has a signed address: it is the credential, and the view checks it.
    EVALUATE = "evaluate"  #: Any token, also one that may only evaluate one task.
    USER = "user"  #: Tokens of users and operators.
    MONITOR = "monitor"  #: Tokens of operators, and the secret that the settings give to monitoring.

    @property
    def needs_token(self) -> bool:
        """Whether a caller has to show a token."""
        return self not in {Access.OPEN, Access.SIGNED}

    def admits(self, scope: Scope) -> bool:
        """Whether a token of this scope may call."""
        if self is Access.MONITOR:
            return scope is Scope.OPERATOR
        return self is not Access.USER or scope is not Scope.TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API.

    Attributes:
        body: The dataclass of the request's JSON body.
        accepts: The media type of a body that the view reads itself, as a stream.
        urgent: Whether it is let in when the process is too busy for others, and not counted against its token's
            rate: signs of life, what a training leaves behind, and questions after the service itself.
        query: The dataclass of the query string.
        returns: The dataclass of the answer's JSON body; None for other content or none.
        content: The media types of an answer that is no JSON message.
        also: Further statuses that belong to the normal course of things.
    """

    method: str
    path: str
    view: Callable[..., Any]
    access: Access
    body: type | None
    query: type | None
    returns: type | None
    status: HTTPStatus
    content: tuple[str, ...]
    also: tuple[HTTPStatus, ...]
    accepts: str
    urgent: bool

    @property
    def name(self) -> str:
        """The operation's name, unique in the API."""
        return self.view.__name__

    @property
    def summary(self) -> str:
        """One line for people."""
        return (self.view.__doc__ or "").strip().splitlines()[0]


ROUTES: Final[list[Route]] = []


def route(
    method: str,
    path: str,
    *,
    access: Access,
    body: type | None = None,
    query: type | None = None,
    returns: type | None = None,
    status: HTTPStatus = HTTPStatus.OK,
    content: tuple[str, ...] = (),
    also: tuple[HTTPStatus, ...] = (),
    accepts: str = "",
    urgent: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a view into the table. Views are called with (context, path variables, body=, query=) as they apply."""

    def enter(view: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append(
            Route(
                method=method,
                path=path,
                view=view,
                access=access,
                body=body,
                query=query,
                returns=returns,
                status=status,
                content=content,
                also=also,
                accepts=accepts,
                urgent=urgent,
            )
        )
        return view

    return enter
