"""The routes of a worker's life: ask for a point, keep it alive, report, and bring the end of its evaluation."""

from __future__ import annotations

import dataclasses
import socket
import time
from http import HTTPStatus

from flask import Response, request

from gridtune_common.protocol import (
    Ask,
    Fail,
    Heartbeat,
    Lease,
    Outcome,
    Release,
    Reports,
    Signs,
    Tell,
    Verdict,
    Verdicts,
)
from gridtune_steering.api.context import Context
from gridtune_steering.api.later import RETRY_AFTER, retry_after
from gridtune_steering.api.routing import Access, route
from gridtune_steering.metrics import instruments
from gridtune_steering.services import asking, leases, results
from gridtune_steering.services.errors import HostSetAside

#: When an ask without a point should come again, in seconds: after a wait, without one, and, at the earliest, when all
#: seats are taken.
_RETRY_AT_ONCE, _RETRY_SOON, _RETRY_CROWDED = 0, 1, 2
#: Waiting asks look again after so many seconds even if nothing rang.
_LOOK_AGAIN = 1.0


@route(
    "POST",
    "/tasks/<task>/ask",
    access=Access.EVALUATE,
    body=Ask,
    returns=Lease,
    also=(HTTPStatus.NO_CONTENT, HTTPStatus.GONE),
)
def ask(context: Context, task: str, *, body: Ask) -> Lease | Response:
    """Ask for a point; waits for one if need be, and answers 204 if none came."""
    try:
        answer = _lease_or_wait(context, task, body)
    except HostSetAside as aside:
        instruments.ASKS.labels("set_aside").inc()
        return _nothing_yet(aside.seconds)
    instruments.ASKS.labels("point" if isinstance(answer, Lease) else "nothing").inc()
    return answer


def _lease_or_wait(context: Context, task: str, body: Ask) -> Lease | Response:
    mark = context.room.mark()
    lease = asking.ask(context.steering, context.caller, task, body)
    if lease is not None or body.wait <= 0:
        return lease or _nothing_yet(_RETRY_SOON)
    if not context.room.take_seat():
        return _nothing_yet(context.turns.next(_RETRY_CROWDED))
    try:
        return _wait_for_point(context, task, body, mark) or _nothing_yet(_RETRY_AT_ONCE)
    finally:
        context.room.leave_seat()


def _wait_for_point(context: Context, task: str, body: Ask, mark: int) -> Lease | None:
    deadline = time.monotonic() + min(body.wait, context.steering.settings.ask_wait_seconds)
    lease = None
    while lease is None and (left := deadline - time.monotonic()) > 0:
        is_called = context.room.wait(task, since=mark, timeout=min(left, _LOOK_AGAIN))
        if _has_hung_up():
            context.room.call_next(task)
            asking.wait_no_more(context.steering, task, body.worker)
            return None
        mark = context.room.mark()
        left = max(deadline - time.monotonic(), 0.0)
        if is_called or asking.is_worth_asking(context.steering, task, body.worker):
            lease = _look_again(context, task, dataclasses.replace(body, wait=left))
    return lease


def _look_again(context: Context, task: str, body: Ask) -> Lease | None:
    is_settled = False
    try:
        lease = asking.ask(context.steering, context.caller, task, body)
        is_settled = lease is not None or not asking.any_ready(context.steering, task)
    finally:
        if not is_settled:
            context.room.call_next(task)
    return lease


def _has_hung_up() -> bool:
    """Whether the client of a waiting ask is gone; a point would be lost on it."""
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    if connection is None:  # called without a network
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _nothing_yet(seconds: float) -> Response:
    return Response(status=HTTPStatus.NO_CONTENT, headers={RETRY_AFTER: retry_after(seconds)})


@route(
    "POST",
    "/evaluations/<evaluation>/heartbeat",
    access=Access.EVALUATE,
    body=Heartbeat,
    returns=Verdict,
    urgent=True,
)
def heartbeat(context: Context, evaluation: str, *, body: Heartbeat) -> Verdict:
    """Say that an evaluation is alive, and renew its lease."""
    return leases.heartbeat(context.steering, context.caller, evaluation, body)


@route("POST", "/evaluations/<evaluation>/reports", access=Access.EVALUATE, body=Reports, returns=Verdict, urgent=True)
def report(context: Context, evaluation: str, *, body: Reports) -> Verdict:
    """Report intermediate metrics, and renew the lease."""
    return leases.report(context.steering, context.caller, evaluation, body)


@route("POST", "/evaluations/signs", access=Access.EVALUATE, body=Signs, returns=Verdicts, urgent=True)
def signs(context: Context, *, body: Signs) -> Verdicts:
    """Take signs of life of several evaluations at a time."""
    return leases.signs(context.steering, context.caller, body)


@route("POST", "/evaluations/<evaluation>/tell", access=Access.EVALUATE, body=Tell, returns=Outcome, urgent=True)
def tell(context: Context, evaluation: str, *, body: Tell) -> Outcome:
    """Deliver final metrics."""
    return results.tell(context.steering, context.caller, evaluation, body)


@route("POST", "/evaluations/<evaluation>/fail", access=Access.EVALUATE, body=Fail, returns=Outcome, urgent=True)
def fail(context: Context, evaluation: str, *, body: Fail) -> Outcome:
    """Say that there will be no result."""
    return results.fail(context.steering, context.caller, evaluation, body)


@route("POST", "/evaluations/<evaluation>/release", access=Access.EVALUATE, body=Release, returns=Outcome, urgent=True)
def release(context: Context, evaluation: str, *, body: Release) -> Outcome:
    """Give a point back unfinished."""
    return results.release(context.steering, context.caller, evaluation, body)
