"""The service's settings: one frozen value, read once from the environment."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from gridtune_common import units
from gridtune_common.errors import ConfigurationError

_PREFIX = "GRIDTUNE_STEERING_"
#: A size, written with its unit in the environment: ``200GiB``.
Bytes = int
#: Several of them in one variable, with commas or blanks between them.
Words = tuple[str, ...]
_KINDS: Mapping[str, Callable[[str], object]] = {
    "Path": Path,
    "str": str,
    "int": int,
    "float": float,
    "Bytes": lambda text: int(text) if text.isdecimal() else units.n_bytes(text),
    "Words": lambda text: tuple(text.replace(",", " ").split()),
    "bool": lambda text: _SWITCH[text.lower()],
}
_SWITCH: Mapping[str, bool] = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False, "": False}
#: An address without a user, a password or a query.
_PLAIN_ADDRESS = re.compile(r"https?://[^\s@?#/]+(/[^\s@?#]*)?")
#: Whoever guesses needs this many characters right.
_SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set. Each field is read from ``GRIDTUNE_STEERING_<FIELD>``; durations are in seconds.

    Attributes:
        data: The folder of the embedded database, keys, logs and sockets.
        database: SQLAlchemy URL; by default SQLite in the data folder. May hold a password, so it is never shown.
        database_connections: The most that one process keeps open to PostgreSQL, besides one or two for rings.
        lease_seconds: How long a worker may be silent before its point goes to another.
        ask_wait_seconds: How long an ask may wait for a point at most.
        threads: Requests served at a time by one web process, at least 2; half of them may be waiting asks.
        body_limit: Largest request body, in bytes.
        host_lease_seconds: How long an optimizer host may be silent before its tasks go to another.
        think_seconds: How long an optimizer may think about one batch of points; then its host gives itself up, and
            the task after three times.
        idle_seconds: After how long a host drops a campaign from memory that nobody asks anything of.
        request_memory_seconds: How long answers are kept for repeated requests.
        address_seconds: How long signed addresses of stored objects can be used.
        storage_grace_seconds: How long a checkpoint stays after it was superseded.
        storage_keep_seconds: How long the last checkpoints of a point stay after its end.
        storage_abandon_seconds: How long an upload may take; then it is given up unless its evaluation runs.
        archive_after_seconds: How long after its end a task is moved out of the database into the object store; 0 for
            never.
        event_memory_seconds: How long the audit log of deleted tasks is kept; 0 for ever.
        storage_task_quota: The most that may be stored for one task; 0 for no limit.
        storage_user_quota: The most that may be stored for all tasks of one user; 0 for no limit.
        object_store: Where checkpoints and logs are kept: ``folder:/PATH`` or ``s3://BUCKET/PREFIX?endpoint=URL``; by
            default a folder in the data folder.
        s3_key_id: With `s3_secret`, the credentials for S3; both empty for boto3's own ways to find them.
        data_buckets: Places in S3, each a ``BUCKET`` or ``BUCKET/PREFIX/``, whose objects tasks may name as inputs:
            their addresses are signed with the credentials of `object_store`, for its endpoint.
        agent_libraries: A folder with the libraries that go into the agent's file; by default those of this
            environment.
        log_format: ``text`` for people, or ``json`` for one object a line.
        access_log: Whether each request gets a line in the log.
        metrics_token: A secret that opens the metrics and nothing else; without it operators' tokens alone do.
        traces: Where an OpenTelemetry collector takes OTLP over HTTP, as ``http://HOST:4318``; empty for no traces.
        rate_limit: Requests a second that one web process takes from one token, signs of life and results not counted;
            0 for no limit.
        rate_burst: So many may come at once after a quiet time.
        token_cache_seconds: For how long a web process may take a token for good that was revoked by another; 0 asks
            the database each time.
    """

    data: Path = Path("gridtune-data")
    database: str = field(default="", repr=False)
    database_connections: int = 10
    lease_seconds: float = 60.0
    ask_wait_seconds: float = 25.0
    threads: int = 64
    body_limit: int = 32 * 2**20
    think_seconds: float = 120.0
    idle_seconds: float = 600.0
    host_lease_seconds: float = 10.0
    request_memory_seconds: float = 86_400.0
    address_seconds: float = 3600.0
    storage_grace_seconds: float = 3600.0
    storage_keep_seconds: float = 86_400.0
    storage_abandon_seconds: float = 86_400.0
    archive_after_seconds: float = 0.0
    event_memory_seconds: float = 0.0
    storage_task_quota: Bytes = 0
    storage_user_quota: Bytes = 0
    object_store: str = ""
    s3_key_id: str = ""
    s3_secret: str = field(default="", repr=False)
    data_buckets: Words = ()
    agent_libraries: str = ""
    log_format: str = "text"
    access_log: bool = False
    metrics_token: str = field(default="", repr=False)
    traces: str = ""
    rate_limit: float = 200.0
    rate_burst: float = 2000.0
    token_cache_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name in (
            "lease_seconds",
            "host_lease_seconds",
            "threads",
            "database_connections",
            "think_seconds",
            "idle_seconds",
            "body_limit",
            "request_memory_seconds",
            "address_seconds",
        ):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{_PREFIX}{name.upper()}: {getattr(self, name)} is not above zero")
        for name in ("archive_after_seconds", "event_memory_seconds"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{_PREFIX}{name.upper()}: {getattr(self, name)} is below zero")
        if self.threads < 2:
            raise ConfigurationError(f"{_PREFIX}THREADS: must be at least 2, or a waiting ask stops all others")
        if self.host_lease_seconds <= 3:
            raise ConfigurationError(f"{_PREFIX}HOST_LEASE_SECONDS: must be above 3, it is renewed every second")
        if self.log_format not in {"text", "json"}:
            raise ConfigurationError(f"{_PREFIX}LOG_FORMAT: {self.log_format!r} is unknown; write text or json")
        if self.metrics_token and len(self.metrics_token) < _SHORTEST_SECRET:
            raise ConfigurationError(
                f"{_PREFIX}METRICS_TOKEN: too easy to guess; {_SHORTEST_SECRET} characters at least"
            )
        if self.traces and not _PLAIN_ADDRESS.fullmatch(self.traces):
            raise ConfigurationError(
                f"{_PREFIX}TRACES: write http://HOST:PORT or https://…; credentials go into OTEL_EXPORTER_OTLP_HEADERS"
            )
        if not (self.rate_limit >= 0 and self.rate_burst >= 1):
            raise ConfigurationError(f"{_PREFIX}RATE_LIMIT and …_BURST: at least 0 (no limit) and 1")
        if not 0 <= self.token_cache_seconds <= 60:
            raise ConfigurationError(f"{_PREFIX}TOKEN_CACHE_SECONDS: between 0 and 60, or revoked tokens live on")
        if bool(self.s3_key_id) != bool(self.s3_secret):
            raise ConfigurationError(f"{_PREFIX}S3_KEY_ID and {_PREFIX}S3_SECRET: set both, or neither")
        if self.s3_key_id and not self.object_store.startswith("s3://"):
            raise ConfigurationError(f"{_PREFIX}S3_KEY_ID is of no use: {_PREFIX}OBJECT_STORE is no s3://BUCKET")
        if self.data_buckets and not self.object_store.startswith("s3://"):
            raise ConfigurationError(
                f"{_PREFIX}DATA_BUCKETS is of no use: {_PREFIX}OBJECT_STORE is no s3://BUCKET, whose endpoint and "
                "credentials are used for them"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **overrides: object) -> Settings:
        """Read the settings; *overrides* (from flags) win where they are not None.

        Raises:
            ConfigurationError: A variable is unknown or its value cannot be used.
        """
        kinds = {f.name: _KINDS[str(f.type)] for f in fields(cls)}
        values: dict[str, object] = {}
        for variable, text in environment.items():
            if not variable.startswith(_PREFIX):
                continue
            name = variable.removeprefix(_PREFIX).lower()
            if name not in kinds:
                close = difflib.get_close_matches(name, kinds, n=1)
                hint = f"; did you mean {_PREFIX}{close[0].upper()}?" if close else ""
                raise ConfigurationError(f"{variable} is no setting{hint}")
            try:
                values[name] = kinds[name](text)
            except (ValueError, KeyError) as error:
                raise ConfigurationError(f"{variable}: {text!r} cannot be read") from error
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)  # type: ignore[arg-type]  # each value was made by its field's own type

    @property
    def database_url(self) -> str:
        """The URL in force."""
        return self.database or f"sqlite:///{self.data.resolve() / 'gridtune.db'}"

    @property
    def heartbeat_seconds(self) -> float:
        """How often a worker should say that it is alive: three misses fit into a lease."""
        return self.lease_seconds / 4
