"""Requests as agents make them, and what their answers tell of the other side's clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import requests

from gridtune_common import protocol

_TIMEOUT: Final = (10.0, 30.0)
_LOOPBACK: Final = "localhost,127.0.0.1,::1"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a service can be reached: its base URL, and the certificates to trust (None for the usual ones)."""

    url: str
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whatever its status.

    Attributes:
        ahead: Seconds by which the other side's clock is ahead; None if it does not say.
        blur: How far off that may be, in seconds.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    ahead: float | None
    blur: float


def fetch(url: str, ca: str | None = None) -> Answer:
    """GET without any credentials, and without following redirections.

    Raises:
        requests.RequestException: There is no answer.
    """
    # a proxy of the site cannot reach this machine's own services
    proxies = {"no_proxy": _LOOPBACK} if urlsplit(url).hostname in _LOOPBACK.split(",") else {}
    headers = {protocol.PROTOCOL_HEADER: str(protocol.PROTOCOL_VERSION)}
    before = time.time()
    answer = requests.get(
        url,
        headers=headers,
        auth=lambda request: request,  # nor what ~/.netrc may hold
        verify=ca,
        proxies=proxies,
        timeout=_TIMEOUT,
        allow_redirects=False,
    )
    taken = answer.elapsed.total_seconds()
    return Answer(
        status=answer.status_code,
        headers=answer.headers,
        content=answer.content,
        ahead=_ahead(answer.headers.get("Date"), before + taken / 2),
        blur=0.5 + taken / 2,  # a Date has whole seconds
    )


def _ahead(date: str | None, at: float) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp() + 0.5 - at
    except ValueError:
        return None
