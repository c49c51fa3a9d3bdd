# SPDX-License-Identifier: Apache-2.0
"""Whose examination an image is and when it was made, and whether two may be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom import slice_headers
from medreasoner_infer.imaging.dicom_file import DAMAGED_HEADER, open_dicom
from medreasoner_infer.imaging.dicom_header import code_string, modality_of, non_image_kind
from medreasoner_infer.imaging.formats import ImageFormat, format_of
from medreasoner_infer.imaging.places import files_below
from medreasoner_infer.priors.errors import NotComparableError, OtherPatientError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class ExaminationFacts:
    """What the headers of a series say; empty where they do not.

    ``study_date`` is YYYYMMDD, ``study_time`` HHMMSS with or without a fraction (PS3.5, 6.2).
    """

    patient_id: str = ""
    issuer: str = ""
    study_uid: str = ""
    series_uid: str = ""
    frame_of_reference_uid: str = ""
    modality: str = ""
    body_part: str = ""
    study_date: str = ""
    study_time: str = ""
    description: str = ""

    @property
    def when(self) -> tuple[str, str]:
        """Sorts by time."""
        return self.study_date, self.study_time


NOTHING_KNOWN = ExaminationFacts()


@dataclass(frozen=True, eq=False)
class Examination:
    """A volume, and what is known of it."""

    volume: Volume
    facts: ExaminationFacts = NOTHING_KNOWN


def read_facts(path: Path, series_uid: str | None = None) -> ExaminationFacts:
    """What is known of an image; nothing for formats other than DICOM.

    Args:
        path: a file, or a folder with DICOM series.
        series_uid: which one of the folder; without, that which ``load_volume`` takes.

    Raises:
        UnreadableImageError: as ``load_volume``, but for the pixels.
    """
    if path.is_dir():
        header = None if series_uid is None else _first_header(path, series_uid)
        return facts_of(slice_headers(path, series_uid)[0][0] if header is None else header)
    if format_of(path) is not ImageFormat.DICOM:
        return NOTHING_KNOWN
    return facts_of(open_dicom(path, pixels=False)[0])


def facts_of(header: Dataset) -> ExaminationFacts:
    """What one header says.

    Raises:
        UnreadableImageError: it is damaged.
    """
    with reading(DAMAGED_HEADER):
        return ExaminationFacts(
            patient_id=_text(header, "PatientID"),
            issuer=_text(header, "IssuerOfPatientID"),
            study_uid=_text(header, "StudyInstanceUID"),
            series_uid=_text(header, "SeriesInstanceUID"),
            frame_of_reference_uid=_text(header, "FrameOfReferenceUID"),
            modality=modality_of(header) or "",
            body_part=code_string(header, "BodyPartExamined"),
            study_date=_text(header, "StudyDate").replace("-", "").replace(".", ""),
            study_time=_text(header, "StudyTime"),
            description=_text(header, "SeriesDescription"),
        )


def is_same_patient(current: ExaminationFacts, prior: ExaminationFacts) -> bool | None:
    """Whether the Patient IDs and their issuers say so; ``None`` where an id is absent."""
    if not current.patient_id or not prior.patient_id:
        return None
    issuers = {facts.issuer for facts in (current, prior) if facts.issuer}
    return current.patient_id == prior.patient_id and len(issuers) < 2


def require_same_patient(
    current: ExaminationFacts, prior: ExaminationFacts, *, stated: bool = False
) -> None:
    """Check whose the examinations are.

    Args:
        current: the later examination.
        prior: the earlier one.
        stated: the user says that both are of one patient; counts where an id is absent.

    Raises:
        OtherPatientError: they are of two patients, or nothing says that they are of one.
    """
    same = is_same_patient(current, prior)
    if same is False:
        raise OtherPatientError(
            "The two examinations are of different patients (Patient ID or its issuer); a prior "
            "must be of the same patient. Choose another one."
        )
    if same is None and not stated:
        raise OtherPatientError(
            "The images do not tell whose they are (no Patient ID in one of them). Say that both "
            "are of the same patient (--same-patient) if you know it."
        )


def require_comparable(current: Examination, prior: Examination) -> tuple[str, ...]:
    """Check that sizes of the two may be compared.

    Returns:
        Warnings for the reader.

    Raises:
        NotComparableError: one has no place in the patient, is in colour, is of another modality,
            or the prior is the later one.
    """
    for name, examination in (("current", current), ("prior", prior)):
        _require_volume(name, examination.volume)
    modalities = current.volume.modality, prior.volume.modality
    if modalities[0] != modalities[1]:
        raise NotComparableError(
            f"The current examination is {modalities[0]}, the prior one {modalities[1]}; sizes are "
            "compared within one modality. Choose a prior of the same kind."
        )
    return (*_time_warnings(current.facts, prior.facts), *_guess_warnings(current, prior))


def _require_volume(name: str, volume: Volume) -> None:
    if volume.is_picture or not volume.spacing_known:
        raise NotComparableError(
            f"The {name} image has no place in the patient (a picture, a radiograph or a clip), so "
            "nothing of it can be found in another examination; give CT or MR series."
        )
    if volume.is_colour:
        raise NotComparableError(
            f"The {name} image is in colour; only grey examinations can be registered."
        )


def _time_warnings(current: ExaminationFacts, prior: ExaminationFacts) -> tuple[str, ...]:
    if not current.study_date or not prior.study_date:
        return ("The images do not tell when they were made; which is the prior was stated.",)
    if prior.study_date > current.study_date:
        raise NotComparableError(
            "The prior examination is later than the current one by its Study Date; exchange the "
            "two, or growth would be told for shrinking."
        )
    if prior.study_uid and prior.study_uid == current.study_uid:
        return ("Both series are of one study; what differs is not a change over time.",)
    return ()


def _guess_warnings(current: Examination, prior: Examination) -> tuple[str, ...]:
    if not (current.volume.modality_guessed or prior.volume.modality_guessed):
        return ()
    return ("The modality of an image was guessed from its values; both are taken for the same.",)


def _first_header(folder: Path, series_uid: str) -> Dataset | None:
    """Of the first readable image of a series in a folder."""
    for path in files_below(folder):
        try:
            if format_of(path) is not ImageFormat.DICOM:
                continue
            header, _ = open_dicom(path, pixels=False)
        except UnreadableImageError:  # as the loader of the images passes it over
            continue
        if str(header.get("SeriesInstanceUID")) == series_uid and non_image_kind(header) is None:
            return header
    return None


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()
