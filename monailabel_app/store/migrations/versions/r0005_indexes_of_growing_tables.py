# SPDX-License-Identifier: Apache-2.0
"""Indexes by which one more record costs as much behind ten thousand as behind ten.

Revision: 0005, follows 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_HAS_MASK = sa.text("mask_file IS NOT NULL")


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("ix_inferences_image_sequence", "inferences", ["image_id", "sequence"])
    op.create_index(
        "ix_inferences_kept_masks",
        "inferences",
        ["sequence", "mask_bytes"],
        sqlite_where=_HAS_MASK,
        postgresql_where=_HAS_MASK,
    )


def downgrade() -> None:
    """Take them back."""
    op.drop_index("ix_inferences_kept_masks", "inferences")
    op.drop_index("ix_inferences_image_sequence", "inferences")
