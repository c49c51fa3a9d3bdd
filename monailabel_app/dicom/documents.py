# SPDX-License-Identifier: Apache-2.0
"""From a queued record to the DICOM objects that the archive is to have of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.laterality import stated_name
from monailabel_app.dicom.codes import code_table
from monailabel_app.dicom.encoding import new_ids, series_description, to_bytes
from monailabel_app.dicom.errors import DicomResultError
from monailabel_app.dicom.label_segments import Answered, segments_of, target_name
from monailabel_app.dicom.report import ReferencedSegment, ReportContent, write_report
from monailabel_app.dicom.segmentation import (
    SOURCE_UNKNOWN,
    SegmentSpec,
    write_segmentation,
)
from monailabel_app.dicom.sides import with_checked_sides
from monailabel_app.dicom.source import SourceSeries, open_source
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.labels.grid import label_on_grid
from monailabel_app.store import (
    InferenceRecord,
    JoinedBy,
    LabelRecord,
    LabelSubmission,
    MadeObject,
    PacsDocument,
    RecordStore,
)
from monailabel_app.store.pacs_queue import FINAL

NOT_REVIEWED = "not reviewed"
_SOP_CLASSES = {"seg": SegmentationStorage, "report": ComprehensiveSRStorage}


@dataclass(frozen=True)
class MadeDocuments:
    """Encoded objects by the names ``seg`` and ``report``, and what was mended in the images."""

    study_uid: str
    objects: dict[str, MadeObject]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Label:
    """A label on the images' grid, (I, J, K), its segments, and whether no reader submitted it.

    ``warnings`` are sentences about sides that its masks contradict.
    """

    values_ijk: np.ndarray
    segments: list[SegmentSpec]
    is_draft: bool
    warnings: tuple[str, ...]


class DocumentMaker:
    """Makes the DICOM objects of records.

    Args:
        records: the store that the records are in.
        find_image: where an image's voxels lie.
        volumes: keeps volumes between questions.
    """

    def __init__(
        self,
        records: RecordStore,
        find_image: Callable[[str], ImageSource],
        volumes: VolumeCache,
    ) -> None:
        self._records = records
        self._find_image = find_image
        self._volumes = volumes

    def make(self, document: PacsDocument) -> MadeDocuments:
        """Make the mask and the report; a label of unknown origin has no report.

        Raises:
            DicomResultError: the image is no DICOM series, its headers do not allow it, or there
                is neither a mask nor an answer to keep.
            InputError: image or label cannot be read.
            PacsUnreachableError: the image cannot be fetched now.
        """
        source = self._source(document.image_id)
        record = self._answered(document)
        label = self._label(document, record, source.volume)
        segmentation = self._segmentation(label, record, source, document)
        made = {} if segmentation is None else {"seg": _made(segmentation)}
        if record is not None:
            made["report"] = _made(self._report(document, record, label, segmentation, source))
        if not made:
            raise DicomResultError("An empty mask that answers no question cannot be kept.")
        return MadeDocuments(source.study_uid, made, source.warnings)

    def _source(self, image_id: str) -> SourceSeries:
        image = self._find_image(image_id)
        if image.dicom_folder is None:
            raise DicomResultError("The image is no DICOM series, so no DICOM can refer to it.")
        return open_source(image.dicom_folder, self._volumes.get(image), image.series_uid)

    def _answered(self, document: PacsDocument) -> InferenceRecord | None:
        """The inference, unless it is uncertain that the label belongs to it."""
        if document.inference_id is None:
            return None
        if document.label_id is not None:
            label = self._records.label(document.label_id)
            if label.joined_by is JoinedBy.TIME_LATEST:
                return None
        return self._records.get(document.inference_id)

    def _label(
        self, document: PacsDocument, record: InferenceRecord | None, volume: Volume
    ) -> _Label | None:
        if document.label_id is None:
            return None
        label = self._records.label(document.label_id)
        values_ijk = submitted_values(label, volume)
        if values_ijk is None:
            return None
        values = [int(value) for value in np.unique(values_ijk) if value]
        answered = None if record is None else Answered(record.id, record.result.asks_for)
        is_draft = label.tag != FINAL
        described = segments_of(label.info.get("label_info"), values, answered)
        segments = [replace(segment, is_draft=is_draft) for segment in described]
        checked = with_checked_sides(segments, values_ijk, volume)
        return _Label(values_ijk, checked.segments, is_draft, checked.warnings)

    def _segmentation(
        self,
        label: _Label | None,
        record: InferenceRecord | None,
        source: SourceSeries,
        document: PacsDocument,
    ) -> Dataset | None:
        if label is None or not label.segments:
            return None
        return write_segmentation(
            label.values_ijk,
            label.segments,
            source,
            new_ids(document.version),
            state=SOURCE_UNKNOWN if record is None else _state(record, label),
            previous=self._previous(document, "seg"),
        )

    def _report(
        self,
        document: PacsDocument,
        record: InferenceRecord,
        label: _Label | None,
        segmentation: Dataset | None,
        source: SourceSeries,
    ) -> Dataset:
        answer = mask = None
        called = None if record.target is None else record.target.name
        name = target_name(called, record.result.asks_for)
        name = stated_name(name, record.result.laterality)
        codes = code_table().unspecified
        for number, segment in enumerate(() if label is None else label.segments, start=1):
            if segment.tracking is not None and label is not None and segmentation is not None:
                answer = ReferencedSegment(segmentation, number)
                mask = (label.values_ijk == segment.value).astype(np.uint8)
                codes = segment.codes
                name = segment.label
        ids, previous = new_ids(document.version), self._previous(document, "report")
        description = series_description([name], _state(record, label), ids.version)
        record = record if label is None else _warned(record, label.warnings)
        content = ReportContent(record, mask, answer, codes, description)
        return write_report(content, source, ids, () if previous is None else (previous,))

    def _previous(self, document: PacsDocument, kind: str) -> Dataset | None:
        """The version of an object (``seg`` or ``report``) that the archive has, for references."""
        replaced = self._records.pacs.sent_before(document)
        if replaced is None or getattr(replaced, f"{kind}_instance_uid") is None:
            return None
        reference = Dataset()
        reference.SOPClassUID = _SOP_CLASSES[kind]
        reference.SOPInstanceUID = getattr(replaced, f"{kind}_instance_uid")
        reference.SeriesInstanceUID = getattr(replaced, f"{kind}_series_uid")
        reference.StudyInstanceUID = replaced.study_uid
        return reference


def submitted_values(label: LabelRecord | LabelSubmission, volume: Volume) -> np.ndarray | None:
    """The values (I, J, K) of a submitted label on the image's grid; ``None`` without a file.

    Raises:
        DicomResultError: it is not on the image's grid.
        UnreadableImageError: its file cannot be read.
    """
    if label.file is None:
        return None
    values_ijk = label_on_grid(load_volume(label.file), volume)
    if values_ijk is None:
        raise DicomResultError(
            f"The label has another size than the image of {volume.shape_ijk} voxels; submit one "
            "that was made on this image."
        )
    return values_ijk


def _warned(record: InferenceRecord, warnings: tuple[str, ...]) -> InferenceRecord:
    """The record as its report tells it, with what is to be said of the reader's mask."""
    told = (*record.result.warnings, *warnings)
    result = replace(record.result, warnings=tuple(dict.fromkeys(told)))
    return replace(record, result=result)


def _made(dataset: Dataset) -> MadeObject:
    uids = str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)
    return MadeObject(*uids, to_bytes(dataset))


def _state(record: InferenceRecord, label: _Label | None) -> str | None:
    if record.decision is not None:
        return record.decision.outcome.value
    return NOT_REVIEWED if label is not None and label.is_draft else None
