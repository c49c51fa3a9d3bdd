# SPDX-License-Identifier: Apache-2.0
"""Tables of inferences and of submitted labels.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "inferences",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("task", sa.String(128), nullable=False),
        sa.Column("image_id", sa.String(512)),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("query", sa.String()),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.Column("reasoner_name", sa.String()),
        sa.Column("reasoner_sha256", sa.String(64)),
        sa.Column("segmenter_name", sa.String(), nullable=False),
        sa.Column("segmenter_sha256", sa.String(64)),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("mask_sha256", sa.String(64)),
        sa.Column("mask_bytes", sa.Integer()),
        sa.Column("mask_file", sa.String()),
    )
    op.create_index("ix_inferences_image_created", "inferences", ["image_id", "created_at"])
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("submitted_at", sa.DateTime(), nullable=False),
        sa.Column("image_id", sa.String(512), nullable=False),
        sa.Column("tag", sa.String(128), nullable=False),
        sa.Column("inference_id", sa.String(64), sa.ForeignKey("inferences.id")),
        sa.Column("joined_by", sa.String(32), nullable=False),
        sa.Column("join_explanation", sa.String(), nullable=False),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.Column("label_sha256", sa.String(64)),
        sa.Column("label_file", sa.String()),
    )
    op.create_index("ix_labels_image_id", "labels", ["image_id"])
    op.create_index("ix_labels_inference_id", "labels", ["inference_id"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("labels")
    op.drop_table("inferences")
