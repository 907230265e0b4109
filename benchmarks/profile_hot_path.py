"""Where the milliseconds and the statements of ask, report, heartbeat, tell and of a host's round go, in one process.

Web process and optimizer host are one thread here, so that nothing waits for anything else: requests come as bytes
through a socket, gunicorn's parser reads them, the application answers, and between tell and ask the host does one
round. Each database is gone through twice: once to time calls and count statements, once under cProfile, whose
milliseconds are too long (it counts every function) but whose shares tell where to look.

A transaction on PostgreSQL takes two round trips beyond its statements: the driver sends BEGIN with the first one,
which its time includes, and COMMIT.

    python -m benchmarks.profile_hot_path [--databases sqlite postgresql] [--algorithm hyperopt/tpe]
        [--observations 500] [--rounds 200] [--functions 25] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import json
import os
import socket
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # as in an optimizer host
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from benchmarks.scale.databases import served_databases
from benchmarks.scale.history import preload
from benchmarks.scale.objective import document, loss_of
from benchmarks.scale.profile_report import KINDS, Call, details, table
from sqlalchemy import event

from gridtune_common import wire
from gridtune_common.client import new_request_id
from gridtune_common.protocol import Ask, Heartbeat, Lease, Report, Reports, SubmitTask, Task, Tell
from gridtune_steering.api.app import create_app
from gridtune_steering.assembly import assemble
from gridtune_steering.campaign import Campaign
from gridtune_steering.doorbell import WaitingRoom
from gridtune_steering.host.host import Host
from gridtune_steering.services import housekeeping, tokens
from gridtune_steering.services.steering import Steering
from gridtune_steering.settings import Settings


class Meter:
    """Counts what the database is asked while a call is under way."""

    def __init__(self, steering: Steering) -> None:
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.profiles: dict[str, cProfile.Profile] | None = None
        self._now: Call | None = None
        self._begun = 0.0
        engine = steering.database.engine
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        commit = engine.dialect.do_commit

        def timed_commit(connection: Any) -> None:
            with self._timed(lambda call, seconds: call.commits.append(seconds)):
                commit(connection)

        engine.dialect.do_commit = timed_commit  # type: ignore[method-assign,assignment]  # no event tells of its end
        handle = Campaign.handle

        def timed_handle(campaign: Campaign, happened: Any) -> Any:
            with self._timed(_add_thinking):
                return handle(campaign, happened)

        Campaign.handle = timed_handle  # type: ignore[method-assign,assignment]

    @contextlib.contextmanager
    def call(self, kind: str) -> Iterator[None]:
        """Measure what happens in the block, or profile it."""
        if self.profiles is not None:
            with self.profiles.setdefault(kind, cProfile.Profile()):
                yield
            return
        self._now = Call()
        started = time.perf_counter()
        yield
        self._now.total = time.perf_counter() - started
        self.calls[kind].append(self._now)
        self._now = None

    @contextlib.contextmanager
    def _timed(self, note: Callable[[Call, float], None]) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if self._now is not None:
            note(self._now, time.perf_counter() - started)

    def _before(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def _after(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self._now is not None:
            self._now.statements.append((statement, time.perf_counter() - self._begun))


def _add_thinking(call: Call, seconds: float) -> None:
    call.thinking += seconds


class _NeverRung:
    """An ear that hears nothing: nobody waits here."""

    def wait(self, timeout: float) -> Counter[str]:
        """Sleep."""
        time.sleep(timeout)
        return Counter()

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Wire:
    """Requests as bytes through a socket to gunicorn's parser and the application, all in this thread."""

    def __init__(self, app: Callable[..., Any], token: str) -> None:
        from gunicorn.config import Config

        self._app, self._token, self._config = app, token, Config()
        self._client, self._server = socket.socketpair()

    def post(self, path: str, message: Any) -> Callable[[], bytes]:
        """A request on its way; the answer's body is what the function returns that serves it."""
        body = json.dumps(wire.encode(message)).encode()
        head = (
            f"POST /api/v1{path} HTTP/1.1\r\nHost: localhost:8470\r\nUser-Agent: gridtune/0\r\n"
            f"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._client.sendall(head.encode() + body)
        return self._serve

    def _serve(self) -> bytes:
        from gunicorn.http import get_parser, wsgi

        peer = ("127.0.0.1", 12345)
        request = next(get_parser(self._config, self._server, peer))
        answer, environ = wsgi.create(request, self._server, peer, ("127.0.0.1", 8470), self._config)
        body = self._app(environ, answer.start_response)
        for part in body:
            answer.write(part)
        answer.close()
        if hasattr(body, "close"):
            body.close()
        head, _, content = self._client.recv(1 << 20).partition(b"\r\n\r\n")
        status = int(head.split()[1])
        assert status < 400, (head, content)
        return content


def main() -> None:
    """Print a report for each database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--algorithm", default="hyperopt/tpe")
    parser.add_argument("--observations", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--functions", type=int, default=25, help="lines of functions for each kind of call")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder, served_databases(arguments.databases) as urls:
        for kind, new_url in urls.items():
            place = Path(folder) / kind
            place.mkdir()
            lines += [f"# {kind}: {arguments.algorithm}, {arguments.observations} observations at the start", ""]
            lines += profiled(place, new_url(), arguments)
    text = "\n".join(lines)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")


def profiled(folder: Path, url: str, arguments: argparse.Namespace) -> list[str]:
    """The report for one database."""
    # nobody renews the host's lease here
    environment = {"GRIDTUNE_STEERING_HOST_LEASE_SECONDS": "86400", "GRIDTUNE_STEERING_DATABASE": url}
    settings = Settings.from_environment(environment, data=folder)
    steering, bell = assemble(settings)
    steering.database.migrate()
    tokens.ensure_operator(steering)
    room = WaitingRoom(_NeverRung())
    wire_ = Wire(create_app(steering, room), (folder / "operator.token").read_text().strip())
    meter = Meter(steering)
    try:
        submitted = [_submit(wire_, arguments.algorithm) for _ in range(2)]
        preload(steering.database, submitted[0], arguments.observations)
        host = Host(steering, "profiled")
        housekeeping.note_presence(steering)
        wire_.post(f"/tasks/{submitted[0]}/ask", Ask(new_request_id(), "w0"))()
        host.round({submitted[0]})
        for is_profiled in (False, True):
            meter.profiles = {} if is_profiled else None
            lead_lives(wire_, host, meter, submitted[0], arguments.rounds)
            ask_in_vain(wire_, meter, submitted[1], arguments.rounds)
        assert meter.profiles is not None
        lines = table(meter.calls)
        for kind in KINDS:
            lines += details(kind, meter.calls[kind], meter.profiles[kind], arguments.functions)
        return lines
    finally:
        bell.close()
        steering.database.close()


def _submit(wire_: Wire, algorithm: str) -> str:
    message = SubmitTask(new_request_id(), document(algorithm))
    return wire.decode(Task, json.loads(wire_.post("/tasks", message)())).summary.id


def lead_lives(wire_: Wire, host: Host, meter: Meter, task: str, rounds: int) -> None:
    """Lead so many points from ask to tell, with a host's round after each tell."""
    for _ in range(rounds):
        serve = wire_.post(f"/tasks/{task}/ask", Ask(new_request_id(), "w0"))
        with meter.call("ask"):
            content = serve()
        lease = wire.decode(Lease, json.loads(content))
        path = f"/evaluations/{lease.evaluation}"
        told: dict[str, float | None] = {"loss": loss_of(lease.parameters)}
        for kind, where, message in (
            ("heartbeat", "/heartbeat", Heartbeat(lease.epoch)),
            ("report", "/reports", Reports(lease.epoch, [Report(1, told)])),
            ("tell", "/tell", Tell(new_request_id(), lease.epoch, told)),
        ):
            serve = wire_.post(path + where, message)
            with meter.call(kind):
                serve()
        with meter.call("host round"):
            host.round({task})


def ask_in_vain(wire_: Wire, meter: Meter, task: str, rounds: int) -> None:
    """Ask where no point is ready."""
    for _ in range(rounds):
        serve = wire_.post(f"/tasks/{task}/ask", Ask(new_request_id(), "w0"))
        with meter.call("ask in vain"):
            serve()


if __name__ == "__main__":
    main()
