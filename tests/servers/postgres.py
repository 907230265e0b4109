"""A real PostgreSQL: one cluster of the tests' own, with a fresh database for whoever asks for one."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gridtune_steering.bookkeeping.database import Database
from real_service import free_port

#: Where Debian keeps the server's programs, the newest version last; others have them in PATH.
_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
#: The server refuses to run as root.
_USER = "postgres"
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
shared_buffers = 128MB
autovacuum_naptime = 10s
"""


def program(name: str) -> str | None:
    """Where one of the server's programs is; None if it is not installed."""
    return shutil.which(name, path=os.pathsep.join([*map(str, reversed(_FOLDERS)), os.environ.get("PATH", "")]))


def is_installed() -> bool:
    """Whether the server is there (Debian: postgresql)."""
    return all(program(name) for name in ("initdb", "pg_ctl", "pg_amcheck", "postgres", "psql"))


@dataclass
class Postgres:
    """A cluster below a folder, durable as in production; `start` and `crash` it at will."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    _template: str = ""

    def make(self) -> None:
        """Make the cluster and start it."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.getuid() == 0:
            owner = pwd.getpwnam(_USER)
            for path in (self.folder, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        flags = ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        self.run("initdb", f"--pgdata={self.data}", "--username=gridtune", *flags)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        self.start()

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """The process that all others of the server are below, while it runs."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def start(self) -> None:
        """Start the server, or start it again, and wait until it answers."""
        self.run("pg_ctl", f"--pgdata={self.data}", "-o", f"-p {self.port}", f"--log={self.folder}/log", "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: ``fast`` in good order, ``immediate`` as a crash does."""
        self.run("pg_ctl", f"--pgdata={self.data}", f"--mode={mode}", "-w", "stop")

    def crash(self) -> None:
        """Let the server go down without a word."""
        self.stop("immediate")

    def end(self) -> None:
        """Stop the server, if it runs, and remove its folder."""
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, database: str) -> str:
        """The URL of a database, for the service's settings."""
        return f"postgresql://gridtune:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, *, like: str = "template1") -> str:
        """Make a database, empty or *like* another one; returns its URL."""
        name = f"d{secrets.token_hex(6)}"
        self.query(f'CREATE DATABASE "{name}" TEMPLATE "{like}"')
        return self.url(name)

    def new_service_database(self) -> str:
        """Make a database with the service's tables; returns its URL."""
        if not self._template:
            url = self.new_database()
            database = Database(url)
            database.migrate()
            database.close()
            self._template = url.rpartition("/")[2]
        return self.new_database(like=self._template)

    def drop(self, url: str) -> None:
        """Remove a database, whoever uses it."""
        self.query(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)')

    def flaws(self, url: str) -> list[str]:
        """What the server's own tool finds wrong with the tables and indexes of a database."""
        try:
            self.run("pg_amcheck", "--install-missing", "--heapallindexed", url)
        except AssertionError as error:
            return [str(error)]
        return []

    def query(self, statement: str, url: str | None = None) -> str:
        """What ``psql`` prints for one statement, values alone."""
        return self.run("psql", "--no-psqlrc", "-Atc", statement, url or self.url("postgres"))

    def run(self, name: str, *words: str) -> str:
        """What one of the server's programs prints; with the rights of the cluster's owner."""
        found = program(name)
        assert found is not None, f"{name} is not installed"
        done = subprocess.run([*self._as_owner(), found, *words], capture_output=True, cwd="/", check=False)
        if done.returncode:
            raise AssertionError(f"{name}: {done.stderr.decode()} {done.stdout.decode()}")
        return done.stdout.decode().strip()

    def _as_owner(self) -> Sequence[str]:
        if os.getuid() != 0:
            return ()
        owner = pwd.getpwnam(_USER)
        return ("setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups")
