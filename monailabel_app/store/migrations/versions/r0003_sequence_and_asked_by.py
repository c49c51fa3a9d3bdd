# SPDX-License-Identifier: Apache-2.0
"""The order in which inferences were recorded, whatever the clock said, and who asked.

Revision: 0003, follows 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both columns; SQLite's row ids are the order of what is there, others are new here."""
    op.add_column("inferences", sa.Column("sequence", sa.Integer()))
    op.add_column("inferences", sa.Column("asked_by", sa.String()))
    if op.get_bind().dialect.name == "sqlite":
        op.execute("UPDATE inferences SET sequence = rowid")
    op.create_index("ix_inferences_sequence", "inferences", ["sequence"], unique=True)


def downgrade() -> None:
    """Take both back."""
    op.drop_index("ix_inferences_sequence", "inferences")
    with op.batch_alter_table("inferences") as inferences:
        for column in ("sequence", "asked_by"):
            inferences.drop_column(column)
