# SPDX-License-Identifier: Apache-2.0
"""The store of inferences and submitted labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from medreasoner_infer.result import InferenceResult
from monailabel_app.errors import UnknownRecordError
from monailabel_app.store.database import open_database
from monailabel_app.store.faults import recording
from monailabel_app.store.files import FileArchive, StoredFile
from monailabel_app.store.joining import choose_join
from monailabel_app.store.pacs_queue import PacsQueue, document_of, queue_label
from monailabel_app.store.records import (
    Decision,
    InferenceRecord,
    JoinedBy,
    LabelRecord,
    LabelSubmission,
    TrainingLabel,
)
from monailabel_app.store.rows import decision_of, inference_row, label_row
from monailabel_app.store.studies import Deleted, delete_study, inferences_of
from monailabel_app.store.tables import InferenceRow, LabelRow

DATABASE_NAME = "records.sqlite"
DEFAULT_KEEP_MASK_BYTES = 10 << 30
DEFAULT_LIST_LIMIT = 100


class RecordStore:
    """Every inference, every submitted label, and which belongs to which.

    Safe to use from several threads and processes on one machine.

    Args:
        folder: made if needed, readable by its owner only.
        keep_mask_bytes: cap on the kept inferred masks. Beyond it the oldest masks that no
            submitted label was joined to are removed; their records and hashes stay.
    """

    def __init__(self, folder: Path, keep_mask_bytes: int = DEFAULT_KEEP_MASK_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._keep_mask_bytes = keep_mask_bytes
        self._masks = FileArchive(folder / "masks")
        self._labels = FileArchive(folder / "labels")
        self._engine = open_database(folder / DATABASE_NAME)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self.pacs = PacsQueue(self._sessions, FileArchive(folder / "outbox"))

    def close(self) -> None:
        """Release the database's connections."""
        self._engine.dispose()

    def add_inference(
        self,
        result: InferenceResult,
        *,
        task: str,
        image_id: str | None,
        study_uid: str | None = None,
        write_mask: Callable[[Path], object] | None = None,
    ) -> InferenceRecord:
        """Record ``result``; ``write_mask`` writes its mask to the ``.nii.gz`` path it is given.

        The mask is on disk before the record is committed, so a record never names a missing mask.

        Raises:
            RecordStoreError: if it could not be recorded.
        """
        with recording():
            mask = None
            if write_mask is not None and self._keep_mask_bytes:
                mask = self._masks.put(f"{result.inference_id}.nii.gz", write_mask)
            with self._sessions.begin() as session:
                row = inference_row(result, task, image_id, mask)
                row.study_uid = study_uid
                session.add(row)
                session.flush()
                session.refresh(row, ["labels", "pacs_documents"])
                dropped = self._forget_old_masks(session)
                record = self._inference_record(row)
            for name in dropped:
                self._masks.drop(name)
        return record

    def get(self, inference_id: str) -> InferenceRecord:
        """The inference of that id.

        Raises:
            UnknownRecordError: if there is none.
        """
        with self._sessions() as session:
            row = session.get(InferenceRow, inference_id)
            if row is None:
                raise UnknownRecordError("No inference of this id is recorded here.")
            return self._inference_record(row)

    def label(self, label_id: int) -> LabelRecord:
        """The submitted label of that id.

        Raises:
            UnknownRecordError: if there is none.
        """
        with self._sessions() as session:
            row = session.get(LabelRow, label_id)
            if row is None:
                raise UnknownRecordError("No label of this id is recorded here.")
            return self._label_record(row)

    def list_for_image(
        self, image_id: str, limit: int = DEFAULT_LIST_LIMIT
    ) -> list[InferenceRecord]:
        """The inferences on an image, the latest first."""
        statement = (
            select(InferenceRow)
            .where(InferenceRow.image_id == image_id)
            .order_by(InferenceRow.created_at.desc(), InferenceRow.id)
            .limit(limit)
        )
        with self._sessions() as session:
            return [self._inference_record(row) for row in session.scalars(statement)]

    def list_for_study(self, study: str) -> list[InferenceRecord]:
        """The inferences of a study (its UID, or an image's id), the latest first."""
        with self._sessions() as session:
            return [self._inference_record(row) for row in inferences_of(session, study)]

    def delete_study(self, study: str) -> Deleted:
        """Delete all records, masks and labels of a study; what an archive has of it stays there.

        Raises:
            RecordStoreError: if it could not be deleted.
        """
        with recording():
            with self._sessions.begin() as session:
                deleted = delete_study(session, study)
            for name in deleted.mask_files:
                self._masks.drop(name)
            for name in deleted.label_files:
                self._labels.drop(name)
            for document_id in deleted.document_ids:
                self.pacs.drop_objects(document_id)
        return deleted

    def decide(self, inference_id: str, decision: Decision) -> InferenceRecord:
        """Record what the reader made of an answer; a later word replaces an earlier one.

        Raises:
            UnknownRecordError: if there is no such inference.
            RecordStoreError: if it could not be recorded.
        """
        with recording(), self._sessions.begin() as session:
            row = session.get(InferenceRow, inference_id)
            if row is None:
                raise UnknownRecordError("No inference of this id is recorded here.")
            row.outcome, row.outcome_reason = decision.outcome.value, decision.reason
            row.decided_at, row.decided_by = decision.decided_at, decision.reader
            return self._inference_record(row)

    def join_label(self, submission: LabelSubmission, *, to_archive: bool = False) -> LabelRecord:
        """Record a submitted label, keep a copy of it, and join it to its inference.

        With ``to_archive`` it is queued for the archive in the same transaction (:attr:`pacs`).

        Raises:
            RecordStoreError: if it could not be recorded.
        """
        with recording(), self._sessions.begin() as session:
            join = choose_join(session, submission)
            row = label_row(submission, join)
            session.add(row)
            session.flush()
            if submission.file is not None:
                stored = self._keep_label(row.id, submission.file)
                row.label_file, row.label_sha256 = stored.name, stored.sha256
            if to_archive:
                queue_label(session, row)
            return self._label_record(row)

    def labels_for_training(self, tag: str = "final") -> list[TrainingLabel]:
        """The latest label of each inference under ``tag``, oldest first; files must be there."""
        statement = (
            select(LabelRow)
            .where(LabelRow.tag == tag, LabelRow.inference_id.is_not(None))
            .where(LabelRow.label_file.is_not(None))
            .order_by(LabelRow.id)
        )
        with self._sessions() as session:
            latest = {row.inference_id: row for row in session.scalars(statement)}
            return [
                TrainingLabel(
                    self._inference_record(row.inference),
                    self._label_record(row),
                    self._labels.path(row.label_file),
                )
                for row in sorted(latest.values(), key=lambda row: row.id)
                if row.inference is not None and row.label_file is not None
            ]

    def _keep_label(self, label_id: int, file: Path) -> StoredFile:
        suffixes = "".join(s for s in file.suffixes[-2:] if s.strip(".").isalpha())
        return self._labels.put(f"{label_id}{suffixes}", lambda path: shutil.copyfile(file, path))

    def _forget_old_masks(self, session: Session) -> list[str]:
        kept_bytes = session.scalar(
            select(func.sum(InferenceRow.mask_bytes)).where(InferenceRow.mask_file.is_not(None))
        )
        excess = (kept_bytes or 0) - self._keep_mask_bytes
        unconfirmed_oldest_first = (
            select(InferenceRow)
            .where(InferenceRow.mask_file.is_not(None), ~InferenceRow.labels.any())
            .order_by(InferenceRow.created_at, InferenceRow.id)
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

    def _inference_record(self, row: InferenceRow) -> InferenceRecord:
        return InferenceRecord(
            id=row.id,
            created_at=row.created_at,
            task=row.task,
            image_id=row.image_id,
            present=row.present,
            result=row.result,
            mask_sha256=row.mask_sha256,
            mask_file=None if row.mask_file is None else self._masks.path(row.mask_file),
            labels=tuple(self._label_record(label) for label in row.labels),
            study_uid=row.study_uid,
            decision=decision_of(row),
            pacs=tuple(document_of(document) for document in row.pacs_documents),
        )

    def _label_record(self, row: LabelRow) -> LabelRecord:
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
