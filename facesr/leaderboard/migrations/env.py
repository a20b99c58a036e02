"""Alembic runs this to bring a database to another version; `facesr/leaderboard/schema.py` calls it."""

from facesr.leaderboard.tables import Base
from facesr.web.schema import run_migrations

run_migrations(Base.metadata)
