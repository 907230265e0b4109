"""What is noted of each request: its id, how long it took, and on wish a line in the log and a span."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Collection
from contextlib import AbstractContextManager, ExitStack
from http import HTTPStatus
from typing import Final

from flask import Flask, Response, g, request

from gridtune_steering import logs, tracing
from gridtune_steering.metrics import instruments

_log = logging.getLogger("gridtune.access")
#: Names one request in its answer, in all lines of the log, and in what stands before the service.
REQUEST_ID: Final = "X-Request-ID"
#: Ids from elsewhere are taken if they cannot do harm in a log.
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_NO_ROUTE: Final = "none"


def watch(app: Flask, *, access_log: bool, untraced: Collection[str]) -> None:
    """Note every request to the application, those to the routes *untraced* without a span."""

    def finish(response: Response) -> Response:
        route, seconds = _route(), time.monotonic() - g.began
        response.headers[REQUEST_ID] = g.request_id
        instruments.REQUEST_SECONDS.labels(route, str(response.status_code)).observe(seconds)
        _tell(response.status_code)
        if access_log:
            _note(route, response.status_code, seconds)
        return response

    app.before_request(lambda: _begin(untraced))
    app.after_request(finish)
    app.teardown_request(_end)


def _begin(untraced: Collection[str]) -> None:
    g.began = time.monotonic()
    given = request.headers.get(REQUEST_ID, "")
    g.request_id = given if _SANE.fullmatch(given) else secrets.token_hex(8)
    g.around = ExitStack()
    g.around.enter_context(logs.about(request=g.request_id, task=_variable("task")))
    g.span = g.around.enter_context(_span() if _route() not in untraced else tracing.nothing())
    instruments.REQUESTS_IN_PROGRESS.inc()


def _end(_error: BaseException | None) -> None:
    if "around" in g:
        instruments.REQUESTS_IN_PROGRESS.dec()
        g.around.close()


def _span() -> AbstractContextManager[tracing.Span]:
    """The request's span. Nothing of its path, query, headers and body is in it but ids."""
    name = f"{request.method} {request.url_rule.rule}" if request.url_rule is not None else _NO_ROUTE
    facts = {
        "gridtune.request": g.request_id,
        **tracing.ids(task=_variable("task"), evaluation=_variable("evaluation")),
    }
    if request.url_rule is not None:
        facts |= {"http.request.method": request.method, "http.route": request.url_rule.rule}
    return tracing.span(name, facts, parent=request.headers.get("traceparent"), is_request=True)


def _tell(status: int) -> None:
    g.span.note({"http.response.status_code": status})
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        g.span.fail(str(status))


def _variable(name: str) -> str | None:
    return (request.view_args or {}).get(name)


def _note(route: str, status: int, seconds: float) -> None:
    ms = round(1000 * seconds, 1)
    extra = {"action": "request", "route": route, "status": status, "ms": ms}
    _log.info("%s %d %.1f ms%s", route, status, ms, _by_whom(), extra=extra)


def _by_whom() -> str:
    return f" {g.user}" if "user" in g else ""


def know(**known: str | None) -> None:
    """What has become known of the request: its user, its worker."""
    if user := known.get("user"):
        g.user = user
    logs.note(**known)


def _route() -> str:
    """The route's name; paths hold ids, and there is no end of them."""
    return str(request.endpoint).partition("/")[0] if request.url_rule is not None else _NO_ROUTE
