# SPDX-License-Identifier: Apache-2.0
"""From rows to records, of many also where some are damaged."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from medreasoner_infer.errors import MalformedInferenceError
from medreasoner_infer.result import Inference
from monailabel_app.store.database import Database
from monailabel_app.store.files import FileArchive
from monailabel_app.store.pacs_queue import document_of
from monailabel_app.store.records import InferenceRecord, JoinedBy, LabelRecord, Target
from monailabel_app.store.rows import decision_of
from monailabel_app.store.studies import in_study
from monailabel_app.store.tables import InferenceRow, LabelRow

logger = logging.getLogger(__name__)

_PAGE = 100
# What drivers and records raise where a column does not hold what it should.
_DAMAGED = (ValueError, TypeError, KeyError, AttributeError)


@dataclass(frozen=True)
class Wanted:
    """Which inferences are looked through; what is ``None`` lets all pass.

    Attributes:
        study: Study Instance UID, or an image's id.
        model: name of a reasoner or segmenter, or the beginning of its weights' SHA-256.
        since: first moment, with a time zone.
        until: first moment that is too late.
    """

    study: str | None = None
    model: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class DamagedRecord:
    """A record that cannot be read, and why, without anything of its content."""

    id: str
    reason: str


class RowReader:
    """Makes records of rows.

    Args:
        masks: where the inferred masks lie.
        doubts: where their maps of doubt lie, under the same names.
        labels: where the submitted labels lie.
    """

    def __init__(self, masks: FileArchive, doubts: FileArchive, labels: FileArchive) -> None:
        self._masks = masks
        self._doubts = doubts
        self._labels = labels

    def inference(self, row: InferenceRow) -> InferenceRecord:
        """The record of a row.

        Raises:
            MalformedInferenceError: it is damaged.
        """
        result = Inference.from_dict(row.result)
        return InferenceRecord(
            id=row.id,
            created_at=row.created_at,
            task=row.task,
            image_id=row.image_id,
            present=row.present,
            result=result,
            mask_sha256=row.mask_sha256,
            mask_file=None if row.mask_file is None else self._masks.path(row.mask_file),
            doubt_file=self._doubt_of(row.mask_file) if result.doubt else None,
            labels=tuple(self.label(label) for label in row.labels),
            study_uid=row.study_uid,
            decision=decision_of(row),
            pacs=tuple(document_of(document) for document in row.pacs_documents),
            asked_by=row.asked_by,
            target=Target.of(row.target),
        )

    def _doubt_of(self, mask_file: str | None) -> Path | None:
        """Records from before maps of doubt were kept have none."""
        path = None if mask_file is None else self._doubts.path(mask_file)
        return path if path is not None and path.is_file() else None

    def label(self, row: LabelRow) -> LabelRecord:
        """The record of a submitted label."""
        return LabelRecord(
            id=row.id,
            submitted_at=row.submitted_at,
            image_id=row.image_id,
            tag=row.tag,
            inference_id=row.inference_id,
            joined_by=JoinedBy(row.joined_by),
            explanation=row.join_explanation,
            info=row.info,
            sha256=row.label_sha256,
            file=None if row.label_file is None else self._labels.path(row.label_file),
        )

    def readable(self, rows: Iterable[InferenceRow]) -> Iterator[InferenceRecord]:
        """The records of rows; one that is damaged takes no other along."""
        for row in rows:
            try:
                yield self.inference(row)
            except MalformedInferenceError as error:
                logger.error("A record is left out of a list. %s", error)

    def each(
        self, database: Database, ids: Sequence[str]
    ) -> Iterator[InferenceRecord | DamagedRecord]:
        """The records of these ids in their order, a page of them in memory at a time.

        Those that were deleted meanwhile are left out.

        Raises:
            RecordStoreError: the database cannot be read.
        """
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            with database.reading() as session:
                found = self._page(session, page)
            yield from (found[id_] for id_ in page if id_ in found)

    def _page(
        self, session: Session, ids: Sequence[str]
    ) -> dict[str, InferenceRecord | DamagedRecord]:
        """One damaged value fails the whole statement, so then each row is read for itself."""
        try:
            rows = session.scalars(select(InferenceRow).where(InferenceRow.id.in_(ids)))
            return {row.id: self.inference(row) for row in rows}
        except _DAMAGED as error:
            session.rollback()
            session.expunge_all()
            if len(ids) == 1:
                reason = f"it cannot be read ({type(error).__name__})"
                return {ids[0]: DamagedRecord(ids[0], reason)}
        found: dict[str, InferenceRecord | DamagedRecord] = {}
        for id_ in ids:
            found |= self._page(session, [id_])
        return found


def wanted_ids(session: Session, wanted: Wanted) -> list[str]:
    """Ids of the inferences that are wanted, in the order of recording."""
    statement: Select[tuple[str]] = select(InferenceRow.id)
    if wanted.study is not None:
        statement = statement.where(in_study(wanted.study))
    if wanted.since is not None:
        statement = statement.where(InferenceRow.created_at >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(InferenceRow.created_at < wanted.until)
    if wanted.model is not None:
        names = (InferenceRow.reasoner_name, InferenceRow.segmenter_name)
        hashes = (InferenceRow.reasoner_sha256, InferenceRow.segmenter_sha256)
        digest = wanted.model.lower()
        statement = statement.where(
            or_(
                *(name == wanted.model for name in names),
                *(column.startswith(digest, autoescape=True) for column in hashes),
            )
        )
    return list(session.scalars(statement.order_by(InferenceRow.sequence, InferenceRow.id)))
