# SPDX-License-Identifier: Apache-2.0
"""Which inferred masks are kept no longer."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monailabel_app.store.tables import InferenceRow


def forget_old_masks(session: Session, keep_bytes: int) -> list[str]:
    """Let rows name no more masks than ``keep_bytes`` allow; those of labels stay, oldest go first.

    Returns:
        Names of the files that no row names any more.
    """
    kept_bytes = session.scalar(
        select(func.sum(InferenceRow.mask_bytes)).where(InferenceRow.mask_file.is_not(None))
    )
    excess = (kept_bytes or 0) - keep_bytes
    unconfirmed_oldest_first = (
        select(InferenceRow)
        .where(InferenceRow.mask_file.is_not(None), ~InferenceRow.labels.any())
        .order_by(InferenceRow.sequence)
    )
    dropped: list[str] = []
    if excess <= 0:
        return dropped
    for row in session.scalars(unconfirmed_oldest_first):
        if excess <= 0 or row.mask_file is None:
            break
        excess -= row.mask_bytes or 0
        dropped.append(row.mask_file)
        row.mask_file = None
    return dropped
