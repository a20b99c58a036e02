"""Uploads in pieces."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the tables to this version."""
    op.create_table(
        "uploads",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("team_id", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=64), nullable=False),
        sa.Column("archive_sha256", sa.String(length=64), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("num_received", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("expires", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["phase"], ["phases.name"], name=op.f("fk_uploads_phase")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_uploads_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.UniqueConstraint("code", name=op.f("uq_uploads_code")),
        sa.UniqueConstraint("team_id", "phase", "archive_sha256", name=op.f("uq_uploads_team_id_phase_archive_sha256")),
    )
    op.create_index(op.f("ix_uploads_expires"), "uploads", ["expires"], unique=False)


def downgrade() -> None:
    """Brings the tables back to the version before."""
    op.drop_index(op.f("ix_uploads_expires"), table_name="uploads")

    op.drop_table("uploads")
