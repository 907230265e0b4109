"""What Alembic runs: migrate over the connection that was handed in."""

from alembic import context

from gridtune_steering.bookkeeping.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
