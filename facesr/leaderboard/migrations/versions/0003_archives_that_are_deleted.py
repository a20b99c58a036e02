"""When the archive of a submission was deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the tables to this version."""
    op.add_column("submissions", sa.Column("archive_removed", sa.DateTime(), nullable=True))


def downgrade() -> None:
    """Brings the tables back to the version before."""
    op.drop_column("submissions", "archive_removed")
