# SPDX-License-Identifier: Apache-2.0
"""The reader's decision, the study, and what the archive has of a record.

Revision: 0002, follows 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table."""
    with op.batch_alter_table("inferences") as inferences:
        inferences.add_column(sa.Column("study_uid", sa.String(64)))
        inferences.add_column(sa.Column("outcome", sa.String(16)))
        inferences.add_column(sa.Column("outcome_reason", sa.String()))
        inferences.add_column(sa.Column("decided_at", sa.DateTime()))
        inferences.add_column(sa.Column("decided_by", sa.String()))
    op.create_index("ix_inferences_study_uid", "inferences", ["study_uid"])
    op.create_table(
        "pacs_documents",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("key", sa.String(600), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("inference_id", sa.String(64), sa.ForeignKey("inferences.id")),
        sa.Column("label_id", sa.Integer(), sa.ForeignKey("labels.id")),
        sa.Column("image_id", sa.String(512), nullable=False),
        sa.Column("study_uid", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("next_try_at", sa.DateTime()),
        sa.Column("sent_at", sa.DateTime()),
        sa.Column("error", sa.String()),
        sa.Column("seg_series_uid", sa.String(64)),
        sa.Column("seg_instance_uid", sa.String(64)),
        sa.Column("report_series_uid", sa.String(64)),
        sa.Column("report_instance_uid", sa.String(64)),
    )
    op.create_index(
        "ix_pacs_documents_key_version", "pacs_documents", ["key", "version"], unique=True
    )
    for column in ("inference_id", "study_uid", "state"):
        op.create_index(f"ix_pacs_documents_{column}", "pacs_documents", [column])


def downgrade() -> None:
    """Take both back."""
    op.drop_table("pacs_documents")
    op.drop_index("ix_inferences_study_uid", "inferences")
    with op.batch_alter_table("inferences") as inferences:
        for column in ("study_uid", "outcome", "outcome_reason", "decided_at", "decided_by"):
            inferences.drop_column(column)
