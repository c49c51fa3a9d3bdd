# SPDX-License-Identifier: Apache-2.0
"""Mending headers of real images so that a result can refer to them.

Only what the file itself, or DICOM's meaning of an empty value, tells is filled in. An identifier
that is empty is never invented: a result would refer to images that no PACS can find.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from medreasoner_infer.imaging.dicom_header import modality_of
from monailabel_app.common.fields import is_uid
from monailabel_app.dicom.copied_values import mend_copied
from monailabel_app.dicom.errors import UnusableSeriesError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SPACING_TOLERANCE_MM = 0.01
# Type 2 of the Patient, General Study and General Series modules (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1):
# to be present, but possibly empty.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_SEXES = ("M", "F", "O", "")
_FROM_FILE_META = {
    "SOPClassUID": "MediaStorageSOPClassUID",
    "SOPInstanceUID": "MediaStorageSOPInstanceUID",
}
_IDENTIFIERS = {
    "SOPClassUID": "SOP Class UID",
    "SOPInstanceUID": "SOP Instance UID",
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
}


class Repair(str, Enum):
    """What was mended; the value is the sentence that the reader sees."""

    FILE_META = "Identifiers of the images were empty and taken from the files' own meta header."
    CHARACTER_SET = "The images declare an empty character set; it was taken as the default."
    TYPE_2 = "Required patient or study fields were missing and were written as empty."
    SEX = "Patient's Sex holds a value that DICOM does not know; it was written as empty."
    THICKNESS = (
        "The images' Slice Thickness differs from the distance of their positions; the mask is "
        "written with the distance."
    )
    FRAME_COUNT = "Number of Frames is 1 in an image without frames of its own; it was passed over."


@dataclass(frozen=True)
class SliceSpacing:
    """Distance of neighbouring slice planes along their normal, in mm."""

    along_normal_mm: float


def mend_header(header: Dataset, spacing: SliceSpacing | None) -> frozenset[str]:
    """Mend one image's header in place; returns what was mended, as sentences.

    Args:
        spacing: of a volume with a place in the patient; ``None`` for a picture.

    Raises:
        UnusableSeriesError: an identifier is empty that cannot be told from the file.
    """
    done = set(mend_copied(header))
    done |= {
        repair.value
        for repair, mend in (
            (Repair.FILE_META, _from_file_meta),
            (Repair.CHARACTER_SET, _character_set),
            (Repair.TYPE_2, _type_2),
            (Repair.SEX, _sex),
        )
        if mend(header)
    }
    _require_identifiers(header)
    header.Modality = modality_of(header) or "OT"
    if spacing is None:
        if _picture(header):
            done.add(Repair.FRAME_COUNT.value)
    else:
        _require_frame_of_reference(header)
        if _thickness(header, spacing.along_normal_mm):
            done.add(Repair.THICKNESS.value)
    return frozenset(done)


def _from_file_meta(header: Dataset) -> bool:
    meta = getattr(header, "file_meta", {})
    mended = False
    for keyword, in_meta in _FROM_FILE_META.items():
        if not header.get(keyword) and meta.get(in_meta):
            setattr(header, keyword, meta.get(in_meta))
            mended = True
    return mended


def _character_set(header: Dataset) -> bool:
    if "SpecificCharacterSet" not in header or header.SpecificCharacterSet:
        return False
    del header.SpecificCharacterSet
    return True


def _type_2(header: Dataset) -> bool:
    missing = [keyword for keyword in _MAY_BE_EMPTY if keyword not in header]
    for keyword in missing:
        setattr(header, keyword, "")
    return bool(missing)


def _sex(header: Dataset) -> bool:
    if (header.PatientSex or "") in _SEXES:
        return False
    header.PatientSex = ""
    return True


def _picture(header: Dataset) -> bool:
    """Without a place in the patient, a frame of reference would promise one."""
    if "FrameOfReferenceUID" in header:
        del header.FrameOfReferenceUID
    if header.get("NumberOfFrames") in (1, "1") and "SharedFunctionalGroupsSequence" not in header:
        del header.NumberOfFrames
        return True
    return False


def _thickness(header: Dataset, spacing_mm: float) -> bool:
    if "SharedFunctionalGroupsSequence" in header:
        return False
    stored = header.get("SliceThickness")
    differs = stored in (None, "") or abs(float(stored) - spacing_mm) > SPACING_TOLERANCE_MM
    if differs:
        header.SliceThickness = spacing_mm
    header.SpacingBetweenSlices = spacing_mm
    return differs


def _require_identifiers(header: Dataset) -> None:
    unusable = [
        name for keyword, name in _IDENTIFIERS.items() if not is_uid(str(header.get(keyword) or ""))
    ]
    if unusable:
        raise UnusableSeriesError(
            f"The images leave {', '.join(unusable)} empty or malformed, so a result cannot refer "
            "to them. Send the series from the PACS or the scanner again, with its identifiers."
        )


def _require_frame_of_reference(header: Dataset) -> None:
    if not header.get("FrameOfReferenceUID"):
        raise UnusableSeriesError(
            "The images leave Frame of Reference UID empty, so a mask cannot be placed over them. "
            "Send the series from the PACS or the scanner again."
        )
