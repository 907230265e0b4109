"""The routes behind signed addresses, for when the service itself keeps the objects. The address is the credential."""

from __future__ import annotations

from http import HTTPStatus

from flask import Response, request, send_file

from gridtune_steering.api.context import Context
from gridtune_steering.api.routing import Access, route
from gridtune_steering.objectstore.folder import FolderStore
from gridtune_steering.objectstore.port import NoSuchObject
from gridtune_steering.services.errors import NotFound

_ANY_BYTES = "application/octet-stream"


@route("PUT", "/objects/<path:key>", access=Access.SIGNED, accepts=_ANY_BYTES)
def put_part(context: Context, key: str) -> None:
    """Send a part of an upload to its signed address."""
    store = _folder_store(context, key)
    length = request.content_length
    request.max_content_length = length or 0  # the limit is the size that was signed: the store reads nothing else
    context.begin_transfer()
    try:
        store.receive(key, request.args, request.stream, length, request.headers.get("Content-MD5"))
    finally:
        context.transfers.leave()


@route(
    "GET",
    "/objects/<path:key>",
    access=Access.SIGNED,
    content=(_ANY_BYTES,),
    also=(HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NOT_MODIFIED),
)
def get_object(context: Context, key: str) -> Response:
    """Fetch an object, or a range of it, from its signed address."""
    path = _folder_store(context, key).fetch(key, request.args)
    context.begin_transfer()
    try:
        # an attachment: what trainings store is not to be shown by a browser as if it came from the service
        response = send_file(path, _ANY_BYTES, as_attachment=True, conditional=True, etag=False)
    except FileNotFoundError as error:  # deleted just now
        context.transfers.leave()
        raise NoSuchObject(key) from error
    # a file that is passed through to the server is closed by it alone: nobody would hear of the response's end
    response.direct_passthrough = False
    response.headers["Cache-Control"] = "no-store"
    if request.method == "HEAD":
        response.close()  # nobody will read the file
        context.transfers.leave()
    else:
        response.call_on_close(context.transfers.leave)
    return response


def _folder_store(context: Context, key: str) -> FolderStore:
    store = context.steering.store
    if not isinstance(store, FolderStore):
        raise NotFound("object", key)
    return store
