"""The Flask application: credentials in, problems out, and the table of routes in between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestTimeout

from gridtune_common import wire
from gridtune_common.protocol import PROTOCOL_HEADER, PROTOCOL_VERSION
from gridtune_steering.api import agent_views as _agent_views  # noqa: F401 - enters its routes into the table
from gridtune_steering.api import evaluation_views as _evaluation_views  # noqa: F401 - enters its routes into the table
from gridtune_steering.api import object_views as _object_views  # noqa: F401 - enters its routes into the table
from gridtune_steering.api import problems, validation, watching
from gridtune_steering.api import service_views as _service_views  # noqa: F401 - enters its routes into the table
from gridtune_steering.api import storage_views as _storage_views  # noqa: F401 - enters its routes into the table
from gridtune_steering.api import views as _views  # noqa: F401 - enters its routes into the table
from gridtune_steering.api.compression import compress
from gridtune_steering.api.context import Context
from gridtune_steering.api.guard import Crowd, RateLimit, queues
from gridtune_steering.api.later import RETRY_AFTER
from gridtune_steering.api.routing import ROUTES, Access, Route
from gridtune_steering.bookkeeping.database import TROUBLE, in_short
from gridtune_steering.doorbell import Gate, WaitingRoom
from gridtune_steering.metrics import instruments
from gridtune_steering.objectstore.port import StoreError
from gridtune_steering.services import tokens
from gridtune_steering.services.access import Caller
from gridtune_steering.services.census import Census
from gridtune_steering.services.errors import NotAllowed, NotAuthenticated, TooBusy, TooManyRequests
from gridtune_steering.services.steering import Steering

_log = logging.getLogger("gridtune.api")
#: Paths under which each route is served; health and metrics are also where others look for them.
PREFIX = "/api/v1"
_AT_ROOT = frozenset({"/healthz", "/readyz", "/metrics"})
#: Monitoring calls again and again, and what comes with a signed address may take as long as a network is slow.
_UNTRACED = frozenset(entry.name for entry in ROUTES if entry.path in _AT_ROOT or entry.access is Access.SIGNED)
_TURNED_AWAY = {TooBusy: "busy", TooManyRequests: "rate_limit"}
_CUT_OFF = "the request was cut off on its way, so nothing was done; send it again"


def create_app(steering: Steering, room: WaitingRoom) -> Flask:
    """Make the application of one web process."""
    app = Flask("gridtune_steering", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = steering.settings.body_limit
    app.url_map.strict_slashes = False
    watching.watch(app, access_log=steering.settings.access_log, untraced=_UNTRACED)
    service = _Service(steering, room)
    for entry in ROUTES:
        _serve(app, entry, service)
    app.register_error_handler(HTTPException, _refuse)
    for kind in problems.TRANSLATED:
        app.register_error_handler(kind, _say_no)
    for kind in TROUBLE:
        app.register_error_handler(kind, _come_back)
    app.register_error_handler(Exception, _crash)
    app.after_request(_finish)
    return app


class _Service:
    """What all routes of one application share."""

    def __init__(self, steering: Steering, room: WaitingRoom) -> None:
        settings = steering.settings
        self.steering = steering
        self.room = room
        self.transfers = Gate(max(1, settings.threads // 4))
        self.census = Census(steering)
        self.queue, self.standby = queues(settings.threads)
        self.crowd = Crowd(settings.threads)
        self.rate_limit = RateLimit(settings.rate_limit, settings.rate_burst)

    def context(self, caller: Caller | None) -> Context:
        """One request's surroundings."""
        return Context(
            steering=self.steering,
            room=self.room,
            transfers=self.transfers,
            census=self.census,
            queue=self.queue,
            standby=self.standby,
            known_caller=caller,
        )


def _serve(app: Flask, entry: Route, service: _Service) -> None:
    view = _view(entry, service)
    paths = [PREFIX + entry.path, *([entry.path] if entry.path in _AT_ROOT else [])]
    for index, path in enumerate(paths):
        app.add_url_rule(path, f"{entry.name}/{index}", view, methods=[entry.method])


def _view(entry: Route, service: _Service) -> Callable[..., Response]:
    def view(**variables: Any) -> Response:
        service.crowd.enter(urgent=entry.urgent)
        try:
            return _answer(entry, service, variables)
        finally:
            service.crowd.leave()

    return view


def _answer(entry: Route, service: _Service, variables: dict[str, Any]) -> Response:
    caller = _caller(service.steering, entry) if entry.access.needs_token else None
    if caller is not None:
        watching.know(user=caller.user)
        if not entry.urgent:
            service.rate_limit.take(caller.token)
    arguments = dict(variables)
    if entry.query is not None:
        arguments["query"] = validation.read_query(entry.query, request.args)
    if entry.body is not None:
        body = arguments["body"] = validation.read_body(entry.body, _whole_body())
        watching.know(worker=getattr(body, "worker", None))
    answer = entry.view(service.context(caller), **arguments)
    if isinstance(answer, Response):
        return answer
    content = b"" if answer is None else wire.dump(answer).encode()
    return Response(content, status=entry.status.value, mimetype="application/json" if content else None)


def _whole_body() -> bytes:
    """The request's body.

    Raises:
        RequestTimeout: It ended early: the connection broke, and nobody has refused what was to be said. To answer
            that it is no JSON would have agents put results aside for good.
    """
    try:
        body = request.get_data(cache=False)
    except ClientDisconnected as error:
        raise RequestTimeout(_CUT_OFF) from error
    if len(body) < (request.content_length or 0):
        raise RequestTimeout(_CUT_OFF)
    return body


def _caller(steering: Steering, entry: Route) -> Caller | None:
    """Who calls, by the token; None for monitoring with its own secret.

    Raises:
        NotAuthenticated: There is no token that is known here.
        NotAllowed: The token does not reach that far.
    """
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise NotAuthenticated("send your token in the header 'Authorization: Bearer TOKEN'")
    if entry.access is Access.MONITOR and tokens.is_for_metrics(steering, secret.strip()):
        return None
    caller = tokens.authenticate(steering, secret.strip())
    if entry.access is Access.MONITOR and not entry.access.admits(caller.scope):
        raise NotAllowed("metrics are for operators, and for who has the secret GRIDTUNE_STEERING_METRICS_TOKEN")
    if not entry.access.admits(caller.scope):
        raise NotAllowed(f"a token with scope {caller.scope.value!r} may evaluate its task's points, and nothing else")
    return caller


def _say_no(error: Exception) -> Response:
    """One of our own errors; what is wrong with the object store is for the operators too."""
    if type(error) in _TURNED_AWAY:
        instruments.TURNED_AWAY.labels(_TURNED_AWAY[type(error)]).inc()
    if isinstance(error, StoreError) and problems.status_of(error) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s %s: %s", request.method, request.path, error, extra={"action": "store_trouble"})
    return problems.of_error(error, request.path)


def _refuse(error: HTTPException) -> Response:
    """What Flask itself refuses: unknown paths and methods, bodies too large, malformed requests."""
    status = HTTPStatus(error.code or 500)
    response = problems.answer(status, type(error).__name__, error.description or "", request.path)
    for name, value in error.get_headers():
        if name in {"Allow", RETRY_AFTER}:
            response.headers[name] = value
    return response


def _come_back(error: Exception) -> Response:
    """The database is busy, full or away: clients try again."""
    _log.error("%s %s: the database did not answer: %s", request.method, request.path, in_short(error))
    detail = "the database did not answer; try again"
    return problems.answer(HTTPStatus.SERVICE_UNAVAILABLE, "DatabaseAway", detail, request.path)


def _crash(error: Exception) -> Response:
    """A mistake of ours: say so without details, and log all of them."""
    _log.exception("%s %s failed", request.method, request.path, exc_info=error, extra={"action": "crash"})
    detail = "the service made a mistake; its operators find it in the log"
    return problems.answer(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", detail, request.path)


def _finish(response: Response) -> Response:
    response.headers[PROTOCOL_HEADER] = str(PROTOCOL_VERSION)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return compress(response)
