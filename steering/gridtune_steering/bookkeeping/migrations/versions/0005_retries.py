"""Retries by cause: what went wrong with points, where, and on which machines."""

import sqlalchemy as sa
from alembic import op

from gridtune_steering.bookkeeping.schema import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and two tables; tries that failed before count as the training's own."""
    for name in ("lost", "infrastructure", "stalled"):
        op.add_column("points", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.add_column("points", sa.Column("troubles", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("evaluations", sa.Column("likeness", sa.String(length=64), server_default="", nullable=False))
    op.create_table(
        "askers",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("site", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_askers_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "worker", name=op.f("pk_askers")),
    )
    op.create_index("ix_askers_asked_at", "askers", ["asked_at"])
    op.create_table(
        "workers",
        sa.Column("site", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.Column("failures_in_a_row", sa.BigInteger(), nullable=False),
        sa.Column("streak", sa.JSON(), nullable=False),
        sa.Column("times_set_aside", sa.Integer(), nullable=False),
        sa.Column("set_aside_until", UtcDateTime(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("blamed_task", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("site", "host", name=op.f("pk_workers")),
    )
    op.create_index("ix_workers_last_seen_at", "workers", ["last_seen_at"])
    op.create_index("ix_workers_blamed_task", "workers", ["blamed_task"])
