"""Alembic runs this to bring a database to another version; `facesr/opinion/opening.py` calls it."""

from facesr.opinion.tables import Base
from facesr.web.schema import run_migrations

run_migrations(Base.metadata)
