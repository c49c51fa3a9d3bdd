# SPDX-License-Identifier: Apache-2.0
"""When a reader's word on an answer is said already, and when it comes too late."""

from __future__ import annotations

from monailabel_app.errors import ConflictError
from monailabel_app.store.pacs_queue import approved_label
from monailabel_app.store.records import Decision, InferenceRecord, PacsState, Target
from monailabel_app.store.rows import decision_of
from monailabel_app.store.tables import InferenceRow


def require_as_seen(row: InferenceRow, seen: InferenceRecord | None, decision: Decision) -> None:
    """Let no word replace one that its reader cannot have known; the same word does not matter.

    Args:
        row: the answer as it is now.
        seen: the answer as the reader's request found it; ``None`` where that does not matter.
        decision: the reader's word.

    Raises:
        ConflictError: another request decided in between.
    """
    there = decision_of(row)
    if seen is None or there is None or there == seen.decision:
        return
    if (there.outcome, there.reason, there.reader) != (
        decision.outcome,
        decision.reason,
        decision.reader,
    ):
        raise ConflictError(
            f"The answer was {there.outcome.value} by another request in the meantime; that "
            "stands, and nothing of this one was recorded. Look at the answer again, then decide."
        )


def is_decided_so(
    row: InferenceRow, decision: Decision, target: Target | None, to_archive: bool
) -> bool:
    """Whether this very decision stands already, and is queued if it is to be."""
    if target is not None and Target.of(row.target) != target:
        return False
    stands = (row.outcome, row.outcome_reason, row.decided_by) == (
        decision.outcome.value,
        decision.reason,
        decision.reader,
    )
    if not stands or not to_archive:
        return False
    last = row.pacs_documents[-1] if row.pacs_documents else None
    failed = last is not None and last.state == PacsState.FAILED.value
    return last is not None and not failed and last.label_id == approved_label(row)
