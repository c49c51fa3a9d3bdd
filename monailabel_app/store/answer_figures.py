# SPDX-License-Identifier: Apache-2.0
"""How sure the model was of each recorded answer, without reading whole records."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from monailabel_app.store.tables import InferenceRow, LabelRow

_FINAL = "final"


@dataclass(frozen=True)
class AnswerFigures:
    """An answer's figures.

    Attributes:
        image_id: of the image it is about.
        query: the question.
        understood: whether the model understood it.
        probability: calibrated, 0...1, that the answer is right; ``None`` without a calibration.
        agreement: of sampled answers, 0...1; ``None`` where one was drawn.
        support: for the answer, 0...1; ``None`` where one was drawn, and in older records.
        settled: whether a reader has decided upon it or submitted a final label for it.
    """

    image_id: str
    query: str
    understood: bool
    probability: float | None
    agreement: float | None
    support: float | None
    settled: bool


def answer_figures(session: Session) -> list[AnswerFigures]:
    """The latest answer to each question about each image, oldest first."""
    told = InferenceRow.result
    statement = (
        select(
            InferenceRow.id,
            InferenceRow.image_id,
            InferenceRow.query,
            InferenceRow.outcome,
            told["outcome"].as_string(),
            told["calibrated"].as_boolean(),
            told["confidence"].as_float(),
            told["agreement"].as_float(),
            told[("doubt", "support")].as_float(),
        )
        .where(InferenceRow.image_id.is_not(None), InferenceRow.query.is_not(None))
        .order_by(InferenceRow.sequence)
    )
    labelled = set(
        session.scalars(
            select(LabelRow.inference_id).where(
                LabelRow.tag == _FINAL, LabelRow.inference_id.is_not(None)
            )
        )
    )
    found: dict[tuple[str, str], AnswerFigures] = {}
    for (
        name,
        image_id,
        query,
        decided,
        outcome,
        calibrated,
        confidence,
        agreement,
        support,
    ) in session.execute(statement):
        found[image_id, query] = AnswerFigures(
            image_id=image_id,
            query=query,
            understood=outcome != "not_understood",
            probability=confidence if calibrated else None,
            agreement=agreement,
            support=support,
            settled=decided is not None or name in labelled,
        )
    return list(found.values())
