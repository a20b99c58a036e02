"""Archives above 2 GiB: PostgreSQL's integers have 32 bits, SQLite's 64 already."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the tables to this version."""
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("submissions", "num_bytes", type_=sa.BigInteger(), existing_type=sa.Integer(), nullable=False)


def downgrade() -> None:
    """Brings the tables back to the version before; fails where an archive has more than 2 GiB."""
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("submissions", "num_bytes", type_=sa.Integer(), existing_type=sa.BigInteger(), nullable=False)
