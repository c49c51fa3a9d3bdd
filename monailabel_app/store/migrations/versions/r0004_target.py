# SPDX-License-Identifier: Apache-2.0
"""What the reader calls a target, and its colour.

Revision: 0004, follows 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("inferences", sa.Column("target", sa.JSON()))


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("inferences") as inferences:
        inferences.drop_column("target")
