# SPDX-License-Identifier: Apache-2.0
"""Alembic runs this; the connection comes from :func:`monailabel_app.store.migrating.upgrade`."""

from __future__ import annotations

from alembic import context

from monailabel_app.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
