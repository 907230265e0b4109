"""Files reach signed addresses and come back, over connections that break."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gridtune_common import protocol
from gridtune_common.errors import Refused, Unreachable
from gridtune_evaluation import transfer
from gridtune_evaluation.archive import Damaged
from gridtune_evaluation.transfer import GaveUp, TransferError, TransferRefused, download, upload

_SECRET = "X-Signature=very-secret"
_CONTENT = os.urandom(300_000)


@dataclass
class Seen:
    """One request as it was on the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Store:
    """An object store that misbehaves as it is told: each plan is used up by one request."""

    port: int = 0
    content: bytes = _CONTENT
    seen: list[Seen] = field(default_factory=list)
    plans: list[Callable[[Any], None]] = field(default_factory=list)

    @property
    def base(self) -> str:
        """The store's base URL."""
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        """What was asked for, without the query."""
        return [request.path.partition("?")[0] for request in self.seen]

    def upload(self, n_parts: int, part_size: int, key: str = "k", life: float = 600) -> protocol.Upload:
        """Addresses for an upload."""
        return protocol.Upload(key, [f"/{key}/{n}?{_SECRET}" for n in range(n_parts)], part_size, life)

    def download(self, key: str = "k", life: float = 600) -> protocol.Download:
        """The address of a download."""
        return protocol.Download(f"{self.base}/{key}?{_SECRET}", life)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        """Take a part."""
        self._note()
        if self._misbehaved():
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.store.seen[-1].body = body
        self.answer(200)

    def do_GET(self) -> None:
        """Give the content, or a range of it."""
        self._note()
        if not self._misbehaved():
            self.give()

    def give(self, *, n_bytes: int | None = None, ignore_range: bool = False, flip: bool = False) -> None:
        """Send the content, but perhaps break off after some bytes or change one."""
        content = self.store.content
        wanted = self.headers.get("Range")
        start = int(wanted[6:-1]) if wanted and not ignore_range else 0
        sent = bytearray(content[start:])
        if flip:
            sent[0] ^= 1
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent[:n_bytes])
        self.wfile.flush()
        if n_bytes is not None:
            self.hang_up()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; the connection ends when the request was not read."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def swallow(self) -> None:
        """Read the request's body."""
        self.store.seen[-1].body = self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def hang_up(self) -> None:
        """End the connection at once."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _note(self) -> None:
        self.store.seen.append(Seen(self.command, self.path, dict(self.headers)))

    def _misbehaved(self) -> bool:
        if not self.store.plans:
            return False
        self.store.plans.pop(0)(self)
        return True


def says(status: int, body: bytes = b"") -> Callable[[Any], None]:
    """Answer with this status."""

    def plan(handler: Any) -> None:
        handler.swallow()
        handler.answer(status, body)

    return plan


def breaks(handler: Any) -> None:
    """Read a little of what is sent and hang up."""
    handler.rfile.read(10)
    handler.hang_up()


def gives(**how: Any) -> Callable[[Any], None]:
    """Give the content in a certain way."""
    return lambda handler: handler.give(**how)


@pytest.fixture
def store() -> Iterator[Store]:
    """An object store on loopback."""
    known = Store()

    class Handler(_Handler):
        store = known

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Short pauses; and traps for credentials and proxies that must not be used."""
    monkeypatch.setattr(transfer, "backoff", lambda: iter([0.01] * 1000))
    monkeypatch.setattr(transfer, "_NET_BLOCK", 1000)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password trap\ndefault login me password trap\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The file to send."""
    path = tmp_path / "archive"
    path.write_bytes(_CONTENT)
    return path


def never() -> Any:
    """Fresh addresses are not needed."""
    raise AssertionError("nobody should have asked")


def send(store: Store, source: Path, **options: Any) -> None:
    """Send *source* in three parts."""
    options.setdefault("refresh", never)
    upload(source, options.pop("upload", store.upload(3, 100_000)), server=store.base, **options)


def get(store: Store, target: Path, fetch: Callable[[], protocol.Download] | None = None, **options: Any) -> None:
    """Fetch the content."""
    options = {"size": len(_CONTENT), "sha256": hashlib.sha256(_CONTENT).hexdigest(), "server": store.base, **options}
    download(target, fetch or store.download, **options)


# --- sending


def test_parts_arrive_whole_and_once(store: Store, source: Path) -> None:
    """Each part is one PUT with its length and checksum, and without credentials."""
    send(store, source)

    assert store.paths() == ["/k/0", "/k/1", "/k/2"]
    assert b"".join(request.body for request in store.seen) == _CONTENT
    for request in store.seen:
        digest = hashlib.md5(request.body, usedforsecurity=False).digest()
        assert request.headers["Content-MD5"] == base64.b64encode(digest).decode()
        assert request.headers["Content-Length"] == "100000"
        assert "Authorization" not in request.headers
        assert "Transfer-Encoding" not in request.headers


def test_the_last_part_may_be_short(store: Store, source: Path) -> None:
    """A part ends where the file ends."""
    send(store, source, upload=store.upload(2, 200_000))

    assert [len(request.body) for request in store.seen] == [200_000, 100_000]


def test_an_empty_file_is_one_empty_part(store: Store, tmp_path: Path) -> None:
    """Nothing is sent, with its length."""
    (tmp_path / "empty").touch()

    send(store, tmp_path / "empty", upload=store.upload(1, 100))

    assert [request.headers["Content-Length"] for request in store.seen] == ["0"]


@pytest.mark.parametrize(
    "trouble",
    [
        breaks,
        says(503),
        says(500),
        says(429),
        says(408),
        says(400, b"<Error><Code>BadDigest</Code></Error>"),
    ],
    ids=["connection broken", "503", "500", "429", "408", "BadDigest"],
)
def test_a_part_in_trouble_is_sent_again_alone(store: Store, source: Path, trouble: Callable[[Any], None]) -> None:
    """Parts that were sent are not sent again."""
    store.plans = [lambda handler: (handler.swallow(), handler.answer(200))[1], trouble, trouble]

    send(store, source)

    assert store.paths() == ["/k/0", "/k/1", "/k/1", "/k/1", "/k/2"]
    assert [request.body for request in store.seen if request.path.startswith("/k/1")][-1] == _CONTENT[100_000:200_000]


def test_an_expired_address_is_replaced(store: Store, source: Path) -> None:
    """After 403 the part goes to a fresh address, and only what is left."""
    store.plans = [lambda handler: (handler.swallow(), handler.answer(200))[1], says(403)]
    fresh = protocol.Upload("k", [f"/fresh/{n}" for n in range(3)], 100_000, 600)

    send(store, source, refresh=lambda: fresh)

    assert store.paths() == ["/k/0", "/k/1", "/fresh/1", "/fresh/2"]


def test_another_object_gets_all_parts(store: Store, source: Path) -> None:
    """When the service began the upload anew, parts of the old one are worth nothing."""
    store.plans = [lambda handler: (handler.swallow(), handler.answer(200))[1], says(403)]

    send(store, source, refresh=lambda: store.upload(2, 200_000, key="new"))

    assert store.paths() == ["/k/0", "/k/1", "/new/0", "/new/1"]
    assert b"".join(request.body for request in store.seen[2:]) == _CONTENT


def test_old_addresses_are_not_begun_with(store: Store, source: Path) -> None:
    """An address whose time is up is replaced before a part is sent in vain."""
    send(store, source, upload=store.upload(3, 100_000, life=0), refresh=lambda: store.upload(3, 100_000))

    assert len(store.seen) == 3


def test_a_service_that_is_away_is_waited_for(store: Store, source: Path) -> None:
    """Fresh addresses are asked for until the service is back."""
    answers: list[Any] = [Unreachable("away"), Unreachable("away"), store.upload(3, 100_000)]

    def refresh() -> protocol.Upload:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    send(store, source, upload=store.upload(3, 100_000, life=0), refresh=refresh)

    assert answers == []


def test_a_refusal_of_the_service_comes_through(store: Store, source: Path) -> None:
    """An evaluation that was lost gets no addresses."""

    def refresh() -> protocol.Upload:
        raise Refused(409, {"detail": "the lease is lost"})

    with pytest.raises(Refused, match="the lease is lost"):
        send(store, source, upload=store.upload(3, 100_000, life=0), refresh=refresh)


def test_refused_for_good(store: Store, source: Path) -> None:
    """Two fresh addresses are tried; the error does not show their signatures."""
    store.plans = [says(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")] * 10

    with pytest.raises(TransferRefused, match="403") as caught:
        send(store, source, refresh=lambda: store.upload(3, 100_000))

    assert len(store.seen) == 3
    assert caught.value.status == 403
    assert "SignatureDoesNotMatch" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 404, 307, 411])
def test_other_answers_are_errors_at_once(store: Store, source: Path, status: int) -> None:
    """What will not pass is not tried again, and no redirect is followed with a part."""
    store.plans = [says(status)]

    with pytest.raises(TransferRefused, match=str(status)):
        send(store, source)
    assert len(store.seen) == 1


def test_giving_up_is_the_callers_choice(store: Store, source: Path) -> None:
    """The last trouble is named, without the signature."""
    store.plans = [says(503)] * 100

    with pytest.raises(GaveUp, match="answered 503") as caught:
        send(store, source, give_up=lambda: len(store.seen) >= 3)
    assert "secret" not in str(caught.value)


def test_giving_up_does_not_wait_for_the_pause(store: Store, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long pause is cut short."""
    monkeypatch.setattr(transfer, "backoff", lambda: iter([60.0]))
    store.plans = [says(503)]
    until = time.monotonic() + 0.3

    with pytest.raises(GaveUp):
        send(store, source, give_up=lambda: time.monotonic() > until)
    assert time.monotonic() < until + 3


def test_a_closed_port_is_described_without_the_signature(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error nor the log has the query string."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{free.getsockname()[1]}"
    calls = iter([False, False, True])

    with pytest.raises(GaveUp, match=r"cannot reach http://127.0.0.1.*refused") as caught:
        upload(
            source,
            protocol.Upload("k", [f"{base}/k?{_SECRET}"], 10**6, 600),
            never,
            server="http://127.0.0.1",
            give_up=lambda: next(calls),
        )
    assert "secret" not in str(caught.value) + caplog.text
    assert caught.value.__cause__ is None
    assert "Cannot send a file, trying on" in caplog.text


def test_addresses_must_fit_the_file(store: Store, source: Path) -> None:
    """Too few addresses are an error before anything is sent."""
    with pytest.raises(TransferError, match="2 addresses for 3 parts"):
        send(store, source, upload=store.upload(2, 100_000))
    assert store.seen == []


def test_a_file_that_shrinks_is_not_sent_for_ever(store: Store, source: Path) -> None:
    """The parts must be of the file that was announced."""
    addresses = store.upload(3, 100_000)

    def shrink(handler: Any) -> None:
        os.truncate(source, 150_000)
        handler.swallow()
        handler.answer(200)

    store.plans = [shrink]

    with pytest.raises(Damaged, match="became shorter"):
        send(store, source, upload=addresses)


def test_a_slow_store_is_not_an_outage(store: Store, source: Path) -> None:
    """A part that takes its time is sent once."""

    def slowly(handler: Any) -> None:
        time.sleep(0.7)
        handler.swallow()
        handler.answer(200)

    store.plans = [slowly]

    send(store, source)

    assert len(store.seen) == 3


# --- fetching


def test_a_file_is_fetched(store: Store, tmp_path: Path) -> None:
    """It appears under its name, without credentials on the wire."""
    get(store, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == _CONTENT
    assert not (tmp_path / "got.part").exists()
    assert [request.headers.get("Authorization") for request in store.seen] == [None]


def test_a_broken_connection_is_gone_on_from(store: Store, tmp_path: Path) -> None:
    """Only what is missing is asked for."""
    store.plans = [gives(n_bytes=120_000), gives(n_bytes=50_000), says(503)]

    get(store, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == _CONTENT
    ranges = [request.headers.get("Range") for request in store.seen]
    assert ranges == [None, "bytes=120000-", "bytes=170000-", "bytes=170000-"]


def test_a_part_from_before_is_gone_on_from(store: Store, tmp_path: Path) -> None:
    """What an interrupted call left is used."""
    (tmp_path / "got.part").write_bytes(_CONTENT[:1000])

    get(store, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == _CONTENT
    assert [request.headers.get("Range") for request in store.seen] == ["bytes=1000-"]


def test_a_server_without_ranges_is_begun_anew(store: Store, tmp_path: Path) -> None:
    """An answer with everything replaces what was there."""
    store.plans = [gives(n_bytes=120_000), gives(ignore_range=True)]

    get(store, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == _CONTENT


def test_a_range_that_is_not_there_is_begun_anew(store: Store, tmp_path: Path) -> None:
    """416 means that what was there is of another file."""
    (tmp_path / "got.part").write_bytes(b"other")
    store.plans = [says(416)]

    get(store, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == _CONTENT
    assert [request.headers.get("Range") for request in store.seen] == ["bytes=5-", None]


def test_the_wrong_range_is_not_taken(store: Store, tmp_path: Path) -> None:
    """A cache that answers with another range does not spoil the file."""

    def wrongly(handler: Any) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 0-9/300000")
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(_CONTENT[:10])

    store.plans = [gives(n_bytes=1000), wrongly]

    get(store, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == _CONTENT


def test_what_was_mangled_once_is_fetched_again(store: Store, tmp_path: Path) -> None:
    """A proxy that changed a byte gets a second chance, from zero."""
    store.plans = [gives(flip=True)]

    get(store, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == _CONTENT
    assert [request.headers.get("Range") for request in store.seen] == [None, None]


def test_what_was_mangled_twice_is_damaged(store: Store, tmp_path: Path) -> None:
    """Then there is no file, and no part of one."""
    store.plans = [gives(flip=True), gives(flip=True)]

    with pytest.raises(Damaged):
        get(store, tmp_path / "got")
    assert not list(tmp_path.glob("got*"))


def test_a_longer_answer_is_damaged(store: Store, tmp_path: Path) -> None:
    """A portal's page instead of the file neither fills the disk nor is taken."""
    store.content = b"<html>" * 1000

    with pytest.raises(Damaged):
        get(store, tmp_path / "got", size=100)


def test_an_expired_download_is_asked_for_anew(store: Store, tmp_path: Path) -> None:
    """After 403 a fresh address goes on where the old one ended."""
    store.plans = [gives(n_bytes=1000), says(403)]
    keys = iter(["old", "new"])

    get(store, tmp_path / "got", lambda: store.download(next(keys)))

    assert store.paths() == ["/old", "/old", "/new"]
    assert (tmp_path / "got").read_bytes() == _CONTENT


def test_a_download_refused_for_good(store: Store, tmp_path: Path) -> None:
    """Two fresh addresses are tried."""
    store.plans = [says(403)] * 10

    with pytest.raises(TransferRefused, match="403") as caught:
        get(store, tmp_path / "got")
    assert len(store.seen) == 3
    assert "secret" not in str(caught.value)


def test_redirects_are_followed_without_credentials(store: Store, tmp_path: Path) -> None:
    """A store may send on to another machine, which gets nothing from ~/.netrc."""
    store.plans = [lambda handler: handler.answer(307, Location=f"http://localhost:{store.port}/there")]

    get(store, tmp_path / "got")

    assert store.paths() == ["/k", "/there"]
    assert [request.headers.get("Authorization") for request in store.seen] == [None, None]


def test_a_full_disk_comes_through(store: Store, tmp_path: Path) -> None:
    """An error of the disk is not taken for one of the network, and the room is given back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as good as a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            get(store, tmp_path / "got")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob("got*"))


def test_an_empty_file_is_fetched(store: Store, tmp_path: Path) -> None:
    """No bytes are a file, too."""
    store.content = b""

    get(store, tmp_path / "got", size=0, sha256=hashlib.sha256(b"").hexdigest())

    assert (tmp_path / "got").read_bytes() == b""


def test_a_download_can_be_given_up(store: Store, tmp_path: Path) -> None:
    """What has arrived stays for the next call."""
    store.plans = [gives(n_bytes=1000), *[says(503)] * 100]

    with pytest.raises(GaveUp):
        get(store, tmp_path / "got", give_up=lambda: len(store.seen) > 3)
    assert (tmp_path / "got.part").read_bytes() == _CONTENT[:1000]


def test_an_address_that_is_none(store: Store, tmp_path: Path) -> None:
    """A service that gives nonsense is told so, without what may be secret."""
    with pytest.raises(TransferRefused, match="is no address") as caught:
        get(store, tmp_path / "got", lambda: protocol.Download(f"nowhere?{_SECRET}", 600))
    assert "secret" not in str(caught.value)
