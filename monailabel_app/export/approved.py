# SPDX-License-Identifier: Apache-2.0
"""Which labels readers have approved, and which question each of them answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from medreasoner_training.samples import LeftOut
from monailabel_app.errors import PacsUnreachableError
from monailabel_app.framework import DefaultLabelTag
from monailabel_app.site.opening import Studies
from monailabel_app.store import InferenceRecord, JoinedBy, RecordStore, TrainingLabel
from monailabel_app.store.files import sha256_of
from monailabel_app.studies.indexed import IndexedFolder
from monailabel_app.studies.pacs import PacsStudies

APPROVED = "approved"
NOT_APPROVED = "the reviewer's status is not 'approved'"
WITHDRAWN = "the image has no final label any more"
UNCERTAIN = "it is uncertain which question the label answers"


@dataclass(frozen=True)
class ApprovedLabel:
    """A label that a reader has approved.

    ``label_file`` is a label map, ``info`` what the client submitted with it, ``inference`` the
    inference that it corrects, if it is known with some certainty.
    """

    image_id: str
    label_file: Path
    info: Mapping[str, Any]
    inference: InferenceRecord | None = None


def fetched_folder(label: ApprovedLabel) -> Path | None:
    """The folder of the DICOM segmentation that a DICOMweb server gave for this label."""
    uid = label.info.get("SeriesInstanceUID")
    folder = Path(label.label_file).parent / str(uid)
    return folder if uid and folder.is_dir() else None


@dataclass(frozen=True)
class _FinalLabel:
    file: Path
    info: Mapping[str, Any]
    sha256: str


def approved_labels(
    studies: Studies, records: RecordStore | None, left_out: LeftOut
) -> list[ApprovedLabel]:
    """All approved labels of the studies, sorted by image.

    Approved is a label with the tag ``final`` whose status, where MONAI Label's Reviewer has set
    one, is ``approved``. MONAI Label keeps one such label per image; ``records`` also has those of
    earlier questions about it, which count as long as the image has a final label.

    Raises:
        PacsUnreachableError: the DICOMweb server does not answer.
    """
    current = _final_labels(studies)
    corrections = [] if records is None else records.labels_for_training(_FINAL)
    joined = _joined_labels(corrections, current, left_out)
    recorded = {(c.label.image_id, c.label.sha256) for c in corrections}
    unjoined = [
        ApprovedLabel(image_id, label.file, label.info)
        for image_id, label in current.items()
        if (image_id, label.sha256) not in recorded
    ]
    found = []
    for label in (*joined, *unjoined):
        if is_approved(label.info):
            found.append(label)
        else:
            left_out.add("", NOT_APPROVED)
    return sorted(found, key=lambda label: label.image_id)


def is_approved(info: Mapping[str, Any]) -> bool:
    """Whether MONAI Label's Reviewer has set no status, or ``approved``.

    It writes ``{"segmentationMeta": {"status": …}}`` into the info of a label, with the status
    ``approved``, ``flagged``, ``segmented`` or ``not segmented``.
    """
    meta = info.get("segmentationMeta")
    status = meta.get("status") if isinstance(meta, Mapping) else None
    return not status or str(status).strip().lower() == APPROVED


_FINAL = DefaultLabelTag.FINAL.value


def _final_labels(studies: Studies) -> dict[str, _FinalLabel]:
    if isinstance(studies, PacsStudies):
        _fetch_segmentations(studies)
    found = {}
    # The datastore of a DICOMweb server asks the server for labels that it now keeps itself.
    for image_id in IndexedFolder.get_labeled_images(studies):
        file = Path(IndexedFolder.get_label_uri(studies, image_id, _FINAL))
        if file.is_file():
            info = IndexedFolder.get_label_info(studies, image_id, _FINAL)
            found[image_id] = _FinalLabel(file, info, sha256_of(file))
    return found


def _fetch_segmentations(studies: PacsStudies) -> None:
    try:
        studies.datalist()
    except requests.RequestException as error:
        raise PacsUnreachableError(
            "The DICOMweb server did not give its segmentations; try again."
        ) from error


def _joined_labels(
    corrections: list[TrainingLabel], current: Mapping[str, _FinalLabel], left_out: LeftOut
) -> Iterator[ApprovedLabel]:
    for correction in corrections:
        label = correction.label
        final = current.get(label.image_id)
        if final is None:
            left_out.add("", WITHDRAWN)
            continue
        is_current = final.sha256 == label.sha256
        info = final.info if is_current else label.info
        certain = label.joined_by is not JoinedBy.TIME_LATEST
        if certain:
            file = correction.label_file
            yield ApprovedLabel(label.image_id, file, info, correction.inference)
        elif is_current:
            yield ApprovedLabel(label.image_id, final.file, info)
        else:
            left_out.add("", UNCERTAIN)
