"""Inputs of tasks: fetched once on a node, checked, linked, and removed when the cache is full."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gridtune_common.errors import Refused, ServiceError, Unreachable
from gridtune_common.protocol import Download, Fail, FailureCause, Release, ReleaseCause, Tell
from gridtune_common.taskfile import DataSource
from gridtune_evaluation import data, fetching
from gridtune_evaluation.cache import Cache, DataUnavailable, FetchInterrupted
from gridtune_evaluation.data import Inputs
from gridtune_evaluation.fetching import AddressDesk
from gridtune_evaluation.orphans import OrphanGuard
from gridtune_evaluation.testing import FakeSteering, make_lease, make_payload
from payload_scripts import agent_running, evaluate, fail_of, output_of, result, steps

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class SilentServer(ThreadingHTTPServer):
    """Does not mind clients that go away."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent."""


class Shop:
    """A real HTTP server with one file and several bad habits.

    Attributes:
        content: The file.
        contents: What it is at first, for one answer each.
        headers: Path and headers of every request.
        breaks: The same for the first answers alone.
        breaks_after: Bytes of an answer after which the connection breaks.
        heeds_ranges: Whether it can begin in the middle.
        heeds_versions: Whether it looks at If-Range.
        names_versions: Whether it tells one version of the file from another.
        statuses: What to answer first.
        refuses: Addresses that expire, by their query, and after how many requests.
        refusal: What is answered then.
        waits: Answers only when this is set.
    """

    def __init__(self) -> None:
        self.content = CONTENT
        self.contents: list[bytes] = []
        self.headers: list[tuple[str, dict[str, str]]] = []
        self.breaks: list[int] = []
        self.breaks_after: int | None = None
        self.heeds_ranges = True
        self.heeds_versions = True
        self.names_versions = True
        self.statuses: list[int] = []
        self.refuses: dict[str, int] = {}
        self.refusal = 403
        self.waits = threading.Event()
        self.waits.set()
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                shop.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Stay silent."""

        self.server = SilentServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        """The file's address."""
        return f"http://127.0.0.1:{self.server.server_port}/train.npz?signature=s3cr3t"

    @property
    def n_requests(self) -> int:
        """How often it was asked."""
        return len(self.headers)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.headers.append((request.path, dict(request.headers)))
        self.waits.wait(30)
        query = request.path.partition("?")[2]
        n_left = self.refuses.get(query, 1)
        if query in self.refuses:
            self.refuses[query] -= 1
        if self.statuses or n_left <= 0:
            request.send_response(self.statuses.pop(0) if self.statuses else self.refusal)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        self._send(request, self.contents.pop(0) if self.contents else self.content)

    def _send(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        start = self._start(request, etag)
        body = content[start:]
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body)))
        if self.names_versions:
            request.send_header("ETag", etag)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        end = self.breaks.pop(0) if self.breaks else self.breaks_after
        request.wfile.write(body[:end])
        if end is not None and end < len(body):
            request.close_connection = True

    def _start(self, request: BaseHTTPRequestHandler, etag: str) -> int:
        wanted = request.headers.get("Range", "")
        same = not self.heeds_versions or request.headers.get("If-Range", etag) == etag
        return int(wanted[len("bytes=") :].rstrip("-")) if wanted and same and self.heeds_ranges else 0


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A server."""
    shop = Shop()
    yield shop
    shop.waits.set()
    shop.server.shutdown()
    shop.server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of the back-off are short."""

    def pauses() -> Iterator[float]:
        while True:
            yield 0.05

    monkeypatch.setattr(fetching, "backoff", pauses)


def unsigned(source: str) -> Download:
    """What a service says that signs nothing."""
    raise Refused(403, {"detail": f"this service signs no address for {source}; its operator can list it"})


def make_inputs(
    folder: Path, limit: int = 2**30, patience: float = 2.0, ask: Callable[[str], Download] = unsigned
) -> Inputs:
    """Inputs in a cache in the folder."""
    inputs = Inputs(Cache(folder / "cache", limit), OrphanGuard(), AddressDesk(ask), patience)
    inputs.prepare()
    return inputs


def get(folder: Path, limit: int = 2**30, ask: Callable[[str], Download] = unsigned, **source: Any) -> Path:
    """Fetch one input and let go of it."""
    inputs = make_inputs(folder, limit, ask=ask)
    with contextlib.closing(inputs.get("train.npz", DataSource(**source), lambda: True)) as entry:
        return entry.path


def refusal(folder: Path, limit: int = 2**30, **source: Any) -> str:
    """What is said about an input that cannot be had."""
    with pytest.raises(DataUnavailable) as caught:
        get(folder, limit, **source)
    return str(caught.value)


def remains(folder: Path) -> list[str]:
    """What is in the cache, locks apart."""
    return sorted(path.name for path in (folder / "cache").iterdir() if not path.name.endswith(".lock"))


def wait_until(is_so: Any, seconds: float = 15.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process lives; one that nobody has buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- in an evaluation ---------------------------------------------------------------------------------------


def test_a_payload_finds_its_inputs(tmp_path: Path, shop: Shop) -> None:
    """An input is a link below the working directory, to a file that nobody can write to."""
    output = output_of(
        tmp_path, "sha256sum < in/train.npz; stat -Lc %A in/train.npz", data={"in/train.npz": {"url": shop.url}}
    )

    assert output.split() == [SHA256, "-", "-r--r--r--"]


def test_inputs_are_fetched_once_for_all_evaluations(tmp_path: Path, shop: Shop) -> None:
    """Slots and points of an agent, and the next agent, share what was fetched."""
    points = [make_lease(number) for number in range(6)]
    payload = make_payload("wc -c < a; " + result(loss=1), data={"a": {"url": shop.url, "sha256": SHA256}})

    for leases in (points[:4], points[4:]):
        fake = FakeSteering(payload, leases)
        with agent_running(fake, tmp_path, slots=4) as agent:
            agent.join()
        assert all(isinstance(word, Tell) for _, word in fake.ends), fake.ends

    assert shop.n_requests == 1


def test_inputs_outlive_working_directories(tmp_path: Path, shop: Shop) -> None:
    """What goes with a working directory is the link, not what it leads to."""
    evaluate(tmp_path, result(loss=1), data={"a": {"url": shop.url}})

    evaluate(tmp_path, result(loss=1), data={"a": {"url": shop.url}})

    assert shop.n_requests == 1


def test_an_input_that_cannot_be_had_is_the_nodes_failure(tmp_path: Path, shop: Shop) -> None:
    """The point fails for infrastructure, and the message has the address without its query."""
    shop.statuses = [404] * 9

    failure = fail_of(tmp_path, "true", data={"a": {"url": shop.url}})

    assert failure.cause is FailureCause.INFRASTRUCTURE
    assert failure.message == (
        f"payload.data.a: {shop.url.partition('?')[0]} cannot be fetched: the server answered 404 Not Found"
    )


def test_shutdown_interrupts_a_fetch(tmp_path: Path, shop: Shop) -> None:
    """An agent that waits for a server leaves within two seconds; the point goes back and nothing is left."""
    shop.waits.clear()
    fake = FakeSteering(make_payload("true", data={"a": {"url": shop.url}}), [make_lease()])
    with agent_running(fake, tmp_path) as agent:
        wait_until(lambda: shop.n_requests)
        began = time.monotonic()
        agent.shutdown.request()
        agent.join()
    [(_, word)] = fake.ends

    assert time.monotonic() - began < 3
    assert isinstance(word, Release)
    assert word.cause is ReleaseCause.SHUTDOWN
    assert remains(tmp_path) == []


def test_the_cache_can_be_elsewhere(tmp_path: Path, shop: Shop) -> None:
    """--cache-dir is a place for many work folders."""
    for name in ("a", "b"):
        payload = make_payload("cat x > /dev/null && " + result(loss=1), data={"x": {"url": shop.url}})
        fake = FakeSteering(payload, [make_lease()])
        with agent_running(fake, tmp_path / name, cache=tmp_path / "cache") as agent:
            agent.join()
        assert not isinstance(fake.ends[0][1], Fail), fake.ends

    assert shop.n_requests == 1


def test_a_cache_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    """An agent whose cache cannot be used says so when it starts."""
    (tmp_path / "cache").write_text("")

    with pytest.raises(Exception, match="is no folder; choose another one with --cache-dir"):
        make_inputs(tmp_path)


# --- HTTP ---------------------------------------------------------------------------------------------------


def test_a_broken_download_goes_on(tmp_path: Path, shop: Shop) -> None:
    """Each connection brings what the one before left, and the file is the one that was meant."""
    shop.breaks_after = 200_000

    found = get(tmp_path, url=shop.url)

    assert found.read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in shop.headers] == [None, "bytes=200000-", "bytes=400000-"]


def test_a_server_without_ranges_sends_all_again(tmp_path: Path, shop: Shop) -> None:
    """An answer from the beginning replaces what was there."""
    shop.breaks, shop.heeds_ranges = [200_000], False

    found = get(tmp_path, url=shop.url)

    assert found.read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in shop.headers] == [None, "bytes=200000-"]


@pytest.mark.parametrize(("checksum", "ranges"), [(SHA256, [None, "bytes=300000-"]), (None, [None, None])])
def test_without_a_version_only_checked_downloads_go_on(
    tmp_path: Path, shop: Shop, checksum: str | None, ranges: list[str | None]
) -> None:
    """Where nothing tells whether the rest is of the same file, downloads begin again unless a checksum would tell."""
    shop.breaks, shop.names_versions = [300_000], False

    found = get(tmp_path, url=shop.url, sha256=checksum)

    assert found.read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in shop.headers] == ranges


def test_a_server_that_gets_no_further_is_given_up(tmp_path: Path, shop: Shop) -> None:
    """The same bytes again and again are no progress."""
    shop.breaks_after, shop.heeds_ranges = 200_000, False

    message = refusal(tmp_path, url=shop.url)

    assert "nothing new for" in message
    assert "s3cr3t" not in message
    assert remains(tmp_path) == []


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path, shop: Shop) -> None:
    """Halves of two versions are never put together."""
    shop.breaks_after = 300_000
    shop.contents = [CONTENT[::-1]]

    found = get(tmp_path, url=shop.url)

    assert found.read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in shop.headers] == [None, "bytes=300000-", "bytes=300000-"]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_trouble_that_passes_is_waited_for(tmp_path: Path, shop: Shop, status: int) -> None:
    """A server that is busy is asked again."""
    shop.statuses = [status, status]

    assert get(tmp_path, url=shop.url).read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_given_up(tmp_path: Path) -> None:
    """The message says why, and not how it was signed."""
    message = refusal(tmp_path, url="http://127.0.0.1:9/train.npz?signature=s3cr3t")

    assert "http://127.0.0.1:9/train.npz cannot be fetched: Connection refused; nothing new for" in message
    assert "s3cr3t" not in message


def test_a_wrong_checksum_is_fetched_once_more(tmp_path: Path, shop: Shop) -> None:
    """Damage in transit passes; the second file is taken."""
    shop.contents = [b"damaged"]

    found = get(tmp_path, url=shop.url, sha256=SHA256)

    assert found.read_bytes() == CONTENT
    assert shop.n_requests == 2


def test_another_checksum_shows_both(tmp_path: Path, shop: Shop) -> None:
    """After the second try the message has what was expected and what arrived, and nothing is kept."""
    message = refusal(tmp_path, url=shop.url, sha256="0" * 64)

    assert f"its SHA-256 is {SHA256}, not {'0' * 64}" in message
    assert shop.n_requests == 2
    assert remains(tmp_path) == []


def test_another_size_is_refused(tmp_path: Path, shop: Shop) -> None:
    """A size is checked without a checksum, too."""
    assert f"it has {len(CONTENT)} bytes, not the 17" in refusal(tmp_path, url=shop.url, size_bytes=17)


def test_an_address_with_another_size_is_another_input(tmp_path: Path, shop: Shop) -> None:
    """Without a checksum inputs are known by address and size."""
    get(tmp_path, url=shop.url)
    shop.content = b"new"

    assert get(tmp_path, url=shop.url, size_bytes=3).read_bytes() == b"new"
    assert get(tmp_path, url=shop.url).read_bytes() == CONTENT


def test_the_same_checksum_is_the_same_input(tmp_path: Path, shop: Shop) -> None:
    """With a checksum it does not matter where it comes from."""
    get(tmp_path, url=shop.url, sha256=SHA256)

    assert get(tmp_path, url="https://elsewhere.invalid/a", sha256=SHA256.upper()).read_bytes() == CONTENT


def test_a_fetch_has_a_timeout(tmp_path: Path, shop: Shop) -> None:
    """Whatever a fetch waits for, it ends."""
    shop.waits.clear()

    assert "took longer than its timeout, 0.5s" in refusal(tmp_path, url=shop.url, timeout_seconds=0.5)


# --- S3, by addresses that the service signs ----------------------------------------------------------------

OBJECT = "s3://bucket/some/key.npz"


class Service:
    """Signs addresses on the shop.

    Attributes:
        asked: For what.
        answers: What it says first: an error, or an address.
        life: Seconds for which it says that addresses are good.
    """

    def __init__(self, shop: Shop) -> None:
        self.asked: list[str] = []
        self.answers: list[ServiceError | Download] = []
        self.life = 60.0
        self._shop = shop

    def __call__(self, source: str) -> Download:
        """Sign; no two signatures are the same."""
        self.asked.append(source)
        answer = self.answers.pop(0) if self.answers else Download(f"{self._shop.url}{len(self.asked)}", self.life)
        if isinstance(answer, ServiceError):
            raise answer
        return answer


@pytest.fixture
def service(shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    """A service that signs addresses, and a node without S3, with credentials that are none of the shop's business."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password trap\n")
    monkeypatch.setenv("NETRC", str(netrc))
    without_boto3(monkeypatch, tmp_path)
    return Service(shop)


def queries(shop: Shop) -> list[str]:
    """The signatures that the shop has seen."""
    return [path.partition("?")[2] for path, _ in shop.headers]


def test_objects_come_by_signed_addresses(
    tmp_path: Path, shop: Shop, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """A node needs neither boto3 nor credentials; no log shows the address."""
    caplog.set_level("DEBUG", "gridtune.agent")
    shop.breaks_after = 200_000

    found = get(tmp_path, ask=service, url=OBJECT)

    assert found.read_bytes() == CONTENT
    assert service.asked == [OBJECT]
    assert [headers.get("Range") for _, headers in shop.headers] == [None, "bytes=200000-", "bytes=400000-"]
    assert not any("Authorization" in headers for _, headers in shop.headers)
    assert f"Fetching train.npz from {OBJECT}" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_another_signature_is_the_same_input(tmp_path: Path, shop: Shop, service: Service) -> None:
    """The cache knows an object by its own address."""
    get(tmp_path, ask=service, url=OBJECT)

    assert get(tmp_path, ask=service, url=OBJECT).read_bytes() == CONTENT
    assert shop.n_requests == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_an_expired_address_is_renewed(tmp_path: Path, shop: Shop, service: Service, status: int) -> None:
    """A store that refuses it in the middle of a file gets another one, and the file goes on."""
    shop.breaks = [200_000]
    shop.refuses, shop.refusal = {"signature=s3cr3t1": 1}, status

    found = get(tmp_path, ask=service, url=OBJECT)

    assert found.read_bytes() == CONTENT
    assert queries(shop) == ["signature=s3cr3t1", "signature=s3cr3t1", "signature=s3cr3t2"]
    assert [headers.get("Range") for _, headers in shop.headers] == [None, "bytes=200000-", "bytes=200000-"]


def test_an_address_is_renewed_before_it_expires(tmp_path: Path, shop: Shop, service: Service) -> None:
    """The store is not troubled with one that is known to be old."""
    shop.breaks, service.life = [200_000], 0.01

    get(tmp_path, ask=service, url=OBJECT)

    assert queries(shop) == ["signature=s3cr3t1", "signature=s3cr3t2"]


def test_a_store_that_refuses_every_address_is_given_up(tmp_path: Path, shop: Shop, service: Service) -> None:
    """Signatures do not help where the service itself may not read; the message names the object alone."""
    shop.statuses = [403] * 9

    message = refusal(tmp_path, ask=service, url=OBJECT)

    assert message.endswith(
        f"{OBJECT} cannot be fetched: the server answered 403 Forbidden at the address that the service signed"
    )
    assert len(service.asked) == 3
    assert remains(tmp_path) == []


def test_an_object_that_is_not_there_is_given_up_at_once(tmp_path: Path, shop: Shop, service: Service) -> None:
    """The profile of the node is not tried: the service has said where the object would be."""
    shop.statuses = [404] * 9

    assert refusal(tmp_path, ask=service, url=OBJECT).endswith("cannot be fetched: the server answered 404 Not Found")
    assert shop.n_requests == 1


def test_a_service_that_is_away_is_asked_again(tmp_path: Path, service: Service) -> None:
    """Before the first address, and before a later one."""
    service.answers = [Unreachable("cannot reach it"), Refused(500, {})]

    assert get(tmp_path, ask=service, url=OBJECT).read_bytes() == CONTENT


def test_a_service_that_signs_no_more_ends_a_fetch(tmp_path: Path, shop: Shop, service: Service) -> None:
    """A task that was deleted meanwhile gets no further address."""
    shop.breaks, service.life = [200_000], 0.01
    service.answers = [Download(shop.url, 0.01), Refused(404, {"detail": "there is no task"})]

    assert refusal(tmp_path, ask=service, url=OBJECT).endswith("cannot be fetched: there is no task")


def test_halves_of_two_objects_are_never_put_together(tmp_path: Path, shop: Shop, service: Service) -> None:
    """Also where the store goes on with whatever is there now."""
    shop.breaks_after, shop.heeds_versions = 300_000, False
    shop.contents = [CONTENT[::-1]]

    found = get(tmp_path, ask=service, url=OBJECT)

    assert found.read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in shop.headers] == [None, "bytes=300000-", None, "bytes=300000-"]


@pytest.mark.usefixtures("service")
def test_an_object_that_nobody_gets_names_both_ways(tmp_path: Path) -> None:
    """What the node lacks, and what the operator of the service can do."""
    message = refusal(tmp_path, url=OBJECT)

    assert "this node has neither boto3 nor aws; install one of them" in message
    assert f"Nor does the service give an address: this service signs no address for {OBJECT}; its operator" in message


def test_a_service_that_stays_away_leaves_the_profile(tmp_path: Path, service: Service) -> None:
    """What the user has on the node is tried before an attempt fails."""
    service.answers = [Unreachable("cannot reach https://tune.example.org")] * 999

    message = refusal(tmp_path, ask=service, url=OBJECT)

    assert "this node has neither boto3 nor aws" in message
    assert message.endswith("Nor does the service give an address: cannot reach https://tune.example.org")


def test_an_agent_asks_for_its_own_task(tmp_path: Path, shop: Shop) -> None:
    """From the first word to the last: the service gives the address, and the training finds the file."""
    payload = make_payload("sha256sum < a; exit 3", data={"a": OBJECT})
    fake = FakeSteering(payload, [make_lease()])
    fake.addresses[OBJECT] = [Download(shop.url, 60.0)]

    with agent_running(fake, tmp_path) as agent:
        agent.join()
    [(_, word)] = fake.ends

    assert isinstance(word, Fail)
    assert word.output_tail.split() == [SHA256, "-"]
    assert fake.located == [OBJECT]


# --- S3, by the user's profile ------------------------------------------------------------------------------


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shop: Shop) -> None:
    """A user's profile that leads to the server."""
    values = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "eu-west-1"}
    values["AWS_ENDPOINT_URL"] = shop.url.rpartition("/")[0]
    values["AWS_CONFIG_FILE"] = values["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "none")
    values["AWS_MAX_ATTEMPTS"] = "1"
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("profile")
def test_objects_come_by_the_users_profile(tmp_path: Path, shop: Shop) -> None:
    """boto3 signs with the node's credentials; what breaks goes on."""
    pytest.importorskip("boto3")
    shop.breaks_after = 200_000

    found = get(tmp_path, url="s3://bucket/some/key.npz", sha256=SHA256)

    assert found.read_bytes() == CONTENT
    assert {path for path, _ in shop.headers} == {"/bucket/some/key.npz"}
    assert all("Credential=a/" in headers["Authorization"] for _, headers in shop.headers)


@pytest.mark.usefixtures("profile")
def test_objects_that_are_refused_fail_at_once(tmp_path: Path, shop: Shop) -> None:
    """No permission does not pass."""
    pytest.importorskip("boto3")
    shop.statuses = [403] * 9

    assert "s3://bucket/key cannot be fetched: An error occurred (403)" in refusal(tmp_path, url="s3://bucket/key")
    assert shop.n_requests == 1


def without_boto3(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A node whose programs are in one folder."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setenv("PATH", str(path))


def test_objects_come_by_the_aws_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without boto3 the program is used; addresses reach it as they are."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "aws").write_text('#!/bin/sh\necho "$@" > "$5"\n')
    (programs / "aws").chmod(0o755)
    without_boto3(monkeypatch, programs)

    found = get(tmp_path, url="s3://bucket/it's/{target}")

    assert found.read_text().startswith("s3 cp --only-show-errors s3://bucket/it's/{target} /")


def test_a_node_without_s3_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither boto3 nor aws is no riddle."""
    without_boto3(monkeypatch, tmp_path)

    assert "this node has neither boto3 nor aws; install one of them" in refusal(tmp_path, url="s3://bucket/key")


# --- files and folders of the node --------------------------------------------------------------------------


def test_folders_of_the_node_are_linked(tmp_path: Path) -> None:
    """What is there already is not copied."""
    there = tmp_path / "on the node"
    there.mkdir()
    (there / "a.txt").write_text("hello")

    output = output_of(tmp_path / "work", "cat in/a.txt; readlink in", data={"in": there.as_uri()})

    assert output == f"hello{there}\n"
    assert not list((tmp_path / "work" / "cache").iterdir())


def test_what_is_not_on_the_node_is_said(tmp_path: Path) -> None:
    """The message has the path and the node."""
    message = refusal(tmp_path, url=f"file://{tmp_path}/none")

    assert message.startswith(f"payload.data.train.npz: {tmp_path}/none cannot be had on ")
    assert message.endswith(": No such file or directory")


def test_checksums_of_files_on_the_node_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is read once for each of its versions, and a wrong one is refused."""
    file = tmp_path / "a"
    file.write_bytes(CONTENT)
    checks: list[Path] = []
    check = fetching.flaw_of

    def noted(path: Path, source: DataSource, halt: fetching.Halt) -> str:
        checks.append(path)
        return check(path, source, halt)

    monkeypatch.setattr(fetching, "flaw_of", noted)
    inputs, source = make_inputs(tmp_path), DataSource(file.as_uri(), sha256=SHA256)

    first = [inputs.get("a", source, lambda: True).path for _ in range(3)]
    file.write_bytes(b"other")
    with pytest.raises(DataUnavailable, match=rf"not {SHA256} as the task says"):
        inputs.get("a", source, lambda: True)

    assert first == [file] * 3
    assert len(checks) == 2


def test_a_folder_has_no_checksum(tmp_path: Path) -> None:
    """A checksum of a folder is a mistake that is named."""
    assert "is a folder, and checksums" in refusal(tmp_path, url=tmp_path.as_uri(), sha256=SHA256)


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "printf hello > {target}",
        "cd / && printf hello > {dir}/{target}/../train.npz || printf hello > {target}",
        "printf hello > train.npz",
        "mkdir -p {dir}/scope && printf hello > {dir}/scope/name",
    ],
    ids=["target", "last of several", "in its folder", "a name of its own"],
)
def test_commands_bring_files(tmp_path: Path, command: str) -> None:
    """The target is taken, or the only file that there is."""
    assert get(tmp_path, command=command).read_text() == "hello"


def test_commands_bring_folders(tmp_path: Path) -> None:
    """A target may be a folder; nobody can write to it."""
    found = get(tmp_path, command="mkdir {target} && echo 1 > {target}/a && echo 2 > {target}/b")

    assert sorted(path.name for path in found.iterdir()) == ["a", "b"]
    assert found.stat().st_mode & 0o777 == 0o555


def test_commands_run_once(tmp_path: Path) -> None:
    """What a command brought is there for the next one who has the same command."""
    command = f"echo >> {tmp_path}/calls; echo 1 > {{target}}"

    get(tmp_path, command=command)
    get(tmp_path, command=command)

    assert (tmp_path / "calls").read_text() == "\n"


def test_commands_know_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the agent's variables but its own."""
    monkeypatch.setenv("GRIDTUNE_TOKEN", "s3cr3t")
    monkeypatch.setenv("X509_USER_PROXY", "/home/me/proxy")

    found = get(tmp_path, command="env > {target}").read_text()

    assert "s3cr3t" not in found
    assert "X509_USER_PROXY=/home/me/proxy" in found


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo no proxy >&2; exit 3", "its command failed with exit code 3: no proxy"),
        ("kill -9 $$", "its command failed with signal 9: it printed nothing"),
        ("true", "its command made no file; let it write {target}"),
        ("touch a b", "its command made several files, but no train.npz: a, b; let it write {target}"),
    ],
    ids=["exit code", "signal", "nothing", "several"],
)
def test_commands_that_fail_say_why(tmp_path: Path, command: str, message: str) -> None:
    """The end of what they printed is in the message."""
    assert refusal(tmp_path, command=command) == f"payload.data.train.npz: {message}"
    assert remains(tmp_path) == []


def test_the_output_of_commands_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a command that worked has said is in the agent's log."""
    caplog.set_level("INFO", "gridtune.agent")

    get(tmp_path, command="echo 3 files; touch {target}")

    assert "The command for train.npz printed:\n3 files" in caplog.text


def test_commands_that_hang_are_ended(tmp_path: Path) -> None:
    """The timeout ends a command and all that it has started, stubborn or not."""
    command = f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/pid; sleep 60; sleep 60"
    began = time.monotonic()

    message = refusal(tmp_path, command=command, timeout_seconds=0.5)

    assert "took longer than its timeout" in message
    assert time.monotonic() - began < 5
    wait_until(lambda: not is_running(int((tmp_path / "pid").read_text())))


def test_a_command_with_the_wrong_file_runs_twice(tmp_path: Path) -> None:
    """Checksums are for commands, too, and the second try begins in an empty folder."""
    message = refusal(tmp_path, command=f"ls >> {tmp_path}/seen; echo 1 > {{target}}", sha256="0" * 64)

    assert "its command is not what was meant: its SHA-256 is 4355a46b" in message
    assert (tmp_path / "seen").read_text() == ""


# --- many processes -----------------------------------------------------------------------------------------

FETCHER = """
    import json, sys
    from pathlib import Path
    from gridtune_common.taskfile import DataSource
    from gridtune_evaluation.cache import Cache
    from gridtune_evaluation.data import Inputs
    from gridtune_evaluation.fetching import AddressDesk
    from gridtune_evaluation.orphans import OrphanGuard
    guard = OrphanGuard()
    guard.start()
    inputs = Inputs(Cache(Path(sys.argv[1]), 2**30), guard, AddressDesk(lambda source: None))
    inputs.prepare()
    print("ready", flush=True)
    entry = inputs.get("train.npz", DataSource(**json.loads(sys.argv[2])), lambda: True)
    print(entry.path.stat().st_size, flush=True)
    sys.stdin.read()
"""


class Fetcher:
    """A process that fetches, and holds what it has until its standard input ends."""

    def __init__(self, folder: Path, source: dict[str, str]) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(FETCHER), str(folder / "cache"), json.dumps(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def line(self) -> str:
        """What it says next."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Let it go."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def fetchers(folder: Path, n: int, **source: str) -> Iterator[list[Fetcher]]:
    """Some of them."""
    all_of_them = [Fetcher(folder, source) for _ in range(n)]
    try:
        yield all_of_them
    finally:
        for one in all_of_them:
            one.end()


def test_four_processes_fetch_once(tmp_path: Path, shop: Shop) -> None:
    """One request is on the wire, and all have the file."""
    shop.waits.clear()
    with fetchers(tmp_path, 4, url=shop.url) as started:
        assert [one.line() for one in started] == ["ready"] * 4
        wait_until(lambda: shop.n_requests)
        time.sleep(0.5)
        shop.waits.set()
        sizes = [one.line() for one in started]

    assert sizes == [str(len(CONTENT))] * 4
    assert shop.n_requests == 1


def test_the_fetch_of_a_killed_process_is_done_by_another(tmp_path: Path, shop: Shop) -> None:
    """Kill -9 in the middle frees the lock; what was written so far counts for nothing and goes."""
    shop.waits.clear()
    with fetchers(tmp_path, 1, url=shop.url) as (first,):
        wait_until(lambda: shop.n_requests)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    left = remains(tmp_path)
    shop.waits.set()

    found = get(tmp_path, url=shop.url)

    assert len(left) == 1
    assert ".part-" in left[0]
    assert found.read_bytes() == CONTENT
    assert remains(tmp_path) == [found.parent.name]


def test_what_a_killed_process_left_is_swept(tmp_path: Path, shop: Shop) -> None:
    """The next agent removes it, also if it needs other inputs; fetches under way stay."""
    shop.waits.clear()
    with fetchers(tmp_path, 1, url=shop.url), fetchers(tmp_path, 1, url=f"{shop.url}2") as (second,):
        wait_until(lambda: shop.n_requests == 2)
        second.process.kill()
        second.process.wait()

        make_inputs(tmp_path)

        assert len(remains(tmp_path)) == 1


def test_the_command_of_a_killed_process_ends(tmp_path: Path) -> None:
    """Kill -9 leaves no command behind that goes on fetching for nobody."""
    pid = tmp_path / "pid"
    with fetchers(tmp_path, 1, command=f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60") as (first,):
        wait_until(pid.exists)

        first.process.kill()

        wait_until(lambda: not is_running(int(pid.read_text())))


def test_those_who_waited_fail_with_the_one_they_waited_for(tmp_path: Path, shop: Shop) -> None:
    """Eight slots do not try one after the other what cannot work; who comes later tries anew."""
    shop.waits.clear()
    shop.statuses = [404]
    messages: list[str] = []
    threads = [threading.Thread(target=lambda: messages.append(refusal(tmp_path, url=shop.url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: shop.n_requests)
    time.sleep(0.5)
    shop.waits.set()
    for thread in threads:
        thread.join()

    assert len(set(messages)) == 1
    assert len(messages) == 4
    assert shop.n_requests == 1
    assert get(tmp_path, url=shop.url).read_bytes() == CONTENT


def test_waiting_for_another_process_ends_when_told(tmp_path: Path, shop: Shop) -> None:
    """Who waits for somebody else's fetch heeds the shutdown as well."""
    shop.waits.clear()
    with fetchers(tmp_path, 1, url=shop.url):
        wait_until(lambda: shop.n_requests)
        began = time.monotonic()

        with pytest.raises(FetchInterrupted):
            make_inputs(tmp_path).get("a", DataSource(shop.url), lambda: time.monotonic() < began + 0.5)

    assert time.monotonic() - began < 2


# --- a cache with bounds ------------------------------------------------------------------------------------


def of_size(n_bytes: int) -> dict[str, Any]:
    """A source with so many bytes."""
    return {"command": f"head -c {n_bytes} /dev/zero > {{target}}"}


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    """Room is made by age of use, not by age."""
    first, second = get(tmp_path, 250, **of_size(100)), get(tmp_path, 250, **of_size(101))
    get(tmp_path, 250, **of_size(100))

    third = get(tmp_path, 250, **of_size(102))

    assert first.exists()
    assert third.exists()
    assert not second.exists()


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    """An entry that somebody holds is not removed, however old it is; without it there may be no room."""
    inputs = make_inputs(tmp_path, 250)
    held = inputs.get("a", DataSource(**of_size(100)), lambda: True)
    free = get(tmp_path, 250, **of_size(101))

    get(tmp_path, 250, **of_size(102))

    assert held.path.exists()
    assert not free.exists()
    message = "200 bytes do not fit into the cache beside 100 bytes that are in use"
    assert message in refusal(tmp_path, 250, **of_size(200))
    held.close()
    assert get(tmp_path, 250, **of_size(200)).exists()
    assert not held.path.exists()


def test_inputs_larger_than_the_cache_are_refused_before_they_come(tmp_path: Path, shop: Shop) -> None:
    """What the server says of the size is enough to know."""
    message = refusal(tmp_path, 1000, url=shop.url)

    assert "500.0 KiB do not fit into the cache of 1000 bytes; start the agent with a larger --cache-size" in message
    assert remains(tmp_path) == []


def test_read_only_folders_can_be_removed(tmp_path: Path) -> None:
    """What nobody can write to makes room all the same."""
    first = get(tmp_path, 250, command="mkdir -p {target}/b && head -c 100 /dev/zero > {target}/b/c")

    get(tmp_path, 250, **of_size(200))

    assert not first.exists()


def test_an_entry_that_was_emptied_is_fetched_again(tmp_path: Path, shop: Shop) -> None:
    """Systems tidy up their temporary folders file by file."""
    get(tmp_path, url=shop.url).unlink()

    assert get(tmp_path, url=shop.url).read_bytes() == CONTENT


def test_a_cache_without_locks_works(tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system knows no locks inputs are fetched, and nothing is removed."""
    monkeypatch.setattr("gridtune_evaluation.cache.fcntl.flock", no_locks)

    first = get(tmp_path, 250, **of_size(200))
    get(tmp_path, 250, **of_size(201))

    assert first.exists()


def no_locks(*_: object) -> None:
    """What some network file systems say."""
    raise OSError(37, "No locks available")


def test_a_full_disk_says_what_to_do(tmp_path: Path, shop: Shop) -> None:
    """The point fails for infrastructure, and nothing half-written stays."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        message = refusal(tmp_path, url=shop.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert f"the disk of {tmp_path}/cache is full (File too large); free some space, or name another disk" in message
    assert remains(tmp_path) == []


def test_an_error_of_the_agent_itself_fails_the_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that dies is noticed by who waits for it."""
    monkeypatch.setattr(fetching, "fetch_by_command", lambda *_: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    assert "broke off by an error of the agent" in refusal(tmp_path, command="true")


def test_links_are_made_below_new_folders(tmp_path: Path) -> None:
    """Folders of a path are made, and supplies know where inputs really are."""
    assert data.Supplies().paths == {}
    assert output_of(tmp_path, steps("cat a/b/c", "test -h a/b/c && echo link"), data={"a/b/c": command_source()}) == (
        "1\nlink\n"
    )


def command_source() -> dict[str, str]:
    """A source in its long form."""
    return {"command": "echo 1 > {target}"}
