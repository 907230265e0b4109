"""The HTTP client: patience, credentials, and answers that are none."""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gridtune_common.client import Client, NothingYet, TaskEnded
from gridtune_common.errors import Refused, Unreachable
from gridtune_common.protocol import Ask
from gridtune_common.wire import WireError

ME = b'{"user": "ann", "scope": "user", "token": "t"}'


class Script(ThreadingHTTPServer):
    """Gives the answers of a script, one after the other, and then the last one again; remembers what was asked."""

    def __init__(self, answers: list[tuple[int, dict[str, str], bytes]]) -> None:
        self.answers = answers
        self.asked: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), Reader)


class Reader(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Script

    def answer(self) -> None:
        """Give the next answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append({"path": self.path, **dict(self.headers.items())})
        status, headers, body = self.server.answers[min(len(self.server.asked), len(self.server.answers)) - 1]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@contextmanager
def script(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[Script, str]]:
    """A server with a script, and its URL."""
    with Script(list(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_answers_that_mean_later_are_asked_again(status: int) -> None:
    """A service that is starting, or a proxy whose service is, is no error."""
    with script((status, {}, b""), (status, {}, b""), (200, {}, ME)) as (server, url):
        with closing(Client(url, "s", retry_for=10)) as client:
            assert client.whoami().user == "ann"
        assert len(server.asked) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_the_service_says_how_much_later(status: int) -> None:
    """Retry-After is obeyed, by a service that is away and by one that has too much to do."""
    with script((status, {"Retry-After": "0.5"}, b""), (200, {}, ME)) as (_, url):
        with closing(Client(url, "s", retry_for=10)) as client:
            started = time.monotonic()
            client.whoami()
        assert time.monotonic() - started >= 0.5


def test_those_who_are_told_the_same_come_at_different_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents that were sent away together are not back together, and none is early."""
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)

    with script(*20 * [(429, {"Retry-After": "8"}, b"")], (200, {}, ME)) as (_, url):
        with closing(Client(url, "s", retry_for=1000)) as client:
            client.whoami()

    assert len(set(naps)) == 20
    assert all(8 <= nap <= 10 for nap in naps)


def test_a_client_that_may_not_wait_so_long_says_so() -> None:
    """Neither early nor in vain: its caller decides what comes next."""
    with script((429, {"Retry-After": "60"}, b"")) as (server, url):
        with closing(Client(url, "s", retry_for=5)) as client, pytest.raises(Unreachable, match="429"):
            client.whoami()
        assert len(server.asked) == 1


def certificate(folder: Path) -> Path:
    """A key and its certificate for 127.0.0.1 in one file, signed by nobody else."""
    folder.mkdir()
    path = folder / "both.pem"
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test"]
    name = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path), "-out", str(folder / "certificate.pem")]
    subprocess.run(["openssl", "req", "-x509", *words, *name, *files], capture_output=True, check=True)
    path.write_text(path.read_text() + (folder / "certificate.pem").read_text())
    return path


def test_the_authority_that_was_named_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes before what the environment of a site tells all programs that use requests; theirs goes for no name."""
    ours, sites = certificate(tmp_path / "ours"), certificate(tmp_path / "sites")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sites))
    with script((200, {}, ME)) as (server, url):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(ours)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = url.replace("http:", "https:")

        with closing(Client(url, "s", retry_for=5, verify=str(ours))) as client:
            assert client.whoami().user == "ann"
        with closing(Client(url, "s", retry_for=0)) as client, pytest.raises(Unreachable, match="CERTIFICATE_VERIFY"):
            client.whoami()


def test_patience_ends() -> None:
    """Whoever cannot be reached in time is called unreachable, in words without addresses of objects."""
    with (
        closing(Client("http://127.0.0.1:9", "s", retry_for=0.3)) as client,
        pytest.raises(Unreachable, match=r"cannot reach http://127\.0\.0\.1:9: Failed to establish"),
    ):
        client.whoami()


def test_refusals_are_not_repeated() -> None:
    """No is no; the problem's words reach the user."""
    body = b'{"title": "Conflict", "detail": "too late", "errors": [{"path": "a.b", "message": "write c"}]}'
    with script((409, {}, body)) as (server, url):
        with (
            closing(Client(url, "s", retry_for=10)) as client,
            pytest.raises(Refused, match=r"too late\na\.b: write c"),
        ):
            client.whoami()
        assert len(server.asked) == 1


def test_an_answer_that_is_no_json_is_called_so() -> None:
    """A captive portal's welcome page is not taken for the service."""
    with (
        script((200, {}, b"<html>Welcome</html>")) as (_, url),
        closing(Client(url, "s")) as client,
        pytest.raises(WireError, match="is that a gridtune service"),
    ):
        client.whoami()


def test_the_token_goes_before_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that a user keeps for other programs do not replace the token."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    with script((200, {}, ME)) as (server, url), closing(Client(url, "s")) as client:
        client.whoami()

    assert server.asked[0]["Authorization"] == "Bearer s"


def test_the_sites_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker node's proxy knows nothing of services on loopback."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    with script((200, {}, ME)) as (_, url), closing(Client(url, "s", retry_for=0)) as client:
        assert client.whoami().user == "ann"


def test_the_three_answers_to_an_ask() -> None:
    """A point, not yet, and never again."""
    lease = (
        b'{"task": "t", "evaluation": "e", "epoch": 1, "attempt": 1, "point": 0, "parameters": {"x": 1},'
        b' "lease_seconds": 60, "heartbeat_seconds": 15, "of_a_later_version": true}'
    )
    ended = b'{"title": "Gone", "detail": "all points have ended"}'
    answers = [(200, {}, lease), (204, {"Retry-After": "2"}, b""), (410, {}, ended)]

    with script(*answers) as (_, url), closing(Client(url, "s")) as client:
        given, not_yet, never = (client.ask("t", Ask("r", "w")) for _ in range(3))

    assert getattr(given, "parameters", None) == {"x": 1}
    assert not_yet == NothingYet(2.0)
    assert never == TaskEnded("all points have ended")


def test_names_cannot_change_the_path() -> None:
    """A task called after a path stays one segment of the URL."""
    with (
        script((404, {}, b"{}")) as (server, url),
        closing(Client(url, "s")) as client,
        pytest.raises(Refused),
    ):
        client.task("../../tokens?x=1")

    assert server.asked[0]["path"] == "/api/v1/tasks/..%2F..%2Ftokens%3Fx%3D1"
