"""Sending a file to signed addresses and fetching one, going on where a connection broke.

An address carries its own permission in its query string. So no token goes along, not even one from ~/.netrc, and no
message shows the query.

::

    TransferError
    ├── TransferRefused  the other side said no, and asking again would not help
    ├── GaveUp           the caller had no more time
    └── (archive.Damaged what arrived is not what was stored, twice)
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Final, TypeVar
from urllib.parse import urlsplit

import requests

from gridtune_common import __version__, protocol
from gridtune_common.errors import GridtuneError, ServiceError, Unreachable
from gridtune_evaluation.archive import Damaged, verify
from gridtune_evaluation.outage import Outage, backoff, passes

T = TypeVar("T")

_log = logging.getLogger("gridtune.agent")

#: Bytes at once. Small: a time-out counts for a whole block, and a connection that breaks takes the block on its way
#: with it.
_NET_BLOCK: Final = 2**16
#: Seconds for the handshake and for each block that is sent, and for each block of an answer.
_TIMEOUT: Final = (30.0, 120.0)
_LATER: Final = frozenset({408, 425, 429})
#: Codes of S3 in answers of status 400 that are about this one transmission.
_MANGLED: Final = (b"BadDigest", b"IncompleteBody", b"RequestTimeout")
#: The same for an address that is too old; most services say 403.
_EXPIRED: Final = (b"ExpiredToken", b"AccessDenied")
#: How often in a row fresh addresses are asked for without any byte getting through.
REFRESHES: Final = 2
#: The share of its time after which an address is not begun with: a server that refuses a part may close the
#: connection before anybody can read its answer.
FRESH: Final = 0.9
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
#: Seconds between two looks at whether to give up.
_GLANCE: Final = 0.5


class TransferError(GridtuneError):
    """A file could not be sent or fetched."""


class TransferRefused(TransferError):  # noqa: N818 - named for the fact
    """The other side said no.

    Attributes:
        status: HTTP status code.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class GaveUp(TransferError):  # noqa: N818
    """The caller had no more time."""


def upload(
    path: Path,
    upload: protocol.Upload,
    refresh: Callable[[], protocol.Upload],
    *,
    server: str,
    verify: str | bool | None = None,
    give_up: Callable[[], bool] = lambda: False,
) -> None:
    """Send a file, part by part; what was sent is not sent again.

    Args:
        path: The file; nobody may write to it meanwhile.
        upload: Its addresses, just given.
        refresh: Asks the service for fresh ones. Another object's id means that all parts are sent anew.
        server: Base URL for addresses that begin with ``/``.
        verify: CA bundle for TLS, or False to trust anyone; None for the system's.
        give_up: Asked twice a second.

    Raises:
        TransferRefused: The other side said no.
        GaveUp: *give_up* said so.
        TransferError: The addresses do not fit the file.
        Damaged: The file became shorter.
        ServiceError: From *refresh*.
        OSError: The file cannot be read.
    """
    with TokenlessSession() as session:
        _Sender(session, path, upload, refresh, _Road(server, verify, give_up, "send a file")).send()


def download(
    target: Path,
    fetch: Callable[[], protocol.Download],
    *,
    size: int,
    sha256: str,
    server: str,
    verify: str | bool | None = None,
    give_up: Callable[[], bool] = lambda: False,
    patience_seconds: float = float("inf"),
) -> None:
    """Fetch a file; *target* appears when it is whole and right.

    What has arrived waits in ``<target>.part``, also for the next call.

    Args:
        target: The file to make.
        fetch: Asks the service for an address.
        size: In bytes.
        sha256: Of all bytes, in hex.
        server: Base URL for addresses that begin with ``/``.
        verify: CA bundle for TLS, or False to trust anyone; None for the system's.
        give_up: Asked twice a second.
        patience_seconds: How long nothing may come through.

    Raises:
        Damaged: What arrived is not what was stored, also after starting over.
        TransferRefused: The other side said no.
        GaveUp: *give_up* said so.
        ServiceError: From *fetch*.
        OSError: The disk; nothing is left on it then.
    """
    with TokenlessSession() as session:
        road = _Road(server, verify, give_up, "fetch a file", patience_seconds)
        _Fetcher(session, target, fetch, size, sha256, road).fetch()


# --- sending


class _Sender:
    def __init__(
        self,
        session: requests.Session,
        path: Path,
        upload: protocol.Upload,
        refresh: Callable[[], protocol.Upload],
        road: _Road,
    ) -> None:
        self._session = session
        self._path = path
        self._size = path.stat().st_size
        self._ask = refresh
        self._road = road
        self._n_sent = 0
        self._take(upload)

    def send(self) -> None:
        while self._n_sent < len(self._upload.urls):
            self._send_part()

    def _take(self, upload: protocol.Upload) -> None:
        n_parts = max(1, -(-self._size // max(1, upload.part_size)))
        if len(upload.urls) != n_parts or upload.part_size < 1:
            raise TransferError(
                f"the service gave {len(upload.urls)} addresses for {n_parts} parts of {self._path}; "
                "is it of another version than this agent?"
            )
        self._upload = upload
        self._fresh_until = time.monotonic() + FRESH * upload.expires_seconds

    def _refresh(self) -> None:
        before = self._identity()
        self._take(self._road.patiently(self._ask))
        if self._identity() != before:
            self._n_sent = 0

    def _identity(self) -> tuple[str, int]:
        return self._upload.id, self._upload.part_size

    def _send_part(self) -> None:
        identity = self._identity()
        start = self._n_sent * self._upload.part_size
        part = _Part(self._path, start, self._upload.part_size, self._size, self._road.look)
        headers = {"Content-MD5": part.md5(), "Content-Type": "application/octet-stream"}
        n_refreshed = 0
        for pause in self._road.pauses():
            if time.monotonic() >= self._fresh_until:
                self._refresh()
            if self._identity() != identity:
                return  # all parts are begun anew, and the first may not be this one
            url = self._upload.urls[self._n_sent]
            trouble = self._put(url, part, headers)
            if trouble is None:
                self._road.clear()
                self._n_sent += 1
                return
            if isinstance(trouble, _Expired):
                if n_refreshed == REFRESHES:
                    raise TransferRefused(trouble.status, str(trouble))
                n_refreshed += 1
                self._refresh()
                continue
            self._road.wait(trouble, pause)

    def _put(self, url: str, part: _Part, headers: dict[str, str]) -> Unreachable | None:
        """Send one part once; what stood in the way, if anything."""
        # An empty stream would go out in chunks, which signed addresses do not take.
        body = part if len(part) else b""
        arguments = self._road.arguments(url)
        try:
            with self._session.put(data=body, headers=headers, allow_redirects=False, **arguments) as answer:
                return _judged(answer)
        except requests.RequestException as error:
            return _broken(error, arguments["url"])


class _Part:
    """A slice of a file as the body of a request: its length is known, and it is never in memory whole."""

    def __init__(self, path: Path, start: int, part_size: int, size: int, look: Callable[[], None]) -> None:
        self._path = path
        self._look = look
        self.start = start
        self._length = min(part_size, size - start)
        self._blocks: Iterator[bytes] = iter(())

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        left = self._length
        with open(self._path, "rb") as file:
            file.seek(self.start)
            while left:
                self._look()
                block = file.read(min(_NET_BLOCK, left))
                if not block:
                    raise Damaged(f"{self._path} became shorter while it was sent")
                left -= len(block)
                yield block

    def md5(self) -> str:
        try:
            digest = hashlib.md5(usedforsecurity=False)
        except TypeError:  # pragma: no cover - a Python that was built without this argument
            digest = hashlib.md5()  # noqa: S324 - S3's checksum of a transmission
        for block in self:
            digest.update(block)
        return base64.b64encode(digest.digest()).decode()


# --- fetching


class _Fetcher:
    def __init__(
        self,
        session: requests.Session,
        target: Path,
        fetch: Callable[[], protocol.Download],
        size: int,
        sha256: str,
        road: _Road,
    ) -> None:
        self._session = session
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._ask = fetch
        self._size = size
        self._sha256 = sha256
        self._road = road
        self._url: str | None = None
        self._fresh_until = 0.0

    def fetch(self) -> None:
        for is_last in (False, True):
            self._fill()
            try:
                verify(self._part, self._sha256, self._size)
            except Damaged as error:
                self._part.unlink()
                if is_last:
                    raise
                # What is mangled on the way may arrive whole the next time.
                _log.warning("Fetching again from the start: %s", error, extra={"action": "download_damaged"})
            else:
                os.replace(self._part, self._target)
                return

    def _fill(self) -> None:
        """Fetch until the part file has all its bytes, right or wrong."""
        n_refused = 0
        pauses = self._road.pauses()
        while self._n_there() < self._size or not self._part.exists():
            before = self._n_there()
            trouble = self._get(before)
            if self._n_there() > before:
                n_refused, pauses = 0, self._road.pauses()
                self._road.clear()
            if trouble is None:
                continue
            if isinstance(trouble, _Expired):
                self._url = None
                n_refused += 1
                if n_refused > REFRESHES:
                    raise TransferRefused(trouble.status, str(trouble))
                continue
            self._road.wait(trouble, next(pauses))
        self._road.clear()

    def _n_there(self) -> int:
        try:
            found = self._part.stat().st_size
        except FileNotFoundError:
            return 0
        if found > self._size:
            self._part.unlink()
            return 0
        return found

    def _address(self) -> str:
        if self._url is None or time.monotonic() >= self._fresh_until:
            given = self._road.patiently(self._ask)
            self._url, self._fresh_until = given.url, time.monotonic() + FRESH * given.expires_seconds
        return self._url

    def _get(self, start: int) -> Unreachable | None:
        """Fetch from *start* on, as far as one connection carries; what stood in the way, if anything."""
        # Compression on the way would make ranges meaningless.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        arguments = self._road.arguments(self._address())
        try:
            with self._session.get(headers=headers, stream=True, **arguments) as answer:
                if answer.status_code == 416:
                    self._part.unlink()
                    return Unreachable(f"{_plain(arguments['url'])} does not have the range from {start} on")
                trouble = _judged(answer)
                return trouble or self._store(answer, start)
        except requests.RequestException as error:
            return _broken(error, arguments["url"])

    def _store(self, answer: requests.Response, start: int) -> Unreachable | None:
        if answer.status_code != 206 or _first_byte(answer) != start:
            start = 0  # it ignores ranges, and sends all
            if answer.status_code == 206:
                self._part.unlink()
                return Unreachable(f"{_plain(answer.url)} sent another range than it was asked for")
        left = self._size - start
        try:
            with open(self._part, "ab" if start else "wb") as file:
                for block in answer.iter_content(_NET_BLOCK):
                    self._road.look()
                    file.write(block[:left])
                    left -= len(block)
                    if left < 0:
                        break
        except requests.RequestException:
            raise
        except OSError:
            self._part.unlink()  # room on a full disk
            raise
        return Unreachable(f"the connection to {_plain(answer.url)} ended early") if left > 0 else None


def _first_byte(answer: requests.Response) -> int | None:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found.group(1)) if found else None


# --- the way there


class _NoToken(requests.auth.AuthBase):
    """Sends no credentials. As an `auth` it goes before what ~/.netrc may hold."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class TokenlessSession(requests.Session):
    """Sends no credentials anywhere: a signed address is one itself."""

    def __init__(self) -> None:
        super().__init__()
        self.auth = _NoToken()
        self.headers["User-Agent"] = f"gridtune/{__version__}"

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Send no credentials to where an answer redirects either; requests would look into ~/.netrc."""


def proxies_to(url: str) -> dict[str, str]:
    """What requests is to be told of proxies: one of the site cannot reach this machine's own services."""
    return {"no_proxy": ",".join(_LOOPBACK)} if urlsplit(url).hostname in _LOOPBACK else {}


class _Expired(Unreachable):
    """The address is not good any more, or never was."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class _Road:
    """What all requests of one transfer share: the base URL, trust, patience and the log of its outages."""

    def __init__(
        self,
        server: str,
        verify: str | bool | None,
        give_up: Callable[[], bool],
        what: str,
        patience: float = float("inf"),
    ) -> None:
        self._server = server.rstrip("/")
        self._verify = verify
        self._give_up = give_up
        self._patience = patience
        self._look_at = 0.0
        self._outage = Outage(what)

    def arguments(self, url: str) -> dict[str, Any]:
        whole = self._server + url if url.startswith("/") else url
        return {"url": whole, "timeout": _TIMEOUT, "proxies": proxies_to(whole), "verify": self._verify}

    def pauses(self) -> Iterator[float]:
        return backoff()

    def wait(self, trouble: ServiceError, seconds: float) -> None:
        self._outage.note(trouble)
        until = time.monotonic() + seconds
        while True:
            if self._give_up() or self._outage.seconds > self._patience:
                raise GaveUp(f"gave up: {trouble}")
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _GLANCE))

    def look(self) -> None:
        """Ask now and then whether to go on, though all is well.

        Raises:
            GaveUp: There is no time for it any more.
        """
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _GLANCE
            if self._give_up():
                raise GaveUp("gave up: there is no time for it any more")

    def clear(self) -> None:
        self._outage.over()

    def patiently(self, call: Callable[[], T]) -> T:
        for pause in self.pauses():
            try:
                return call()
            except ServiceError as error:
                if not passes(error):
                    raise
                self.wait(error, pause)
        raise AssertionError("the back-off never ends")


def _judged(answer: requests.Response) -> Unreachable | None:
    """None for a success, and what stands in the way if it may pass.

    Raises:
        TransferRefused: It will not.
    """
    status = answer.status_code
    if status in (200, 201, 204, 206):
        return None
    said = f"{_plain(answer.url)} answered {status} {answer.reason}"
    if status >= 500 or status in _LATER:
        return Unreachable(said)
    detail = next(answer.iter_content(2000), b"")
    code = re.search(rb"<Code>([A-Za-z]{1,60})</Code>", detail)
    if code:
        said += f" ({code.group(1).decode()})"
    if status == 400 and any(mark in detail for mark in _MANGLED):
        return Unreachable(said)
    if status in (401, 403) or (status == 400 and any(mark in detail for mark in _EXPIRED)):
        return _Expired(status, said)
    raise TransferRefused(status, said)


def _broken(error: requests.RequestException, url: str) -> Unreachable:
    """What a failed request says, without the secret in its address.

    Raises:
        TransferRefused: It is no address at all.
    """
    if isinstance(error, ValueError) and not isinstance(error, requests.JSONDecodeError):
        raise TransferRefused(0, f"{_plain(url)} is no address: {type(error).__name__}") from None
    reason: Any = error.args[0] if error.args else error
    while getattr(reason, "reason", None) is not None and not isinstance(reason, OSError):
        reason = reason.reason
    text = re.sub(r"^.*? object at 0x\w+>: |\?\S+", "", str(reason))
    return Unreachable(f"cannot reach {_plain(url)}: {text}")


def _plain(url: str) -> str:
    """An address without its query, which is as good as a password."""
    return url.partition("?")[0]
