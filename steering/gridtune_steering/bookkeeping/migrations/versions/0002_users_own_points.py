"""The user's own points: who proposed a point, wishes, and results from elsewhere."""

import sqlalchemy as sa
from alembic import op

from gridtune_steering.bookkeeping.schema import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column and two tables; points that are there count as the algorithm's."""
    op.add_column("points", sa.Column("origin", sa.String(length=32), server_default="algorithm", nullable=False))
    op.create_table(
        "wishes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("point", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_wishes_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_wishes")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_wishes_task_id_point", "wishes", ["task_id", "point"], unique=False)
    op.create_table(
        "known_results",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("observed", sa.BigInteger(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_known_results_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "number", name=op.f("pk_known_results")),
    )
    op.create_index("ix_known_results_task_id_observed", "known_results", ["task_id", "observed"], unique=False)
