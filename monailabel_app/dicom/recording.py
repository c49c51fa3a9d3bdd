# SPDX-License-Identifier: Apache-2.0
"""What happens to a submitted label and to a reader's decision: recorded, then sent."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medreasoner_infer.errors import InputError, ServiceError
from medreasoner_infer.imaging import Volume
from monailabel_app.dicom.archive import ResultArchive
from monailabel_app.dicom.decisions import (
    decision_by_label,
    label_overlap,
    require_acceptable,
)
from monailabel_app.dicom.documents import DocumentMaker, submitted_values
from monailabel_app.dicom.history import StudyHistory, read_record
from monailabel_app.dicom.label_segments import stated_target
from monailabel_app.dicom.source import SourceSeries, open_source
from monailabel_app.dicom.submitting import OutboxWorker, Submitter
from monailabel_app.errors import RecordStoreError, UnknownImageError
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.store import (
    Decision,
    InferenceRecord,
    JoinedBy,
    LabelRecord,
    LabelSubmission,
    PacsDocument,
    RecordStore,
    Target,
)
from monailabel_app.store.pacs_queue import FINAL

logger = logging.getLogger(__name__)


class ResultRecorder:
    """Records come first; the archive gets them when it can.

    Args:
        on_sent: told of every document that has reached the archive, drafts left out.
    """

    def __init__(
        self,
        records: RecordStore,
        find_image: Callable[[str], ImageSource],
        volumes: VolumeCache,
        archive: ResultArchive,
        on_sent: Callable[[PacsDocument], None] = lambda _: None,
    ) -> None:
        self._records = records
        self._find_image = find_image
        self._volumes = volumes
        self._archive = archive
        maker = DocumentMaker(records, find_image, volumes)

        def on_label_sent(document: PacsDocument) -> None:
            # A draft is no label of the studies, whose final label stays what it was.
            label = None if document.label_id is None else records.label(document.label_id)
            if label is None or label.tag == FINAL:
                on_sent(document)

        self._submitter = Submitter(records, maker, archive, on_label_sent)
        self._worker = OutboxWorker(self._submitter)

    def start(self) -> None:
        """Begin to send what waits, and go on until :meth:`stop`."""
        self._worker.start()

    def stop(self) -> None:
        """Send no more."""
        self._worker.stop()

    def label(self, submission: LabelSubmission) -> tuple[LabelRecord, PacsDocument | None]:
        """Record a label; a final one of a DICOM series is sent, or waits for the archive.

        Raises:
            RecordStoreError: if it could not be recorded.
        """
        label = self.record_label(submission)
        return label, self.send_label(label)

    def record_label(self, submission: LabelSubmission) -> LabelRecord:
        """Record a label, what it says of its answer, and that it is to be sent: all or nothing.

        Raises:
            ConflictError: another request decided on the answer meanwhile.
            RecordStoreError: if it could not be recorded.
        """
        to_archive = submission.tag == FINAL and self._is_dicom(submission.image_id)
        join = self._records.find_join(submission, self._overlap(submission))
        answer = None
        if join.inference_id is not None and join.joined_by is not JoinedBy.TIME_LATEST:
            answer = self._records.get(join.inference_id)
        return self._records.join_label(
            submission,
            to_archive=to_archive,
            join=join,
            decision=None if answer is None else self._decision(submission, answer),
            target=stated_target(submission, join.inference_id),
            seen=answer,
        )

    def draft(self, submission: LabelSubmission, *, to_archive: bool) -> LabelRecord:
        """Record the mask of an answer that nobody has looked at; nothing is said of the answer.

        Args:
            submission: the mask, whose info names the answer.
            to_archive: queue mask and report, which say that they are not reviewed.

        Raises:
            InputError: the tag is that of labels which readers have approved.
            RecordStoreError: it could not be recorded.
        """
        if submission.tag == FINAL:
            raise InputError(f"A draft cannot have the tag {FINAL!r}; give another one.")
        join = self._records.find_join(submission)
        return self._records.join_label(submission, to_archive=to_archive, join=join)

    def send_due(self) -> int:
        """Try once to send what waits for the archive; returns how many documents were sent.

        Raises:
            RecordStoreError: the queue cannot be read.
        """
        return self._submitter.send_due()

    def send_label(self, label: LabelRecord) -> PacsDocument | None:
        """Bring a recorded label to the archive, now if it answers, else later.

        Returns:
            How far it is, ``None`` where it goes to no archive.
        """
        try:
            queued = self._records.pacs.of_label(label.id)
        except RecordStoreError as error:
            raise RecordStoreError(
                "The label is kept and recorded; how far it is on its way to the archive cannot "
                f"be told now. Submitting it again is harmless. {error}"
            ) from error
        if queued is None:
            return None
        try:
            return self._submitter.send(queued.id)
        except RecordStoreError as error:
            # The label is recorded, and stays in the queue until it is known to be sent.
            logger.error("A recorded label waits for the archive: %s", error)
            return queued

    def decision(
        self, inference_id: str, decision: Decision, target: Target | None = None
    ) -> InferenceRecord:
        """Record what the reader made of an answer, and send a report that says so.

        Args:
            target: what the reader calls it, where that is told.

        Raises:
            UnknownRecordError: if there is no such inference.
            InputError: if an answer is accepted that says nothing.
            ConflictError: another request decided on the answer meanwhile.
            RecordStoreError: if it could not be recorded.
        """
        answer = self._records.get(inference_id)
        require_acceptable(answer, decision)
        image_id = answer.image_id
        to_archive = image_id is not None and self._is_dicom(image_id)
        record = self._records.decide(
            inference_id, decision, target=target, to_archive=to_archive, seen=answer
        )
        if not record.pacs:
            return record
        try:
            self._submitter.send(record.pacs[-1].id)
        except RecordStoreError as error:
            # The decision is recorded, and stays in the queue until it is known to be sent.
            logger.error("A recorded decision waits for the archive: %s", error)
        return self._records.get(inference_id)

    def volume(self, image_id: str) -> Volume:
        """The voxels of an image, from memory if they are kept there.

        Raises:
            InputError: there is no such image, or it cannot be read.
            PacsUnreachableError: it is not here yet and the archive does not answer.
        """
        return self._volumes.get(self._find_image(image_id))

    def history(self, study_uid: str, inference_id: str | None = None) -> StudyHistory:
        """What the archive has of a study; its images are read where they are kept already.

        Args:
            inference_id: of the one record that is wanted; all if not given.

        Raises:
            PacsUnreachableError: the archive does not answer.
        """

        def open_series(series_uid: str) -> SourceSeries:
            image = self._find_image(series_uid)
            folder = image.dicom_folder or image.path
            return open_source(folder, self._volumes.get(image), series_uid)

        return read_record(self._archive, study_uid, open_series, inference_id)

    def _is_dicom(self, image_id: str) -> bool:
        try:
            return self._find_image(image_id).dicom_folder is not None
        except UnknownImageError:
            return False

    def _overlap(self, submission: LabelSubmission) -> Callable[[Path], float | None]:
        """Compares a label, which is read once if it is needed, with inferred masks."""

        @functools.cache
        def values_ijk() -> np.ndarray | None:
            volume = self._volumes.get(self._find_image(submission.image_id))
            return submitted_values(submission, volume)

        def overlap(mask_file: Path) -> float | None:
            try:
                label = values_ijk()
                return None if label is None else label_overlap(label, mask_file)
            except (InputError, ServiceError) as error:
                # The label is kept as it is; only by its overlap it cannot be joined.
                logger.warning("A label could not be compared with a mask: %s", error)
                return None

        return overlap

    def _decision(self, submission: LabelSubmission, answer: InferenceRecord) -> Decision | None:
        """What the label says of the answer that it is certainly of."""
        try:
            volume = self._volumes.get(self._find_image(submission.image_id))
            return decision_by_label(submission, answer, volume)
        except (InputError, ServiceError) as error:
            # The label is kept as it is; only what it says of the answer stays open.
            logger.warning("A label could not be compared with the answer: %s", error)
            return None
