"""Optimizer hosts that know of each other, tasks that are too much for them, and what all processes agree on."""

import sqlalchemy as sa
from alembic import op

from gridtune_steering.bookkeeping.schema import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables, and columns that older programs do not mind."""
    op.create_table(
        "optimizer_hosts",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("load", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_optimizer_hosts"),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
    op.add_column("tasks", sa.Column("strikes", sa.Integer(), server_default="0", nullable=False))
    op.add_column("tasks", sa.Column("trouble", sa.Text(), server_default="", nullable=False))
    op.create_index("ix_tasks_host", "tasks", ["host"])
