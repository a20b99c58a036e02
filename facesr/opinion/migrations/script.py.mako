"""${message}."""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the tables to this version."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Brings the tables back to the version before."""
    ${downgrades if downgrades else "pass"}
