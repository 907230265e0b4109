"""The tables. A change here needs a migration in `migrations/versions`; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

#: A row of any query; its columns are attributes.
Record: TypeAlias = sa.Row[*tuple[Any, ...]]

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, on databases that keep zones and on SQLite, which does not."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; SQLite gets the UTC wall time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive time {value!r}")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Give the zone back to what SQLite returns."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


_ID = sa.String(32)
_NAME = sa.String(255)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("owner", _NAME, nullable=False),
    sa.Column("state", _ID, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("stopped_by", _ID),  # the stop rule that ended the task
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("versions", sa.JSON, nullable=False),
    sa.Column("max_points", sa.BigInteger),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    # wall time without pauses: what ran before the last pause, and since when it runs now
    sa.Column("ran_seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("running_since", UtcDateTime),
    # which optimizer host owns the task; the epoch fences off a host that lost it and does not know yet
    sa.Column("host", _NAME),
    sa.Column("host_epoch", sa.BigInteger, nullable=False, default=0),
    sa.Column("host_lease_until", UtcDateTime),
    # how many hosts in a row took the task and did not get one round of it done, and what is known of that
    sa.Column("strikes", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("trouble", sa.Text, nullable=False, default="", server_default=""),
    sa.Index("ix_tasks_host", "host"),
    sa.Index("ix_tasks_created_at_id", "created_at", "id"),
    sa.Index("ix_tasks_state", "state"),
    sa.Index("ix_tasks_name", "name"),
)

task_files = sa.Table(
    "task_files",
    metadata,
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("path", sa.String(1024), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("executable", sa.Boolean, nullable=False),
)

points = sa.Table(
    "points",
    metadata,
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("state", _ID, nullable=False),
    sa.Column("origin", _ID, nullable=False, server_default="algorithm"),  # who proposed the point
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("value", sa.Float),
    # tries that failed or were lost; the next two columns say how many of them were not the training's own fault
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("lost", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("infrastructure", sa.Integer, nullable=False, default=0, server_default="0"),
    # stretches in a row that were given back and had not brought the training forward
    sa.Column("stalled", sa.Integer, nullable=False, default=0, server_default="0"),
    # where and when the last of the tries failed, so that the next one goes elsewhere
    sa.Column("troubles", sa.JSON, nullable=False, default=list, server_default="[]"),
    sa.Column("epoch", sa.BigInteger, nullable=False, default=0),
    # the newest evaluation, or the one whose result counts
    sa.Column("evaluation_id", _ID),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("informed_by", sa.BigInteger, nullable=False),
    # the point's place in the order in which its optimizer learnt results; null until it has
    sa.Column("observed", sa.BigInteger),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("ended_at", UtcDateTime),
    sa.Index("ix_points_task_id_state_number", "task_id", "state", "number"),
    sa.Index("ix_points_task_id_value", "task_id", "value"),
    sa.Index("ix_points_task_id_observed", "task_id", "observed"),
)

# points that users want to be tried, in the order of their ids
wishes = sa.Table(
    "wishes",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("created_by", _NAME, nullable=False),
    sa.Column("point", sa.BigInteger),  # the point that fulfils the wish; null until it is made
    sa.Index("ix_wishes_task_id_point", "task_id", "point"),
    sqlite_autoincrement=True,
)

# results from elsewhere, for the optimizer to learn from
known_results = sa.Table(
    "known_results",
    metadata,
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),  # 1, 2, … in each task
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    # as in points: a place in the one order in which the task's optimizer learnt all results
    sa.Column("observed", sa.BigInteger),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_known_results_task_id_observed", "task_id", "observed"),
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("point", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", _ID, nullable=False),
    sa.Column("worker", _NAME, nullable=False),
    sa.Column("site", _NAME, nullable=False),
    sa.Column("host", _NAME, nullable=False),
    sa.Column("agent_version", _NAME, nullable=False),
    sa.Column("resources", sa.JSON, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("lease_expires_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("cause", _ID, nullable=False, default=""),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("exit_code", sa.BigInteger),
    sa.Column("output_tail", sa.Text, nullable=False, default=""),
    sa.Column("likeness", sa.String(64), nullable=False, default="", server_default=""),  # the same for like failures
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("usage", sa.JSON(none_as_null=True)),  # what its payload used, as far as its agent saw
    sa.Column("resumed_from", _ID),  # the checkpoint that it was given to go on from
    sa.Column("watched_until", UtcDateTime),  # somebody wants to see what it prints, while it prints it
    sa.Index("uq_evaluations_task_id_point_epoch", "task_id", "point", "epoch", unique=True),
    sa.Index("ix_evaluations_state_lease_expires_at", "state", "lease_expires_at"),
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("evaluation_id", _ID, sa.ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
)

# no foreign keys: the audit log outlives what it tells of
events = sa.Table(
    "events",
    metadata,
    # SQLite counts up by itself only on a column of type INTEGER
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", _NAME, nullable=False),
    sa.Column("kind", _ID, nullable=False),
    sa.Column("task_id", _ID),
    sa.Column("point", sa.BigInteger),
    sa.Column("evaluation_id", _ID),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Index("ix_events_task_id_id", "task_id", "id"),
    sqlite_autoincrement=True,
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("user", _NAME, nullable=False),
    sa.Column("scope", _ID, nullable=False),
    sa.Column("task_id", _ID),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
)

# answers to mutating calls, so that the same call again gets the same answer
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("token_id", _ID, primary_key=True),
    sa.Column("request_id", sa.String(128), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("answer", sa.JSON, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Index("ix_requests_at", "at"),
)

# workers that are free and expected to take a point until then: each is worth one new point
waiting = sa.Table(
    "waiting",
    metadata,
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("worker", _NAME, primary_key=True),
    sa.Column("until", UtcDateTime, nullable=False),
)

# who asked for points of a task, when last, what it has, and why it does not fit the task if it does not
askers = sa.Table(
    "askers",
    metadata,
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("worker", _NAME, primary_key=True),
    sa.Column("site", _NAME, nullable=False),
    sa.Column("host", _NAME, nullable=False),
    sa.Column("asked_at", UtcDateTime, nullable=False),
    sa.Column("resources", sa.JSON, nullable=False, default=dict, server_default="{}"),
    sa.Column("unfit", sa.Text, nullable=False, default="", server_default=""),
    sa.Index("ix_askers_asked_at", "asked_at"),
)

# the machines that workers run on, and how evaluations end there
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("site", _NAME, primary_key=True),
    sa.Column("host", _NAME, primary_key=True),
    sa.Column("last_seen_at", UtcDateTime, nullable=False),
    sa.Column("done", sa.BigInteger, nullable=False, default=0),
    sa.Column("failed", sa.BigInteger, nullable=False, default=0),
    sa.Column("lost", sa.BigInteger, nullable=False, default=0),
    sa.Column("failures_in_a_row", sa.BigInteger, nullable=False, default=0),
    sa.Column("streak", sa.JSON, nullable=False),  # the newest of these failures: when, and of which point
    # how often it was set aside since it last succeeded, until when now, why, and for a failure of which task
    sa.Column("times_set_aside", sa.Integer, nullable=False, default=0),
    sa.Column("set_aside_until", UtcDateTime),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("blamed_task", _ID),
    sa.Index("ix_workers_last_seen_at", "last_seen_at"),
    sa.Index("ix_workers_blamed_task", "blamed_task"),
)

# the optimizer hosts that run, or did until lately
optimizer_hosts = sa.Table(
    "optimizer_hosts",
    metadata,
    sa.Column("name", _NAME, primary_key=True),
    sa.Column("version", _NAME, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("load", sa.Float, nullable=False),  # see services.sharing
)

# what all processes of the service have to agree on
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", _ID, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

# work that one host at a time does for all
duties = sa.Table(
    "duties",
    metadata,
    sa.Column("name", _ID, primary_key=True),
    sa.Column("holder", _NAME, nullable=False),
    sa.Column("lease_until", UtcDateTime, nullable=False),
    sa.Column("last_run_at", UtcDateTime),
    sa.Column("suspended_until", UtcDateTime),
)

# what optimizers were at some time: spares a rebuild the asking, and can be thrown away
snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("task_id", _ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("n_points", sa.BigInteger, nullable=False),
    sa.Column("n_observed", sa.BigInteger, nullable=False),
    sa.Column("versions", sa.JSON, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
)

# ended tasks that were moved into object storage: what is listed of them, and in which object the rest is
archives = sa.Table(
    "archives",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("owner", _NAME, nullable=False),
    sa.Column("state", _ID, nullable=False),
    sa.Column("summary", sa.JSON, nullable=False),
    sa.Column("object_id", _ID, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("archived_at", UtcDateTime, nullable=False),
    sa.Index("ix_archives_created_at_id", "created_at", "id"),
    sa.Index("ix_archives_name", "name"),
)

# checkpoints, logs and archived tasks in object storage; no foreign keys: what is stored outlives its task for a while
objects = sa.Table(
    "objects",
    metadata,
    # ids count up, so that of two objects of a point the newer one is known
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", _ID, nullable=False, unique=True),
    sa.Column("kind", _ID, nullable=False),
    sa.Column("task_id", _ID, nullable=False),
    sa.Column("owner", _NAME, nullable=False),
    sa.Column("point", sa.BigInteger, nullable=False),
    sa.Column("evaluation_id", _ID, nullable=False),
    sa.Column("key", sa.String(1024), nullable=False),
    sa.Column("upload", sa.Text, nullable=False),  # the store's own name of the upload
    sa.Column("part_size", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("format", _ID, nullable=False),
    sa.Column("step", sa.BigInteger),
    sa.Column("interrupted", sa.Boolean, nullable=False),
    sa.Column("base_id", _ID),  # the checkpoint that this one is nothing without; it has no base itself
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("committed_at", UtcDateTime),  # null while the upload is pending
    # when it may be deleted; null while it is wanted
    sa.Column("doomed_at", UtcDateTime),
    sa.Column("doom", sa.Text, nullable=False, default=""),  # why
    sa.Index("ix_objects_task_id_point", "task_id", "point"),
    sa.Index("ix_objects_owner", "owner"),
    sa.Index("ix_objects_doomed_at", "doomed_at"),
    sqlite_autoincrement=True,
)

# the end of what a running evaluation has printed, while somebody watches
outputs = sa.Table(
    "outputs",
    metadata,
    sa.Column("evaluation_id", _ID, sa.ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("start", sa.BigInteger, nullable=False),  # the offset of the first byte in the whole output
    sa.Column("end", sa.BigInteger, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
