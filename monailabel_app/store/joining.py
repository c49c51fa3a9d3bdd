# SPDX-License-Identifier: Apache-2.0
"""Which inference a submitted label came from."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monailabel_app.store.records import JoinedBy, LabelSubmission
from monailabel_app.store.tables import InferenceRow


@dataclass(frozen=True)
class Join:
    """The inference found, how it was found, and a sentence about it."""

    inference_id: str | None
    joined_by: JoinedBy
    explanation: str


def choose_join(session: Session, submission: LabelSubmission) -> Join:
    """Find the inference by the id in the label's info, else by image and order of recording.

    A named inference that is not recorded is never replaced by a guess. No clock is asked: one
    that was set back would join a label to an earlier question.
    """
    named = submission.inference_id
    if named is not None:
        return _by_id(session, named, submission.image_id)
    return _by_time(session, submission)


def _by_id(session: Session, inference_id: str, image_id: str) -> Join:
    row = session.get(InferenceRow, inference_id)
    if row is None:
        text = "The label names an inference that is not recorded here; it was joined to none."
        return Join(None, JoinedBy.NOTHING, text)
    if row.image_id is not None and row.image_id != image_id:
        text = "The label names an inference on another image; it was joined to none."
        return Join(None, JoinedBy.NOTHING, text)
    return Join(inference_id, JoinedBy.ID, "The label names the inference.")


def _by_time(session: Session, submission: LabelSubmission) -> Join:
    candidates = select(InferenceRow).where(
        InferenceRow.image_id == submission.image_id, InferenceRow.present.is_(True)
    )
    if submission.asked_by is not None:
        own = InferenceRow.asked_by == submission.asked_by
        candidates = candidates.where(own | InferenceRow.asked_by.is_(None))
    latest = session.scalars(candidates.order_by(InferenceRow.sequence.desc()).limit(1)).first()
    if latest is None:
        text = "No inference on this image found anything; the label was joined to none."
        return Join(None, JoinedBy.NOTHING, text)
    count = session.scalar(select(func.count()).select_from(candidates.subquery())) or 0
    if count == 1:
        text = "Inferred by time: the only inference on this image that found something."
        return Join(latest.id, JoinedBy.TIME_ONLY, text)
    text = f"Inferred by time: the latest of {count} inferences on this image that found something."
    return Join(latest.id, JoinedBy.TIME_LATEST, text)
