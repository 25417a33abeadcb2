"""Alembic's entry: runs the steps over the connection `migrations.runner` hands it."""

from alembic import context

from fleetward.base.db import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
