"""Alembic runs this to bring a database to another version; `facesr/opinion/opening.py` calls it."""

from alembic import context

from facesr.opinion.tables import Base


def _run() -> None:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        render_as_batch=True,  # SQLite changes a table only by making it anew
    )
    with context.begin_transaction():
        context.run_migrations()


# Outside of Alembic there is none, as for what imports every module of the package.
if hasattr(context, "config"):
    _run()
