"""Errors as problem documents (RFC 9457): one table from our errors to HTTP."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response

from gridtune_common import wire
from gridtune_common.errors import Flaw, MissingExtra
from gridtune_common.protocol import Problem, ProblemError
from gridtune_steering.services import errors

#: Where a problem type would be explained; an identifier, not a link to follow.
_TYPE = "urn:gridtune:problem:"

_STATUS: dict[type[Exception], HTTPStatus] = {
    errors.NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    errors.NotAllowed: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.TaskHasEnded: HTTPStatus.GONE,
    errors.TooLittleTime: HTTPStatus.CONFLICT,
    errors.QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.Unusable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RequestIdReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    MissingExtra: HTTPStatus.UNPROCESSABLE_ENTITY,
}

TRANSLATED = tuple(_STATUS)


def of_error(error: Exception, instance: str) -> Response:
    """The answer to one of our own errors."""
    kind = type(error)
    flaws = error.flaws if isinstance(error, errors.Unusable) else ()
    return answer(_STATUS[kind], kind.__name__, str(error), instance, flaws)


def answer(status: HTTPStatus, kind: str, detail: str, instance: str, flaws: tuple[Flaw, ...] = ()) -> Response:
    """A problem document with its status."""
    problem = Problem(
        type=_TYPE + kind,
        title=status.phrase,
        status=status.value,
        detail=detail,
        instance=instance,
        errors=[ProblemError(path=flaw.path, message=flaw.message) for flaw in flaws],
    )
    response = Response(wire.dump(problem), status=status.value, mimetype="application/problem+json")
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="gridtune"'
    return response
