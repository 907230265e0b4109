"""Checkpoints that lean on another one."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column; the checkpoints that are there are whole."""
    op.add_column("objects", sa.Column("base_id", sa.String(length=32), nullable=True))
