"""Versions of the tables of opinion studies, for Alembic."""
