# SPDX-License-Identifier: Apache-2.0
"""All that the store holds of one study: listing, and deletion.

A study is named by its Study Instance UID, or, for images that are no DICOM, by the image's id.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from monailabel_app.store.tables import InferenceRow, LabelRow, PacsDocumentRow


@dataclass(frozen=True)
class Deleted:
    """How much was deleted, and the names of files that no row names any more."""

    inferences: int
    labels: int
    mask_files: tuple[str, ...]
    label_files: tuple[str, ...]
    document_ids: tuple[int, ...]


def inferences_of(session: Session, study: str, asked_by: str | None = None) -> list[InferenceRow]:
    """The inferences of a study, the latest first; all, or those that one reader asked for."""
    statement = select(InferenceRow).where(in_study(study))
    if asked_by is not None:
        statement = statement.where(InferenceRow.asked_by == asked_by)
    return list(session.scalars(statement.order_by(InferenceRow.sequence.desc())))


def delete_study(session: Session, study: str) -> Deleted:
    """Delete the rows of a study: its inferences, and every label on the images they are about."""
    inferences = inferences_of(session, study)
    images = {row.image_id for row in inferences if row.image_id} | {study}
    ids = [row.id for row in inferences]
    labels = list(
        session.scalars(
            select(LabelRow).where(
                or_(LabelRow.image_id.in_(images), LabelRow.inference_id.in_(ids))
            )
        )
    )
    documents = list(
        session.scalars(
            select(PacsDocumentRow).where(
                or_(
                    PacsDocumentRow.image_id.in_(images),
                    PacsDocumentRow.inference_id.in_(ids),
                    PacsDocumentRow.study_uid == study,
                )
            )
        )
    )
    deleted = Deleted(
        inferences=len(inferences),
        labels=len(labels),
        mask_files=tuple(row.mask_file for row in inferences if row.mask_file is not None),
        label_files=tuple(row.label_file for row in labels if row.label_file is not None),
        document_ids=tuple(row.id for row in documents),
    )
    # Rows that refer to others go first, as foreign keys are enforced.
    for rows in (documents, labels, inferences):
        for row in rows:
            session.delete(row)
        session.flush()
    return deleted


def in_study(study: str) -> ColumnElement[bool]:
    """Whether an inference is about a study."""
    return or_(InferenceRow.study_uid == study, InferenceRow.image_id == study)
