# SPDX-License-Identifier: Apache-2.0
"""Rows of new records, and small parts of rows."""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import func, select

from medreasoner_infer.result import InferenceResult
from monailabel_app.store.files import StoredFile
from monailabel_app.store.joining import Join
from monailabel_app.store.records import Decision, LabelSubmission, Outcome, Target
from monailabel_app.store.tables import InferenceRow, LabelRow


def inference_row(
    result: InferenceResult, task: str, image_id: str | None, mask: StoredFile | None
) -> InferenceRow:
    """The row of a new inference; its place in the order is found as it is inserted."""
    last = select(func.coalesce(func.max(InferenceRow.sequence), 0)).scalar_subquery()
    return InferenceRow(
        sequence=last + 1,
        id=result.inference_id,
        created_at=datetime.fromisoformat(result.created_at),
        task=task,
        image_id=image_id,
        kind=result.kind,
        query=result.query,
        present=result.present,
        reasoner_name=None if result.reasoner is None else result.reasoner.name,
        reasoner_sha256=None if result.reasoner is None else result.reasoner.weights_sha256,
        segmenter_name=result.segmenter.name,
        segmenter_sha256=result.segmenter.weights_sha256,
        result=result.to_dict(),
        mask_sha256=None if mask is None else mask.sha256,
        mask_bytes=None if mask is None else mask.size_bytes,
        mask_file=None if mask is None else mask.name,
    )


def decision_of(row: InferenceRow) -> Decision | None:
    """What the reader made of it, if it is known."""
    if row.outcome is None or row.decided_at is None:
        return None
    return Decision(Outcome(row.outcome), row.outcome_reason, row.decided_at, row.decided_by)


def set_decision(row: InferenceRow, decision: Decision, target: Target | None = None) -> None:
    """Let ``decision`` be what the reader made of it, and ``target`` what they call it."""
    if target is not None:
        row.target = target.to_dict()
    row.outcome, row.outcome_reason = decision.outcome.value, decision.reason
    row.decided_at, row.decided_by = decision.decided_at, decision.reader


def label_row(submission: LabelSubmission, join: Join) -> LabelRow:
    """The row of a newly submitted label."""
    return LabelRow(
        submitted_at=datetime.now(timezone.utc),
        image_id=submission.image_id,
        tag=submission.tag,
        inference_id=join.inference_id,
        joined_by=join.joined_by.value,
        join_explanation=join.explanation,
        info=dict(submission.info),
    )
