# SPDX-License-Identifier: Apache-2.0
"""The store of inferences and submitted labels."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import select

from medreasoner_infer.result import InferenceResult
from monailabel_app.common.private_files import private_folder
from monailabel_app.errors import UnknownRecordError
from monailabel_app.store.answer_figures import AnswerFigures, answer_figures
from monailabel_app.store.databases import open_database
from monailabel_app.store.deciding import is_decided_so, require_as_seen
from monailabel_app.store.faults import DECISION, DELETION, LABEL, recording
from monailabel_app.store.files import FileArchive, StoredFile, copy_bytes
from monailabel_app.store.joining import Join, choose_join, same_label
from monailabel_app.store.pacs_queue import (
    PacsQueue,
    queue_decision,
    queue_label,
)
from monailabel_app.store.reading import DamagedRecord, RowReader, Wanted, wanted_ids
from monailabel_app.store.records import (
    Decision,
    InferenceRecord,
    LabelRecord,
    LabelSubmission,
    Target,
    TrainingLabel,
)
from monailabel_app.store.retention import forget_old_masks
from monailabel_app.store.rows import inference_row, label_row, set_decision
from monailabel_app.store.studies import Deleted, delete_study, inferences_of
from monailabel_app.store.tables import InferenceRow, LabelRow

DEFAULT_KEEP_MASK_BYTES = 10 << 30
DEFAULT_LIST_LIMIT = 100


class RecordStore:
    """Every inference, every submitted label, and which belongs to which.

    Safe to use from several threads and processes on one machine; with a database server from
    several machines that share the folder.

    Args:
        folder: made if needed, readable by its owner only.
        keep_mask_bytes: cap on the kept inferred masks with their maps of doubt. Beyond it the
            oldest ones that no submitted label was joined to are removed; their records and hashes
            stay.
        address: of a database server, as :func:`.checked_database` takes it; by default the rows
            lie in an SQLite file in ``folder``.

    Raises:
        RecordStoreError: the database cannot be opened.
        SettingsError: the address cannot be used, or folder and database do not belong together.
        MissingExtraError: the database's driver is not installed.
    """

    def __init__(
        self,
        folder: Path,
        keep_mask_bytes: int = DEFAULT_KEEP_MASK_BYTES,
        address: str | None = None,
    ) -> None:
        private_folder(folder)
        self._keep_mask_bytes = keep_mask_bytes
        self._masks = FileArchive(folder / "masks")
        # A map of doubt has the name of its mask, and goes with it.
        self._doubts = FileArchive(folder / "doubts")
        self._labels = FileArchive(folder / "labels")
        self._rows = RowReader(self._masks, self._doubts, self._labels)
        self._database = open_database(folder, address)
        self.pacs = PacsQueue(self._database, FileArchive(folder / "outbox"))

    def close(self) -> None:
        """Release the database's connections."""
        self._database.close()

    def add_inference(
        self,
        result: InferenceResult,
        *,
        task: str,
        image_id: str | None,
        study_uid: str | None = None,
        asked_by: str | None = None,
        write_mask: Callable[[Path], object] | None = None,
        write_doubt: Callable[[Path], object] | None = None,
    ) -> InferenceRecord:
        """Record ``result``; ``write_mask`` writes its mask to the ``.nii.gz`` path it is given.

        ``write_doubt`` likewise, by voxel how many readings hold it; it is kept as long as the
        mask. Both are on disk before the record is committed, so a record never names a missing
        mask.

        Raises:
            RecordStoreError: if it could not be recorded.
        """
        with (
            recording(),
            self._mask_kept(result.inference_id, write_mask, write_doubt) as mask,
            self._database.writing() as session,
        ):
            self._database.stand_alone(session, "the order of inferences")
            row = inference_row(result, task, image_id, mask)
            row.study_uid, row.asked_by = study_uid, asked_by
            session.add(row)
            session.flush()
            session.refresh(row, ["labels", "pacs_documents"])
            dropped = forget_old_masks(session, self._keep_mask_bytes)
            record = self._rows.inference(row)
        for name in dropped:
            self._drop_mask(name)
        return record

    def get(self, inference_id: str) -> InferenceRecord:
        """The inference of that id.

        Raises:
            UnknownRecordError: if there is none.
        """
        with self._database.reading() as session:
            row = session.get(InferenceRow, inference_id)
            if row is None:
                raise UnknownRecordError("No inference of this id is recorded here.")
            return self._rows.inference(row)

    def find(self, inference_id: str) -> InferenceRecord | None:
        """The inference of that id, ``None`` if there is none."""
        try:
            return self.get(inference_id)
        except UnknownRecordError:
            return None

    def label(self, label_id: int) -> LabelRecord:
        """The submitted label of that id.

        Raises:
            UnknownRecordError: if there is none.
        """
        with self._database.reading() as session:
            row = session.get(LabelRow, label_id)
            if row is None:
                raise UnknownRecordError("No label of this id is recorded here.")
            return self._rows.label(row)

    def list_for_image(
        self, image_id: str, limit: int = DEFAULT_LIST_LIMIT, asked_by: str | None = None
    ) -> list[InferenceRecord]:
        """The inferences on an image, the latest first; all, or those that one reader asked for."""
        statement = select(InferenceRow).where(InferenceRow.image_id == image_id)
        if asked_by is not None:
            statement = statement.where(InferenceRow.asked_by == asked_by)
        statement = statement.order_by(InferenceRow.sequence.desc()).limit(limit)
        with self._database.reading() as session:
            return list(self._rows.readable(session.scalars(statement)))

    def list_for_study(self, study: str, asked_by: str | None = None) -> list[InferenceRecord]:
        """The inferences of a study (its UID, or an image's id), the latest first.

        Args:
            asked_by: only those that this reader asked for.
        """
        with self._database.reading() as session:
            return list(self._rows.readable(inferences_of(session, study, asked_by)))

    def ids_of(self, wanted: Wanted) -> list[str]:
        """Ids of the inferences that are wanted, in the order of recording.

        Raises:
            RecordStoreError: the database cannot be read.
        """
        with self._database.reading() as session:
            return wanted_ids(session, wanted)

    def each(self, ids: Sequence[str]) -> Iterator[InferenceRecord | DamagedRecord]:
        """The inferences of these ids; of many at any time no more than a page is in memory.

        Raises:
            RecordStoreError: the database cannot be read.
        """
        return self._rows.each(self._database, ids)

    def answer_figures(self) -> list[AnswerFigures]:
        """How sure the model was of the latest answer to each question about each image."""
        with self._database.reading() as session:
            return answer_figures(session)

    def delete_study(self, study: str) -> Deleted:
        """Delete all records, masks and labels of a study; what an archive has of it stays there.

        Raises:
            RecordStoreError: if it could not be deleted.
        """
        with recording(DELETION):
            with self._database.writing() as session:
                deleted = delete_study(session, study)
            for name in deleted.mask_files:
                self._drop_mask(name)
            for name in deleted.label_files:
                self._labels.drop(name)
            for document_id in deleted.document_ids:
                self.pacs.drop_objects(document_id)
        return deleted

    def decide(
        self,
        inference_id: str,
        decision: Decision,
        *,
        target: Target | None = None,
        to_archive: bool = False,
        seen: InferenceRecord | None = None,
    ) -> InferenceRecord:
        """Record what the reader made of an answer; a later word replaces an earlier one.

        With ``to_archive`` it is queued for the archive in the same transaction (:attr:`pacs`).
        The same word once more, from a client that did not get the reply, changes nothing.

        Args:
            inference_id: of the answer.
            decision: the reader's word.
            target: what the reader calls it, where that is told.
            to_archive: queue it.
            seen: the answer as this request found it; somebody else's word that has come since
                is not replaced.

        Raises:
            UnknownRecordError: if there is no such inference.
            ConflictError: somebody else decided since ``seen``.
            RecordStoreError: if it could not be recorded.
        """
        with recording(DECISION), self._database.writing() as session:
            row = session.get(InferenceRow, inference_id)
            if row is None:
                raise UnknownRecordError("No inference of this id is recorded here.")
            self._database.stand_alone(session, f"image {row.image_id or row.id}")
            session.expire(row)
            if not is_decided_so(row, decision, target, to_archive):
                require_as_seen(row, seen, decision)
                set_decision(row, decision, target)
                if to_archive and row.image_id is not None:
                    queue_decision(session, row, row.image_id)
                    session.flush()
                    session.refresh(row, ["pacs_documents"])
            return self._rows.inference(row)

    def find_join(
        self, submission: LabelSubmission, overlap: Callable[[Path], float | None] | None = None
    ) -> Join:
        """Which inference a label came from, as far as it can be told now.

        Args:
            submission: the label.
            overlap: the label's Dice coefficient with a mask in a file, ``None`` if that cannot be
                compared.
        """

        def of_row(row: InferenceRow) -> float | None:
            if overlap is None or row.mask_file is None:
                return None
            return overlap(self._masks.path(row.mask_file))

        with self._database.reading() as session:
            return choose_join(session, submission, of_row)

    def join_label(
        self,
        submission: LabelSubmission,
        *,
        to_archive: bool = False,
        join: Join | None = None,
        decision: Decision | None = None,
        target: Target | None = None,
        seen: InferenceRecord | None = None,
    ) -> LabelRecord:
        """Record a submitted label, keep a copy of it, and join it to its inference.

        All of it is recorded in one transaction, or nothing. A label that is submitted once more
        as it was, by a client that did not get the reply, is the same label.

        Args:
            submission: what was submitted.
            to_archive: queue it for the archive as well (:attr:`pacs`).
            join: as :meth:`find_join` found it; found anew if not given.
            decision: what the label says of the answer it is joined to.
            target: what the reader calls that, where it is told.
            seen: the answer as this request found it, as of :meth:`decide`.

        Raises:
            ConflictError: somebody else decided since ``seen``.
            RecordStoreError: if it could not be recorded.
        """
        name = None if submission.file is None else self._label_name(submission.file)
        with recording(LABEL):
            stored = None
            if name is not None:
                stored = self._labels.put(name, lambda path: copy_bytes(submission.file, path))
            try:
                with self._database.writing() as session:
                    self._database.stand_alone(session, f"image {submission.image_id}")
                    row = same_label(session, submission, stored.sha256 if stored else None)
                    if row is None:
                        row = label_row(submission, join or choose_join(session, submission))
                        if stored:
                            row.label_file, row.label_sha256 = stored.name, stored.sha256
                        session.add(row)
                        session.flush()
                        if to_archive:
                            queue_label(session, row)
                        if decision is not None and row.inference is not None:
                            require_as_seen(row.inference, seen, decision)
                            set_decision(row.inference, decision, target)
                    label = self._rows.label(row)
            except BaseException:
                if name is not None:
                    self._labels.drop(name)
                raise
            if name is not None and row.label_file != name:
                self._labels.drop(name)
            return label

    def is_last_label(self, submission: LabelSubmission, sha256: str) -> bool:
        """Whether the last label recorded of its answer, or image, and tag is this one.

        Args:
            submission: what was submitted; its file is not looked at.
            sha256: of the label's file.
        """
        with self._database.reading() as session:
            return same_label(session, submission, sha256) is not None

    def labels_for_training(self, tag: str = "final") -> list[TrainingLabel]:
        """The latest label of each inference under ``tag``, oldest first; files must be there."""
        statement = (
            select(LabelRow)
            .where(LabelRow.tag == tag, LabelRow.inference_id.is_not(None))
            .where(LabelRow.label_file.is_not(None))
            .order_by(LabelRow.id)
        )
        with self._database.reading() as session:
            latest = {row.inference_id: row for row in session.scalars(statement)}
            return [
                TrainingLabel(
                    self._rows.inference(row.inference),
                    self._rows.label(row),
                    self._labels.path(row.label_file),
                )
                for row in sorted(latest.values(), key=lambda row: row.id)
                if row.inference is not None and row.label_file is not None
            ]

    @contextmanager
    def _mask_kept(
        self,
        inference_id: str,
        write_mask: Callable[[Path], object] | None,
        write_doubt: Callable[[Path], object] | None,
    ) -> Iterator[StoredFile | None]:
        """The mask on disk, its size with that of the map of doubt; what no record comes to name
        goes again."""
        if write_mask is None or not self._keep_mask_bytes:
            yield None
            return
        name = f"{inference_id}.nii.gz"
        is_new = not self._masks.path(name).exists()
        try:
            mask = self._masks.put(name, write_mask)
            if write_doubt is not None:
                doubt = self._doubts.put(name, write_doubt)
                mask = replace(mask, size_bytes=mask.size_bytes + doubt.size_bytes)
            yield mask
        except BaseException:
            if is_new:
                self._drop_mask(name)
            raise

    def _drop_mask(self, name: str) -> None:
        self._masks.drop(name)
        self._doubts.drop(name)

    def _label_name(self, file: Path) -> str:
        suffixes = "".join(s for s in file.suffixes[-2:] if s.strip(".").isalpha())
        return f"{uuid.uuid4().hex}{suffixes}"
