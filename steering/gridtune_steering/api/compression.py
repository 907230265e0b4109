"""Large answers are compressed for clients that can read it."""

from __future__ import annotations

import gzip
from typing import Final

from flask import Response, request

#: Shorter answers are not worth it.
_LEAST_BYTES: Final = 2048
#: Higher levels take longer, and gain a few per cent.
_LEVEL: Final = 4
_TEXTS = frozenset({"application/json", "application/problem+json", "text/csv", "text/html", "text/plain"})


def compress(response: Response) -> Response:
    """Compress an answer of text if it is large and the client takes gzip; streams pass as they are."""
    if response.mimetype not in _TEXTS or response.is_streamed or response.direct_passthrough:
        return response
    response.vary.add("Accept-Encoding")
    content = response.get_data()
    if len(content) > _LEAST_BYTES and not response.content_encoding and request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(content, _LEVEL, mtime=0))
        response.content_encoding = "gzip"
    return response
