"""Object stores: one contract for all, over real HTTP, and what only one of them promises."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import requests

from gridtune_common.errors import ConfigurationError
from gridtune_steering.api.__main__ import _without_queries
from gridtune_steering.identity.secrets import service_key
from gridtune_steering.objectstore import open_store
from gridtune_steering.objectstore.folder import FolderStore
from gridtune_steering.objectstore.port import (
    AddressRefused,
    BadKey,
    NoSuchObject,
    NoSuchUpload,
    ObjectStore,
    StoreAway,
    StoreError,
    StoreFull,
    UploadIncomplete,
    WrongChecksum,
    WrongLength,
)
from gridtune_steering.objectstore.s3 import Bucket, S3Store
from gridtune_steering.objectstore.signing import Signer
from gridtune_steering.settings import Settings
from gridtune_steering.testing import ManualClock
from real_service import RealService, free_port, wait_for
from servers.ceph import Ceph

HOUR = timedelta(hours=1)
#: Three parts of the smallest size that S3 takes, and a short last one.
SIZES = [5 * 2**20, 5 * 2**20, 1000]


def some_bytes(size: int, seed: int = 1) -> bytes:
    """Bytes that no two places share."""
    return random.Random(seed).randbytes(size)


def parts_of(content: bytes, sizes: list[int]) -> list[bytes]:
    """The content, cut to these sizes."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [content[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def md5_of(content: bytes) -> str:
    """As the header Content-MD5 has it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@dataclass
class Shelf:
    """A store, where its relative addresses lead to, and a folder of keys for one test."""

    store: ObjectStore
    base: str
    folder: str = field(default_factory=lambda: f"tests/{secrets.token_hex(6)}")

    @property
    def key(self) -> str:
        """The key that most tests use."""
        return f"{self.folder}/object"

    def put(self, address: str, body: Any, **headers: str) -> int:
        """Send a part; returns the status."""
        return requests.put(self.whole(address), data=body, headers=headers, timeout=60).status_code

    def get(self, address: str, **headers: str) -> requests.Response:
        """Fetch."""
        return requests.get(self.whole(address), headers=headers, timeout=60)

    def whole(self, address: str) -> str:
        """The address with the service's own before it, if it is relative."""
        return self.base + address if address.startswith("/") else address

    def addresses(self, sizes: list[int]) -> tuple[str, list[str]]:
        """Begin an upload to the usual key; returns its name and the addresses of its parts."""
        upload = self.store.begin(self.key, sum(sizes), len(sizes))
        return upload, self.store.part_urls(self.key, upload, sizes, HOUR)

    def store_object(self, key: str, content: bytes) -> None:
        """Upload an object of one part."""
        upload = self.store.begin(key, len(content), 1)
        (address,) = self.store.part_urls(key, upload, [len(content)], HOUR)
        assert self.put(address, content) == 200
        self.store.finish(key, upload, [len(content)])


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    """A real service with its default store."""
    service = RealService(tmp_path_factory.mktemp("store"))
    service.start()
    yield service
    service.end()


@pytest.fixture(scope="session")
def bucket(ceph: Ceph) -> Bucket:
    """A bucket in a real store."""
    bucket = Bucket(
        name="gridtune",
        prefix="some/where/",
        endpoint=ceph.endpoint,
        path_style=True,
        key_id=ceph.key_id,
        secret=ceph.secret,
    )
    client = boto3.client(
        "s3",
        endpoint_url=ceph.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ceph.key_id,
        aws_secret_access_key=ceph.secret,
    )
    client.create_bucket(Bucket=bucket.name)
    return bucket


def folder_store(service: RealService) -> FolderStore:
    """The service's own store."""
    data = service.folder / "data"
    return FolderStore(data / "objects", service_key(data / "service.key"), lambda: datetime.now(UTC))


@pytest.fixture(scope="session")
def s3_store(bucket: Bucket) -> S3Store:
    """The store that speaks S3, in its bucket."""
    return S3Store(bucket)


@pytest.fixture(params=["folder", "s3"])
def shelf(request: pytest.FixtureRequest) -> Shelf:
    """Every store in turn; the contract below holds for all of them."""
    if request.param == "folder":
        service: RealService = request.getfixturevalue("service")
        return Shelf(folder_store(service), service.url)
    return Shelf(request.getfixturevalue("s3_store"), "")


class TestContract:
    """What every store does."""

    def test_an_object_of_one_part(self, shelf: Shelf) -> None:
        """What was sent comes back, to us and to whoever has an address."""
        content = some_bytes(100_000)

        shelf.store_object(shelf.key, content)

        assert shelf.store.read(shelf.key, 2**20) == content
        assert shelf.get(shelf.store.download_url(shelf.key, HOUR)).content == content

    def test_an_object_of_several_parts(self, shelf: Shelf) -> None:
        """Parts come in any order, each with its checksum."""
        content = some_bytes(sum(SIZES))
        upload, addresses = shelf.addresses(SIZES)

        for address, part in reversed(list(zip(addresses, parts_of(content, SIZES), strict=True))):
            assert shelf.put(address, part, **{"Content-MD5": md5_of(part)}) == 200
        shelf.store.finish(shelf.key, upload, SIZES)

        assert shelf.get(shelf.store.download_url(shelf.key, HOUR)).content == content

    def test_an_empty_object(self, shelf: Shelf) -> None:
        """Nothing is something."""
        shelf.store_object(shelf.key, b"")

        assert shelf.store.read(shelf.key, 10) == b""
        assert [stored.size for stored in shelf.store.listing(shelf.folder)] == [0]

    def test_a_part_can_be_sent_again(self, shelf: Shelf) -> None:
        """An answer that got lost does no harm, nor do addresses that were asked for anew."""
        content = some_bytes(sum(SIZES))
        parts = parts_of(content, SIZES)
        upload, addresses = shelf.addresses(SIZES)
        for address, part in zip(addresses, parts, strict=True):
            shelf.put(address, part)

        fresh = shelf.store.part_urls(shelf.key, upload, SIZES, HOUR)
        again = [shelf.put(address, part) for address, part in zip(fresh, parts, strict=True)]
        shelf.store.finish(shelf.key, upload, SIZES)

        assert again == [200, 200, 200]
        assert shelf.store.read(shelf.key, sum(SIZES)) == content

    def test_a_missing_part_is_noticed(self, shelf: Shelf) -> None:
        """Nothing is made of the others, and the upload can go on."""
        content = some_bytes(sum(SIZES))
        parts = parts_of(content, SIZES)
        upload, addresses = shelf.addresses(SIZES)
        shelf.put(addresses[0], parts[0])
        shelf.put(addresses[2], parts[2])

        with pytest.raises(UploadIncomplete, match=r"of 3 parts.*: 2$"):
            shelf.store.finish(shelf.key, upload, SIZES)
        assert list(shelf.store.listing(shelf.folder)) == []
        shelf.put(addresses[1], parts[1])
        shelf.store.finish(shelf.key, upload, SIZES)

        assert shelf.store.read(shelf.key, sum(SIZES)) == content

    def test_nothing_sent_is_nothing_finished(self, shelf: Shelf) -> None:
        """Also where there is a single part."""
        upload, _ = shelf.addresses([10])

        with pytest.raises(UploadIncomplete):
            shelf.store.finish(shelf.key, upload, [10])

    @pytest.mark.parametrize("sizes", [[1000], SIZES], ids=["single", "several"])
    @pytest.mark.parametrize("excess", [-1, 1], ids=["short", "long"])
    def test_another_length_is_refused(self, shelf: Shelf, sizes: list[int], excess: int) -> None:
        """An address takes exactly the bytes that it was made for."""
        upload, addresses = shelf.addresses(sizes)

        status = shelf.put(addresses[0], some_bytes(sizes[0] + excess))

        assert status in {400, 403}
        with pytest.raises(UploadIncomplete):
            shelf.store.finish(shelf.key, upload, sizes)

    @pytest.mark.parametrize("sizes", [[1000], SIZES], ids=["single", "several"])
    def test_another_checksum_is_refused(self, shelf: Shelf, sizes: list[int]) -> None:
        """Bytes that changed under way do not count."""
        upload, addresses = shelf.addresses(sizes)

        statuses = [
            shelf.put(address, some_bytes(size, 1), **{"Content-MD5": md5_of(some_bytes(size, 2))})
            for address, size in zip(addresses, sizes, strict=True)
        ]

        assert statuses == [400] * len(sizes)
        with pytest.raises(UploadIncomplete):
            shelf.store.finish(shelf.key, upload, sizes)

    def test_a_part_that_breaks_off_does_not_count(self, shelf: Shelf) -> None:
        """It can be sent again."""
        content = some_bytes(sum(SIZES))
        parts = parts_of(content, SIZES)
        upload, addresses = shelf.addresses(SIZES)
        for address, part in zip(addresses[1:], parts[1:], strict=True):
            shelf.put(address, part)

        break_off(shelf.whole(addresses[0]), parts[0], 3 * 2**20)

        with pytest.raises(UploadIncomplete, match=r": 1$"):
            shelf.store.finish(shelf.key, upload, SIZES)
        assert shelf.put(addresses[0], parts[0]) == 200
        shelf.store.finish(shelf.key, upload, SIZES)
        assert shelf.store.read(shelf.key, sum(SIZES)) == content

    def test_an_address_is_good_for_one_thing(self, shelf: Shelf) -> None:
        """Another method, key, part or signature is refused, and so is none."""
        content = some_bytes(1000)
        shelf.store_object(shelf.key, content)
        download = shelf.store.download_url(shelf.key, HOUR)
        other = replace(shelf, folder=f"{shelf.folder}/other")
        _, (upload, second, _) = other.addresses(SIZES)
        tampered = download[:-4] + ("0000" if download[-4:] != "0000" else "1111")

        statuses = {
            "method of a download": shelf.put(download, content),
            "method of an upload": shelf.get(upload).status_code,
            "key": shelf.get(download.replace(shelf.key, other.key)).status_code,
            "part": shelf.put(mixed(upload, second), some_bytes(SIZES[0])),
            "signature": shelf.get(tampered).status_code,
            "none": shelf.get(download.partition("?")[0]).status_code,
        }

        assert statuses == dict.fromkeys(statuses, 403)

    def test_an_address_expires(self, shelf: Shelf) -> None:
        """Then it opens nothing."""
        shelf.store_object(shelf.key, b"content")
        upload = shelf.store.begin(f"{shelf.key}-2", 7, 1)
        download = shelf.store.download_url(shelf.key, timedelta(seconds=1))
        (address,) = shelf.store.part_urls(f"{shelf.key}-2", upload, [7], timedelta(seconds=1))

        wait_for("the end of the address", lambda: shelf.get(download).status_code == 403, timeout=10)

        assert shelf.put(address, b"content") == 403
        with pytest.raises(UploadIncomplete):
            shelf.store.finish(f"{shelf.key}-2", upload, [7])

    def test_ranges_can_be_fetched(self, shelf: Shelf) -> None:
        """A download that broke off goes on from where it was."""
        content = some_bytes(100_000)
        shelf.store_object(shelf.key, content)
        address = shelf.store.download_url(shelf.key, HOUR)

        amid = shelf.get(address, Range="bytes=1000-1999")
        rest = shelf.get(address, Range="bytes=99000-")

        assert (amid.status_code, amid.content) == (206, content[1000:2000])
        assert (rest.status_code, rest.content) == (206, content[99_000:])
        assert amid.headers["Content-Range"] == "bytes 1000-1999/100000"

    @pytest.mark.parametrize("sizes", [[1000], SIZES], ids=["single", "several"])
    def test_finishing_again_changes_nothing(self, shelf: Shelf, sizes: list[int]) -> None:
        """An answer that got lost does no harm; but only if it is the same object."""
        content = some_bytes(sum(sizes))
        upload, addresses = shelf.addresses(sizes)
        for address, part in zip(addresses, parts_of(content, sizes), strict=True):
            shelf.put(address, part)

        shelf.store.finish(shelf.key, upload, sizes)
        shelf.store.finish(shelf.key, upload, sizes)

        assert shelf.store.read(shelf.key, sum(sizes)) == content
        with pytest.raises(UploadIncomplete):
            shelf.store.finish(shelf.key, upload, [*sizes[:-1], sizes[-1] + 1])

    @pytest.mark.parametrize("sizes", [[1000], SIZES], ids=["single", "several"])
    def test_an_abandoned_upload_leaves_nothing(self, shelf: Shelf, sizes: list[int]) -> None:
        """Abandoning it twice is no error."""
        upload, addresses = shelf.addresses(sizes)
        shelf.put(addresses[0], some_bytes(sizes[0]))

        shelf.store.abandon(shelf.key, upload)
        shelf.store.abandon(shelf.key, upload)

        assert list(shelf.store.listing(shelf.folder)) == []
        assert list(shelf.store.unfinished(shelf.folder)) == []
        with pytest.raises(UploadIncomplete):
            shelf.store.finish(shelf.key, upload, sizes)

    def test_an_abandoned_upload_takes_no_more_parts(self, shelf: Shelf) -> None:
        """Its addresses lead nowhere."""
        upload, addresses = shelf.addresses(SIZES)

        shelf.store.abandon(shelf.key, upload)

        assert shelf.put(addresses[0], some_bytes(SIZES[0])) == 404

    def test_listings_are_in_order(self, shelf: Shelf) -> None:
        """Of the keys as texts, whatever folders they look like; a prefix may end amid a name."""
        names = ["a-b", "a.b", "a/b/c", "a/b-c", "a0", "b/a", "other"]
        for name in reversed(names):
            shelf.store.write(f"{shelf.folder}/{name}", name.encode())

        found = list(shelf.store.listing(f"{shelf.folder}/"))
        some = [stored.key for stored in shelf.store.listing(f"{shelf.folder}/a/b")]

        assert [stored.key for stored in found] == [f"{shelf.folder}/{name}" for name in sorted(names)]
        assert [stored.size for stored in found] == [len(name) for name in sorted(names)]
        assert all(abs(datetime.now(UTC) - stored.modified_at) < HOUR for stored in found)
        assert some == [f"{shelf.folder}/a/b-c", f"{shelf.folder}/a/b/c"]

    def test_unfinished_uploads_are_known(self, shelf: Shelf) -> None:
        """Until they are finished or abandoned."""
        uploads = {}
        for name in ("b", "a"):
            uploads[f"{shelf.folder}/{name}"] = shelf.store.begin(f"{shelf.folder}/{name}", sum(SIZES), 3)

        found = list(shelf.store.unfinished(f"{shelf.folder}/"))

        assert [(item.key, item.upload) for item in found] == sorted(uploads.items())
        assert all(abs(datetime.now(UTC) - item.begun_at) < HOUR for item in found)
        for key, upload in uploads.items():
            shelf.store.abandon(key, upload)
        assert list(shelf.store.unfinished(f"{shelf.folder}/")) == []

    def test_deleting_twice_is_no_error(self, shelf: Shelf) -> None:
        """What is gone stays gone; its neighbours stay."""
        shelf.store.write(f"{shelf.folder}/a/b", b"1")
        shelf.store.write(f"{shelf.folder}/c", b"2")

        shelf.store.delete([f"{shelf.folder}/a/b", f"{shelf.folder}/never", f"{shelf.folder}/a"])
        shelf.store.delete([f"{shelf.folder}/a/b"])

        assert [stored.key for stored in shelf.store.listing(shelf.folder)] == [f"{shelf.folder}/c"]

    def test_small_objects_are_written_and_read(self, shelf: Shelf) -> None:
        """A second one takes the place of the first; reading stops at the limit."""
        shelf.store.write(shelf.key, b"the first")
        shelf.store.write(shelf.key, b"the second")

        assert shelf.store.read(shelf.key, 100) == b"the second"
        assert shelf.store.read(shelf.key, 3) == b"the"

    def test_what_is_not_there_is_not_found(self, shelf: Shelf) -> None:
        """Here and over HTTP."""
        with pytest.raises(NoSuchObject, match=shelf.key):
            shelf.store.read(shelf.key, 10)
        assert shelf.get(shelf.store.download_url(shelf.key, HOUR)).status_code == 404

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a b", "a\n", "ä", "a?b", "a" * 201, "a/" * 600 + "a"]
    )
    def test_bad_keys_are_refused(self, shelf: Shelf, key: str) -> None:
        """Whatever is to be done with them."""
        for act in (
            lambda: shelf.store.begin(key, 1, 1),
            lambda: shelf.store.part_urls(key, "0", [1], HOUR),
            lambda: shelf.store.download_url(key, HOUR),
            lambda: shelf.store.write(key, b""),
            lambda: shelf.store.read(key, 1),
            lambda: shelf.store.delete([key]),
        ):
            with pytest.raises(BadKey):
                act()

    def test_the_store_is_well(self, shelf: Shelf) -> None:
        """Nothing is left of the check."""
        shelf.store.check()

        assert list(shelf.store.listing(shelf.folder)) == []


def break_off(address: str, body: bytes, after: int) -> None:
    """Send the beginning of a body and hang up."""
    parts = urlsplit(address)
    head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(head.encode() + body[:after])


def mixed(first: str, second: str) -> str:
    """The second address with the signature of the first."""
    signature = next(word for word in first.split("&") if "ignature=" in word)
    own = next(word for word in second.split("&") if "ignature=" in word)
    return second.replace(own, signature)


# --- S3


@pytest.fixture
def s3(s3_store: S3Store) -> Shelf:
    """The store that speaks S3, and a folder of keys in it."""
    return Shelf(s3_store, "")


def test_a_wrong_secret_opens_nothing(bucket: Bucket) -> None:
    """Neither for us nor for those who get addresses; no message shows the secret."""
    shelf = Shelf(S3Store(replace(bucket, secret="guessed-secret")), "")

    with pytest.raises(StoreError, match="SignatureDoesNotMatch") as caught:
        shelf.store.begin(shelf.key, sum(SIZES), 3)
    (address,) = shelf.store.part_urls(shelf.key, "", [7], HOUR)

    assert shelf.put(address, b"content") == 403
    assert shelf.get(shelf.store.download_url(shelf.key, HOUR)).status_code == 403
    assert not isinstance(caught.value, StoreAway)
    assert "guessed-secret" not in f"{caught.value} {bucket!r}"


def test_long_listings_are_whole(s3: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come in pages: objects, uploads and parts."""
    monkeypatch.setattr("gridtune_steering.objectstore.s3._PAGE", 2)
    keys = [f"{s3.folder}/{number}" for number in range(5)]
    for key in keys:
        s3.store.write(key, b"")
    uploads = {key: s3.store.begin(key, sum(SIZES), 3) for key in keys}
    addresses = s3.store.part_urls(keys[0], uploads[keys[0]], SIZES, HOUR)
    for address, size in zip(addresses, SIZES, strict=True):
        s3.put(address, some_bytes(size))

    assert [stored.key for stored in s3.store.listing(s3.folder)] == keys
    assert [(item.key, item.upload) for item in s3.store.unfinished(s3.folder)] == list(uploads.items())
    s3.store.finish(keys[0], uploads[keys[0]], SIZES)
    assert len(s3.store.read(keys[0], sum(SIZES))) == sum(SIZES)


def test_a_bucket_that_is_not_there_is_named(bucket: Bucket) -> None:
    """The check says what to mend."""
    store = S3Store(replace(bucket, name="nowhere"))

    with pytest.raises(StoreError, match=r"no bucket s3://nowhere/some/where/.*mend GRIDTUNE_STEERING_OBJECT_STORE"):
        store.check()


def test_a_store_that_is_away_may_come_back(bucket: Bucket) -> None:
    """It is told apart from one that refuses."""
    store = S3Store(replace(bucket, endpoint=f"http://127.0.0.1:{free_port()}"))

    with pytest.raises(StoreAway, match="does not answer"):
        store.check()


def test_the_credentials_have_to_be_somewhere(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says where."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    store = S3Store(replace(bucket, key_id="", secret=""))

    with pytest.raises(StoreError, match="set GRIDTUNE_STEERING_S3_KEY_ID"):
        store.write("a", b"")


def test_agents_may_have_an_address_of_their_own(bucket: Bucket, ceph: Ceph) -> None:
    """Addresses are signed for it, and the service goes its own way."""
    public = f"http://localhost:{ceph.port}"
    shelf = Shelf(S3Store(replace(bucket, public=public, path_style=True)), "")
    upload, addresses = shelf.addresses([7])

    assert shelf.put(addresses[0], b"content") == 200

    shelf.store.finish(shelf.key, upload, [7])
    address = shelf.store.download_url(shelf.key, HOUR)
    assert all(signed.startswith(f"{public}/{bucket.name}/") for signed in (address, *addresses))
    assert shelf.get(address).content == b"content"
    assert shelf.get(address.replace("localhost", "127.0.0.1")).status_code == 403


def test_an_upload_survives_the_death_of_the_store(s3: Shelf, ceph: Ceph) -> None:
    """Killed amid an upload and started again, it goes on with the parts that it had."""
    content = some_bytes(sum(SIZES))
    parts = parts_of(content, SIZES)
    upload, addresses = s3.addresses(SIZES)
    s3.put(addresses[0], parts[0])

    with ceph.gateway_down(), pytest.raises(StoreAway):
        s3.store.check()
    for address, part in zip(addresses[1:], parts[1:], strict=True):
        s3.put(address, part)
    s3.store.finish(s3.key, upload, SIZES)

    assert s3.store.read(s3.key, sum(SIZES)) == content


@contextmanager
def answering(*statuses: int) -> Iterator[str]:
    """A store that answers with these statuses, one after the other; gives its address."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            self.send_response(left.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("statuses", "error"),
    [((503, 500, 204), None), ((503,) * 3, StoreAway), ((429,) * 3, StoreAway), ((507,) * 3, StoreFull)],
)
def test_a_hiccup_is_not_an_error(
    statuses: tuple[int, ...], error: type[StoreError] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are repeated a few times before they count as failed."""
    monkeypatch.setattr("gridtune_steering.objectstore.s3._PATIENT", (5, 5, 3))

    with answering(*statuses) as endpoint, pytest.raises(error) if error else nullcontext():
        S3Store(Bucket(name="b", endpoint=endpoint, key_id="me", secret="x")).delete(["a"])


# --- the folder


@pytest.fixture
def clock() -> ManualClock:
    """A clock to turn by hand."""
    return ManualClock()


@pytest.fixture
def folder(tmp_path: Path, clock: ManualClock) -> FolderStore:
    """A store in a folder of its own, without a service."""
    return FolderStore(tmp_path, b"key", clock)


class Bytes:
    """A body that comes in small pieces, and does something between two of them."""

    def __init__(self, content: bytes, between: Any = lambda: None) -> None:
        self._content = content
        self._between = between

    def read(self, size: int, /) -> bytes:
        """The next piece."""
        taken = min(size, 1 + len(self._content) // 2)
        piece, self._content = self._content[:taken], self._content[taken:]
        self._between()
        return piece


def query_of(address: str) -> dict[str, str]:
    """The query string, as the web side gets it."""
    return dict(word.split("=", 1) for word in urlsplit(address).query.split("&"))


def begun(store: FolderStore, size: int, key: str = "a/b") -> tuple[str, dict[str, str]]:
    """An upload of one part, and the query of its address."""
    upload = store.begin(key, size, 1)
    return upload, query_of(store.part_urls(key, upload, [size], HOUR)[0])


def receive(store: FolderStore, query: dict[str, str], content: bytes, between: Any = lambda: None) -> None:
    """PUT to the store directly."""
    store.receive("a/b", query, Bytes(content, between), len(content), None)


def test_an_address_is_good_until_it_expires(folder: FolderStore, clock: ManualClock) -> None:
    """By the store's clock, to the second."""
    folder.write("a/b", b"1")
    query = query_of(folder.download_url("a/b", HOUR))

    clock.advance(3599)
    assert folder.fetch("a/b", query).read_bytes() == b"1"
    clock.advance(1)
    with pytest.raises(AddressRefused, match="expired"):
        folder.fetch("a/b", query)


def test_signatures_differ_by_everything_that_is_signed(clock: ManualClock) -> None:
    """Also where the parts run into each other, and with another service's key."""
    signer = Signer(b"key", clock)
    asked: list[tuple[str, str, dict[str, str | int]]] = [
        ("PUT", "a", {"x": 1}),
        ("GET", "a", {"x": 1}),
        ("PUT", "b", {"x": 1}),
        ("PUT", "a", {"x": 2}),
    ]
    asked += [("PUT", "a", {"x1": ""}), ("PUT", "a\nx=1", {}), ("PUT", "a", {"x": 1, "y": 1}), ("PUT", "a", {})]

    signatures = [query_of("?" + signer.signed(*what, HOUR))["signature"] for what in asked]
    signatures.append(query_of("?" + Signer(b"other", clock).signed(*asked[0], HOUR))["signature"])

    assert len(set(signatures)) == len(signatures)


def amid(act: Callable[[], object]) -> Callable[[], object]:
    """Act when one piece is written and the next one is read."""
    left: list[Callable[[], object]] = [act, int]
    return lambda: left and left.pop()()


def test_several_requests_may_send_one_part(folder: FolderStore) -> None:
    """Senders give up and try again while the service still hears what they sent first; both have their answer."""
    upload, query = begun(folder, 1000)
    content = some_bytes(1000)

    receive(folder, query, content, amid(lambda: receive(folder, query, content)))
    folder.finish("a/b", upload, [1000])

    assert folder.read("a/b", 1000) == content


def test_a_request_that_breaks_off_late_does_no_harm(folder: FolderStore) -> None:
    """One that was given up may begin after the one that takes its place."""
    upload, query = begun(folder, 1000)
    content = some_bytes(1000)

    def break_off_late() -> None:
        with pytest.raises(WrongLength):
            folder.receive("a/b", query, Bytes(content[:300]), 1000, None)

    receive(folder, query, content, amid(break_off_late))
    folder.finish("a/b", upload, [1000])

    assert folder.read("a/b", 1000) == content


def test_other_bytes_of_another_request_are_noticed(folder: FolderStore) -> None:
    """A part is marked only if what it holds is what its sender sent; sent again, it is whole."""
    upload, query = begun(folder, 1000)
    good, bad = some_bytes(1000, 1), some_bytes(1000, 2)

    def write_over() -> None:
        with pytest.raises(WrongChecksum, match="arrived with another MD5"):
            folder.receive("a/b", query, Bytes(bad), 1000, md5_of(good))

    with pytest.raises(WrongChecksum, match="another request sent other bytes for part 1; send it again"):
        receive(folder, query, good, amid(write_over))
    receive(folder, query, good)
    folder.finish("a/b", upload, [1000])

    assert folder.read("a/b", 1000) == good


def test_a_finished_part_is_not_touched(folder: FolderStore) -> None:
    """The same bytes are taken again, others are refused, and a body that breaks off does nothing."""
    upload, query = begun(folder, 1000)
    receive(folder, query, some_bytes(1000, 1))

    receive(folder, query, some_bytes(1000, 1))
    with pytest.raises(WrongChecksum, match="other bytes"):
        receive(folder, query, some_bytes(1000, 2))
    with pytest.raises(WrongLength, match="broke off after 600 of 1000 bytes"):
        folder.receive("a/b", query, Bytes(some_bytes(600, 2)), 1000, None)
    folder.finish("a/b", upload, [1000])

    assert folder.read("a/b", 1000) == some_bytes(1000, 1)


def test_an_upload_that_ends_meanwhile_takes_nothing(folder: FolderStore) -> None:
    """What was finished is not changed by a request that was under way."""
    upload, query = begun(folder, 1000)

    def finish() -> None:
        receive(folder, query, some_bytes(1000, 1))
        folder.finish("a/b", upload, [1000])

    with pytest.raises(NoSuchUpload):
        receive(folder, query, some_bytes(1000, 2), amid(finish))
    with pytest.raises(NoSuchUpload):
        receive(folder, query, some_bytes(1000, 2))

    assert folder.read("a/b", 1000) == some_bytes(1000, 1)


def test_a_body_without_a_length_is_refused(folder: FolderStore) -> None:
    """Nothing says when it ends."""
    _, query = begun(folder, 10)

    with pytest.raises(WrongLength, match="without Content-Length"):
        folder.receive("a/b", query, Bytes(b"0123456789"), None, None)


def test_a_checksum_that_is_none_is_refused(folder: FolderStore) -> None:
    """Before anything is read."""
    _, query = begun(folder, 10)

    with pytest.raises(WrongChecksum, match="base64 of 16 bytes"):
        folder.receive("a/b", query, Bytes(b"0123456789"), 10, "no base64")


def test_a_full_disk_is_named(folder: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part can be sent again when there is room."""
    upload, query = begun(folder, 10)

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(StoreFull, match=f"no room left below {tmp_path}: make room"):
            receive(folder, query, b"0123456789")
    receive(folder, query, b"0123456789")
    folder.finish("a/b", upload, [10])

    assert folder.read("a/b", 10) == b"0123456789"


def test_what_does_not_fit_is_not_begun(folder: FolderStore) -> None:
    """The disk would be full in the end, and the database may be on it."""
    with pytest.raises(StoreFull, match="no room for"):
        folder.begin("a/b", 2**62, 1)
    assert list(folder.unfinished("")) == []


def test_a_crash_amid_finishing_is_made_good(folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is there, its upload is still known, and finishing again ends it."""
    upload, query = begun(folder, 10)
    receive(folder, query, b"0123456789")

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "_discard", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.finish("a/b", upload, [10])
    assert [item.upload for item in folder.unfinished("")] == [upload]
    folder.finish("a/b", upload, [10])

    assert folder.read("a/b", 10) == b"0123456789"
    assert list(folder.unfinished("")) == []


def test_what_crashes_left_is_swept(folder: FolderStore, tmp_path: Path, clock: ManualClock) -> None:
    """Drafts and uploads half made, once they are old, and uploads half removed at once."""
    folder.check()
    (tmp_path / "uploads" / "gone-abc").mkdir(parents=True)
    (tmp_path / "uploads" / "def").mkdir()
    (tmp_path / "drafts" / "old").touch()

    clock.now = datetime.now(UTC)
    list(folder.unfinished(""))
    young = sorted(path.name for path in tmp_path.glob("*/*"))
    clock.advance(2 * 86_400)
    list(folder.unfinished(""))

    assert young == ["def", "old"]
    assert list(tmp_path.glob("*/*")) == []


def test_a_key_is_not_the_folder_of_another(folder: FolderStore) -> None:
    """A file cannot be both."""
    folder.write("a/b", b"1")

    for key in ("a", "a/b/c"):
        with pytest.raises(BadKey, match="folder of another"):
            folder.write(key, b"2")
        with pytest.raises(NoSuchObject):
            folder.read(key, 10)
    assert [stored.key for stored in folder.listing("")] == ["a/b"]


def test_deleting_leaves_no_empty_folders(folder: FolderStore, tmp_path: Path) -> None:
    """A million tasks would leave a million of them."""
    folder.write("a/b/c", b"1")
    folder.write("a/d", b"1")

    folder.delete(["a/b/c"])

    assert [path.name for path in (tmp_path / "objects").rglob("*")] == ["a", "d"]


def test_folders_come_and_go_under_many_threads(folder: FolderStore) -> None:
    """A folder that is removed for being empty is made again for whoever needs it."""
    errors: list[Exception] = []

    def write_and_delete(name: str) -> None:
        try:
            for _ in range(50):
                folder.write(f"a/b/{name}", b"1")
                folder.delete([f"a/b/{name}"])
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=write_and_delete, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, clock: ManualClock) -> None:
    """With the disk's own words."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreAway, match=f"the store's folder {tmp_path}/file cannot be used"):
        FolderStore(tmp_path / "file", b"key", clock).check()


def test_a_folder_that_is_not_mounted_is_away(folder: FolderStore, tmp_path: Path) -> None:
    """Its objects are not called missing, for nobody would ask for them again."""
    folder.write("a/b", b"1")
    query = query_of(folder.download_url("a/b", HOUR))
    (tmp_path / "objects").rename(tmp_path / "elsewhere")

    with pytest.raises(StoreAway):
        folder.fetch("a/b", query)
    (tmp_path / "elsewhere").rename(tmp_path / "objects")
    folder.delete(["a/b"])

    with pytest.raises(NoSuchObject):
        folder.fetch("a/b", query)


def test_signatures_are_not_logged(service: RealService) -> None:
    """Whatever happens to a request: the address of a part is a credential."""
    shelf = Shelf(folder_store(service), service.url)
    upload, addresses = shelf.addresses(SIZES)
    signature = query_of(addresses[0])["signature"]

    break_off(shelf.whole(addresses[0]), some_bytes(SIZES[0]), 1000)
    shelf.put(addresses[0], b"too short")
    shelf.store.abandon(shelf.key, upload)
    shelf.put(addresses[0], some_bytes(SIZES[0]))
    raw_request(service, f"PUT {addresses[0]} NONSENSE\r\n\r\n")
    raw_request(service, f"P(T {addresses[0]} HTTP/1.1\r\nHost: x\r\n\r\n")

    assert signature not in (service.folder / "serve.log").read_text()


def raw_request(service: RealService, text: str) -> None:
    """Send this and hear the answer out."""
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(text.encode())
        connection.settimeout(5)
        while connection.recv(4096):
            pass


def test_the_servers_own_messages_lose_their_queries() -> None:
    """Only the path is left."""
    import logging

    record = logging.LogRecord("x", 40, "", 0, "Error handling request %s %s", ("PUT", "/a?b=1&signature=2"), None)

    _without_queries(record)

    assert record.getMessage() == "Error handling request PUT /a?…"


def test_parts_survive_the_death_of_the_service(service: RealService) -> None:
    """Killed amid an upload and started again, it goes on with the parts that it had; addresses stay good."""
    shelf = Shelf(folder_store(service), service.url)
    content = some_bytes(sum(SIZES))
    parts = parts_of(content, SIZES)
    upload, addresses = shelf.addresses(SIZES)
    shelf.put(addresses[0], parts[0])

    break_off(shelf.whole(addresses[1]), parts[1], 1000)
    service.kill()
    service.start()
    with pytest.raises(UploadIncomplete, match=r": 2, 3$"):
        shelf.store.finish(shelf.key, upload, SIZES)
    for address, part in zip(addresses[1:], parts[1:], strict=True):
        shelf.put(address, part)
    shelf.store.finish(shelf.key, upload, SIZES)

    assert shelf.store.read(shelf.key, sum(SIZES)) == content


@pytest.mark.slow
def test_a_large_part_is_never_in_memory(service: RealService, tmp_path: Path) -> None:
    """Three GiB go through a web process that stays small, up and down."""
    size = 3 * 2**30
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)
        file.seek(size - 5)
        file.write(b"tail.")
    shelf = Shelf(folder_store(service), service.url)
    upload, (address,) = shelf.addresses([size])
    before = memory_of_web(service)

    with (tmp_path / "large").open("rb") as file:
        assert shelf.put(address, file) == 200
    shelf.store.finish(shelf.key, upload, [size])
    with requests.get(shelf.whole(shelf.store.download_url(shelf.key, HOUR)), stream=True, timeout=60) as answer:
        fetched = sum(len(block) for block in answer.iter_content(2**20))

    assert fetched == size
    assert shelf.get(shelf.store.download_url(shelf.key, HOUR), Range="bytes=-5").content == b"tail."
    assert memory_of_web(service) - before < 100 * 2**20
    shelf.store.delete([shelf.key])


def memory_of_web(service: RealService) -> int:
    """The most that any process of the service ever had in memory, in bytes, added up."""
    assert service.serving is not None
    family = [service.serving.pid]
    for pid in family:
        for task in Path(f"/proc/{pid}/task").iterdir():
            family += [int(child) for child in (task / "children").read_text().split()]
    lines = [line for pid in family for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


# --- settings


def opened(tmp_path: Path, location: str, **more: str) -> ObjectStore:
    """The store that these settings name."""
    settings = Settings.from_environment({}, data=tmp_path, object_store=location, **more)
    return open_store(settings, ManualClock(), b"key")


def test_the_store_is_a_folder_unless_told_otherwise(tmp_path: Path) -> None:
    """In the data folder, or where it is wanted."""
    for location, root in [("", tmp_path / "objects"), (f"folder:{tmp_path}/large", tmp_path / "large")]:
        opened(tmp_path, location).write("a", b"1")

        assert (root / "objects" / "a").read_bytes() == b"1"


def test_a_bucket_is_told_by_a_url(tmp_path: Path) -> None:
    """Addresses are on the store itself, signed by the region, with the bucket where it is wanted."""
    keys = {"s3_key_id": "me", "s3_secret": "secret"}

    path_style = opened(tmp_path, "s3://b/p/q?endpoint=https://s3.example.org&path_style=true&region=eu", **keys)
    host_style = opened(tmp_path, "s3://bucket?endpoint=https://s3.example.org&path_style=false", **keys)

    assert path_style.download_url("k", HOUR).startswith(
        "https://s3.example.org/b/p/q/k?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    )
    assert "%2Feu%2Fs3%2F" in path_style.download_url("k", HOUR)
    assert host_style.download_url("k", HOUR).startswith("https://bucket.s3.example.org/k?")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/somewhere", "no kind of store; write folder:/PATH or s3://BUCKET/PREFIX"),
        ("folder:some/where", "'some/where' is no absolute path"),
        ("gs://bucket", "'gs' is no kind of store"),
        ("s3://", "write s3://BUCKET/PREFIX"),
        ("s3://me:secret@bucket", "no credentials here"),
        ("s3://bucket?endpont=https://x", "'endpont' is no option of a bucket; did you mean endpoint?"),
        ("s3://bucket?endpoint=s3.example.org", "endpoint is a URL like https://s3.example.org"),
        ("s3://bucket?endpoint=https://me:pw@s3.example.org", "without credentials"),
        ("s3://bucket?public=s3.example.org", "public is a URL like https://s3.example.org"),
        ("s3://bucket?path_style=yes", "path_style is true or false, not 'yes'"),
        ("s3://bucket?ca=/nowhere.pem", "there is no file /nowhere.pem"),
        ("s3://bucket?region", "no list of NAME=VALUE"),
        ("s3://bucket/a b", "'a b' is no key"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_at_amid(tmp_path: Path, location: str, message: str) -> None:
    """The message names the variable, and shows no secret."""
    with pytest.raises(ConfigurationError, match="GRIDTUNE_STEERING_OBJECT_STORE") as caught:
        opened(tmp_path, location)

    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"object_store": "s3://b", "s3_key_id": "me"}, "set both, or neither"),
        ({"s3_key_id": "me", "s3_secret": "x"}, "is no s3://BUCKET"),
    ],
)
def test_credentials_come_together_and_for_a_bucket(more: dict[str, str], message: str) -> None:
    """Half of them, or for a folder, is a mistake."""
    with pytest.raises(ConfigurationError, match=message):
        Settings.from_environment({}, **more)


def test_the_secret_of_the_store_never_shows() -> None:
    """Settings are printed now and then."""
    environment = {
        "GRIDTUNE_STEERING_OBJECT_STORE": "s3://b",
        "GRIDTUNE_STEERING_S3_KEY_ID": "me",
        "GRIDTUNE_STEERING_S3_SECRET": "s3cr3t",
    }

    assert "s3cr3t" not in repr(Settings.from_environment(environment))
