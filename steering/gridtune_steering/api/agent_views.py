"""The agent in one file, for whoever wants to run one. It is no secret, and a job fetches it before it has anything."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request

from gridtune_steering import agentfile
from gridtune_steering.agentfile import AgentFile
from gridtune_steering.api.context import Context
from gridtune_steering.api.routing import Access, route

_ZIP, _TEXT = "application/zip", "text/plain"


@route("GET", f"/agent/{agentfile.NAME}", access=Access.OPEN, content=(_ZIP,), also=(HTTPStatus.NOT_MODIFIED,))
def get_agent(context: Context) -> Response:
    """Fetch the agent as one file, which a bare Python runs."""
    file = _file(context)
    context.begin_transfer()
    response = _kept(Response(file.content, mimetype=_ZIP), file)
    response.call_on_close(context.transfers.leave)
    return response


@route("GET", f"/agent/{agentfile.NAME}.sha256", access=Access.OPEN, content=(_TEXT,), also=(HTTPStatus.NOT_MODIFIED,))
def get_agent_checksum(context: Context) -> Response:
    """Fetch the checksum of the agent's file, as sha256sum(1) reads it."""
    file = _file(context)
    return _kept(Response(file.checksum, mimetype=_TEXT), file)


def _file(context: Context) -> AgentFile:
    return agentfile.agent_file(context.steering.settings.agent_libraries)


def _kept(response: Response, file: AgentFile) -> Response:
    """With a tag, by which caches ask each time whether they still have the right one."""
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(file.sha256)
    response.make_conditional(request)
    return response
