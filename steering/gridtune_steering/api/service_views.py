"""The routes that tell of the service itself: health, metrics, and its own description."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
from flask import Response

from gridtune_common import __version__, wire
from gridtune_common.protocol import Health
from gridtune_steering.api.context import Context
from gridtune_steering.api.later import RETRY_AFTER, retry_after
from gridtune_steering.api.routing import Access, route
from gridtune_steering.bookkeeping.database import TROUBLE
from gridtune_steering.metrics import exposition, state
from gridtune_steering.metrics.state import State
from gridtune_steering.objectstore.port import StoreError

_log = logging.getLogger("gridtune.api")
#: Seconds until a service that is not ready may be asked again.
_NOT_READY = 1.0


@route("GET", "/healthz", access=Access.OPEN, returns=Health, urgent=True)
def healthz(context: Context) -> Health:
    """Whether the process is alive."""
    return Health(status="ok", version=__version__)


@route("GET", "/readyz", access=Access.OPEN, returns=Health, also=(HTTPStatus.SERVICE_UNAVAILABLE,), urgent=True)
def readyz(context: Context) -> Health | Response:
    """Whether the service can do its work: the database and the object store answer."""
    checks = {"database": _state_of(_look_at_database, context), "store": _state_of(_look_at_store, context)}
    if set(checks.values()) == {"ok"}:
        return Health("ok", __version__, checks)
    answer = Response(wire.dump(Health("unavailable", __version__, checks)), status=503, mimetype="application/json")
    answer.headers[RETRY_AFTER] = retry_after(_NOT_READY)
    return answer


def _state_of(look: Callable[[Context], None], context: Context) -> str:
    try:
        look(context)
    except (sa.exc.SQLAlchemyError, StoreError) as error:
        _log.warning("not ready: %s", error, extra={"action": "not_ready"})
        return type(error).__name__
    return "ok"


def _look_at_database(context: Context) -> None:
    with context.steering.database.read() as connection:
        connection.execute(sa.text("SELECT 1 FROM tasks LIMIT 1"))


def _look_at_store(context: Context) -> None:
    context.steering.store.check()


@route("GET", "/openapi.json", access=Access.OPEN, content=("application/json",))
def openapi(context: Context) -> Any:
    """This API, described in OpenAPI 3.1."""
    from gridtune_steering.api.openapi import document  # it reads the finished table of routes

    return Response(wire.dump(document()), mimetype="application/json")


@route("GET", "/metrics", access=Access.MONITOR, content=("text/plain",), urgent=True)
def metrics(context: Context) -> Response:
    """Metrics of all processes of the service, in the text format of Prometheus (operators)."""
    return Response(exposition.text(state.families(_state(context))), content_type=exposition.CONTENT_TYPE)


def _state(context: Context) -> State | None:
    try:
        return context.census.take()
    except TROUBLE as error:  # what was counted is told all the same, above all now
        _log.warning("no census: %s", error, extra={"action": "census_failed"})
        return None
