"""What evaluations used, and what the workers have that ask for points."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; of what came before nothing is known."""
    op.add_column("evaluations", sa.Column("usage", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("askers", sa.Column("resources", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("askers", sa.Column("unfit", sa.Text(), server_default="", nullable=False))
