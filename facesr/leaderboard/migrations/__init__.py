"""Versions of the board's tables, for Alembic."""
