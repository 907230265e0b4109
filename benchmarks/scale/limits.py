"""What this machine allows at most: durable transactions of the database, and requests that do nothing."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gridtune_common.client import Client
from gridtune_common.errors import Unreachable
from gridtune_steering.settings import Settings
from real_service import free_port, wait_for
from servers.postgres import Postgres

_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
#: A million accounts: enough that clients do not meet on one of them.
_SCALE = 10


def pgbench_rate(server: Postgres, clients: int, seconds: float) -> float:
    """Transactions a second of pgbench's "simple update": an update, a select and an insert, and a durable commit."""
    url = server.new_database()
    try:
        server.run("pgbench", "--initialize", "--quiet", f"--scale={_SCALE}", url)
        threads = min(clients, os.cpu_count() or 1)
        options = [f"--client={clients}", f"--jobs={threads}", f"--time={max(1, round(seconds))}", "--no-vacuum"]
        return float(_found(_TPS, server.run("pgbench", "--skip-some-updates", *options, url)))
    finally:
        server.drop(url)


def sqlite_rate(folder: Path, seconds: float) -> float:
    """Durable one-row transactions a second on SQLite; it has one writer at a time."""
    with contextlib.closing(sqlite3.connect(folder / "limit.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (n INTEGER)")
        started, n = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t VALUES (?)", (n,))
            connection.execute("COMMIT")
            n += 1
        return n / seconds


@contextlib.contextmanager
def empty_server(web: int) -> Iterator[tuple[str, int]]:
    """The URL and the process of a Flask application that does nothing, behind gunicorn set up like the service's."""
    port, threads = free_port(), Settings().threads
    flags = ["--worker-class=gthread", f"--workers={web}", f"--threads={threads}", "--keep-alive=75"]
    flags += [f"--worker-connections={4 * threads}", "--log-level=error", f"--bind=127.0.0.1:{port}"]
    command = [sys.executable, "-m", "gunicorn", *flags, "benchmarks.scale.empty:app"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for("the empty server", lambda: _answers(url))
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with contextlib.closing(Client(url, "", retry_for=0)) as client:
            return client.alive().status == "ok"
    except Unreachable:
        return False


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    if match is None:
        raise AssertionError(f"pgbench said something else: {text[-500:]}")
    return match[1]
