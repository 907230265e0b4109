"""Checkpoints and logs in object storage, and output that is watched live."""

import sqlalchemy as sa
from alembic import op

from gridtune_steering.bookkeeping.schema import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables, what an evaluation goes on from, and whether it is watched."""
    op.create_table(
        "objects",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("point", sa.BigInteger(), nullable=False),
        sa.Column("evaluation_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=1024), nullable=False),
        sa.Column("upload", sa.Text(), nullable=False),
        sa.Column("part_size", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.Column("interrupted", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("committed_at", UtcDateTime(), nullable=True),
        sa.Column("doomed_at", UtcDateTime(), nullable=True),
        sa.Column("doom", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_objects")),
        sa.UniqueConstraint("id", name=op.f("uq_objects_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_objects_task_id_point", "objects", ["task_id", "point"])
    op.create_index("ix_objects_owner", "objects", ["owner"])
    op.create_index("ix_objects_doomed_at", "objects", ["doomed_at"])
    op.add_column("evaluations", sa.Column("resumed_from", sa.String(length=32), nullable=True))
    op.add_column("evaluations", sa.Column("watched_until", UtcDateTime(), nullable=True))
    op.create_table(
        "outputs",
        sa.Column("evaluation_id", sa.String(length=32), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name=op.f("fk_outputs_evaluation_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", name=op.f("pk_outputs")),
    )
