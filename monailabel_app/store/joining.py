# SPDX-License-Identifier: Apache-2.0
"""Which inference a submitted label came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from medreasoner_infer.result import MEASURE
from monailabel_app.store.records import JoinedBy, LabelSubmission
from monailabel_app.store.tables import InferenceRow, LabelRow


@dataclass(frozen=True)
class Join:
    """The inference found, how it was found, and a sentence about it."""

    inference_id: str | None
    joined_by: JoinedBy
    explanation: str


Overlap = Callable[[InferenceRow], float | None]
"""The Dice coefficient of a label with an inferred mask; ``None`` where that is not kept."""

# Half of label and mask in common: more than what a neighbour shares.
_COVERS = 0.5
# Masks are read from files, so only those of the latest inferences are compared.
_MOST_COMPARED = 8


def choose_join(
    session: Session, submission: LabelSubmission, overlap: Overlap = lambda _: None
) -> Join:
    """Find the inference by the id in the label's info, else by image, overlap and order.

    A named inference that is not recorded is never replaced by a guess. No clock is asked: one
    that was set back would join a label to an earlier question.
    """
    named = submission.inference_id
    if named is not None:
        return _by_id(session, named, submission.image_id)
    candidates = _candidates(session, submission)
    if not candidates:
        text = "No inference on this image found anything; the label was joined to none."
        return Join(None, JoinedBy.NOTHING, text)
    compared = candidates[:_MOST_COMPARED]
    shares = [overlap(row) for row in compared] + [None] * (len(candidates) - len(compared))
    return _by_overlap(candidates, shares) or _by_time(candidates)


def _by_id(session: Session, inference_id: str, image_id: str) -> Join:
    row = session.get(InferenceRow, inference_id)
    if row is None:
        text = "The label names an inference that is not recorded here; it was joined to none."
        return Join(None, JoinedBy.NOTHING, text)
    if row.image_id is not None and row.image_id != image_id:
        text = "The label names an inference on another image; it was joined to none."
        return Join(None, JoinedBy.NOTHING, text)
    return Join(inference_id, JoinedBy.ID, "The label names the inference.")


def _candidates(session: Session, submission: LabelSubmission) -> Sequence[InferenceRow]:
    """Inferences on the image that found something and that the reader may mean, latest first."""
    statement = select(InferenceRow).where(
        InferenceRow.image_id == submission.image_id,
        InferenceRow.present.is_(True),
        # It repeats the mask of another one, which the label belongs to.
        InferenceRow.kind != MEASURE,
    )
    if submission.asked_by is not None:
        own = InferenceRow.asked_by == submission.asked_by
        statement = statement.where(own | InferenceRow.asked_by.is_(None))
    return session.scalars(statement.order_by(InferenceRow.sequence.desc())).all()


def _by_overlap(candidates: Sequence[InferenceRow], shares: Sequence[float | None]) -> Join | None:
    """``None`` where overlap does not tell; of equal masks the latest counts."""
    pairs = zip(shares, candidates, strict=True)
    touched = [(share, row) for share, row in pairs if share]
    is_all = None not in shares
    if touched:
        best, row = max(touched, key=lambda pair: pair[0])
        if best < _COVERS and not (is_all and len(touched) == 1):
            return None
        text = f"Inferred by overlap: Dice {best:.2f} with its mask, of {len(candidates)} here."
        return Join(row.id, JoinedBy.OVERLAP, text)
    if not is_all:
        return None
    text = "No mask inferred on this image lies where the label does; it was joined to none."
    return Join(None, JoinedBy.NOTHING, text)


def _by_time(candidates: Sequence[InferenceRow]) -> Join:
    latest, count = candidates[0], len(candidates)
    if count == 1:
        text = "Inferred by time: the only inference on this image that found something."
        return Join(latest.id, JoinedBy.TIME_ONLY, text)
    text = f"Inferred by time: the latest of {count} inferences on this image that found something."
    return Join(latest.id, JoinedBy.TIME_LATEST, text)


def same_label(
    session: Session, submission: LabelSubmission, sha256: str | None
) -> LabelRow | None:
    """The last label of this tag, if it is this very submission.

    The last one of the answer that the submission names: meanwhile another reader may have
    submitted a label for another answer on the image. Else the last one of the image.

    Args:
        session: that reads.
        submission: what was submitted; its file is not looked at.
        sha256: of the label's file, ``None`` where there is none.
    """
    statement = (
        select(LabelRow)
        .where(LabelRow.image_id == submission.image_id, LabelRow.tag == submission.tag)
        .order_by(LabelRow.id.desc())
    )
    of_answer = statement.where(LabelRow.inference_id == submission.inference_id)
    last = session.scalars(of_answer.limit(1)).first() if submission.inference_id else None
    # What names an answer that is not recorded here was joined to none.
    last = last or session.scalars(statement.limit(1)).first()
    if last is None or sha256 is None or last.label_sha256 != sha256:
        return None
    return last if last.info == dict(submission.info) else None
