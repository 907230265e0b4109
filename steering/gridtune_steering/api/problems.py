"""Errors as problem documents (RFC 9457): one table from our errors to HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from flask import Response

from gridtune_common import wire
from gridtune_common.errors import Flaw, MissingExtra
from gridtune_common.protocol import Problem, ProblemError
from gridtune_steering.api.later import RETRY_AFTER, retry_after
from gridtune_steering.objectstore import port as objectstore
from gridtune_steering.services import errors

#: Where a problem type would be explained; an identifier, not a link to follow.
_TYPE = "urn:gridtune:problem:"
#: Statuses that pass by themselves, and after how many seconds a client may try again.
_PASSING: Final = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS})
_SOON: Final = 1.0

_STATUS: dict[type[Exception], HTTPStatus] = {
    errors.NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    errors.NotAllowed: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.TaskHasEnded: HTTPStatus.GONE,
    errors.TaskArchived: HTTPStatus.GONE,
    errors.TooLittleTime: HTTPStatus.CONFLICT,
    errors.DoesNotFit: HTTPStatus.CONFLICT,
    errors.QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.Unusable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RequestIdReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RequestInProgress: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    MissingExtra: HTTPStatus.UNPROCESSABLE_ENTITY,
    objectstore.AddressRefused: HTTPStatus.FORBIDDEN,
    objectstore.NotSigned: HTTPStatus.FORBIDDEN,
    objectstore.WrongLength: HTTPStatus.BAD_REQUEST,
    objectstore.WrongChecksum: HTTPStatus.BAD_REQUEST,
    objectstore.BadKey: HTTPStatus.BAD_REQUEST,
    objectstore.NoSuchObject: HTTPStatus.NOT_FOUND,
    objectstore.NoSuchUpload: HTTPStatus.NOT_FOUND,
    objectstore.UploadIncomplete: HTTPStatus.CONFLICT,
    objectstore.StoreFull: HTTPStatus.INSUFFICIENT_STORAGE,
    objectstore.StoreAway: HTTPStatus.SERVICE_UNAVAILABLE,
    objectstore.StoreError: HTTPStatus.BAD_GATEWAY,
}

TRANSLATED = tuple(_STATUS)


def status_of(error: Exception) -> HTTPStatus:
    """The status that one of our own errors stands for."""
    return _STATUS[type(error)]


def of_error(error: Exception, instance: str) -> Response:
    """The answer to one of our own errors."""
    kind = type(error)
    flaws = error.flaws if isinstance(error, errors.Unusable) else ()
    response = answer(status_of(error), kind.__name__, str(error), instance, flaws)
    if isinstance(error, errors.TooManyRequests):
        response.headers[RETRY_AFTER] = retry_after(max(error.seconds, _SOON))
    return response


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
    if status in _PASSING:
        response.headers[RETRY_AFTER] = retry_after(_SOON)
    return response
