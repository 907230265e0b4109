"""A service and workers as child processes: found, started, kept alive, stopped; with stand-ins for both."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridtune_common.embedded import Service, ServiceDied, Workers, WorkersDied
from gridtune_common.settings import Secret, local_service

STAND_IN = """
import http.server, json, os, pathlib, signal, sys, time

def serve(data, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
        def log_message(self, *arguments):
            pass
    server = http.server.HTTPServer(("127.0.0.1", int(port)), Handler)
    (data / "operator.token").write_text("operator-token\\n")
    url = "http://127.0.0.1:%d" % server.server_address[1]
    (data / "service.new").write_text(json.dumps({"url": url, "pid": os.getpid()}))
    (data / "service.new").rename(data / "service.json")
    server.serve_forever()

words = sys.argv[1:]
if words[0] == "serve":
    data = pathlib.Path(words[words.index("--data") + 1])
    if (data / "broken").exists():
        sys.exit("the data folder is broken")
    serve(data, words[words.index("--port") + 1])
elif "broken" in words:
    sys.exit("no such task")
else:
    def leave(*arguments):
        print("gave the points back", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, leave)
    print(json.dumps([words, os.environ["GRIDTUNE_TOKEN"], os.environ.get("GRIDTUNE_SERVER")]), flush=True)
    while True:
        time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children are stand-ins for the service and the agent."""
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    monkeypatch.setattr("gridtune_common.embedded._interpreter", lambda: [sys.executable, str(program)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited for 10 s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kept_alive(children: "Service | Workers") -> int:
    """The process that is there after a look at it."""
    children.keep_alive()
    return children.pid


def test_a_service_runs_within_its_block(data: Path) -> None:
    """It is ready on entering, with address and token, and gone afterwards."""
    with Service(data) as service:
        found = local_service(data)
        pid, url, token = service.pid, service.url, service.token

    assert found is not None
    assert (found.pid, found.url, token) == (pid, url, Secret("operator-token"))
    assert not alive(pid)


def test_a_service_that_runs_already_is_used_and_left(data: Path) -> None:
    """A second user of the same folder starts nothing and stops nothing."""
    with Service(data) as first:
        with Service(data) as second:
            assert second.pid == first.pid
            assert not second.started_here
        assert alive(first.pid)


def test_a_service_that_dies_comes_back_at_its_address(data: Path) -> None:
    """Workers and browsers find it where it was."""
    with Service(data) as service:
        before, url = service.pid, service.url
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: kept_alive(service) != before)

        assert (service.url, service.pid != before, alive(service.pid)) == (url, True, True)


def test_a_service_that_does_not_start_shows_its_log(data: Path) -> None:
    """The error has the end of what the child printed."""
    (data / "broken").touch()

    with pytest.raises(ServiceDied) as caught, Service(data):
        pass

    assert str(caught.value).splitlines() == [
        f"gridtune serve ended while it was starting; the end of {data}/logs/serve.log:",
        "  the data folder is broken",
    ]


def test_workers_get_their_token_by_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token on the command line, and no setting of the caller's in the way; SIGTERM ends them in order."""
    monkeypatch.setenv("GRIDTUNE_SERVER", "https://elsewhere.example.org")
    log = data / "logs" / "agent.log"

    with Workers("http://127.0.0.1:9", Secret("s3cr3t"), "t2t2t2t2", 2, log=log):
        wait_until(lambda: log.read_text().endswith("\n"))

    first, last = log.read_text().splitlines()
    words = "agent --server http://127.0.0.1:9 --task t2t2t2t2 --slots 2 --site local --stop-with-parent".split()
    assert json.loads(first) == [words, "s3cr3t", None]
    assert last == "gave the points back"


def test_workers_that_die_are_started_again(data: Path) -> None:
    """A new agent takes the place of one that was killed."""
    with Workers("http://127.0.0.1:9", Secret("abc"), "t2t2t2t2", 1, log=data / "agent.log") as workers:
        before = workers.pid
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: kept_alive(workers) != before)

        assert alive(workers.pid)


def test_workers_that_die_again_and_again_are_given_up(data: Path) -> None:
    """After some restarts the error has the end of the log."""
    log = data / "agent.log"

    with (
        Workers("http://127.0.0.1:9", Secret("abc"), "broken", 1, log=log) as workers,
        pytest.raises(WorkersDied) as caught,
    ):
        wait_until(lambda: kept_alive(workers) == 0)

    assert str(caught.value) == f"gridtune agent ended 4 times; the end of {log}:\n  no such task"
