# SPDX-License-Identifier: Apache-2.0
"""Who the patient of an image is: needed to split by patient and to keep the name out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_file import DAMAGED_HEADER, open_dicom
from medreasoner_infer.imaging.formats import ImageFormat, format_of
from medreasoner_infer.imaging.places import files_below
from monailabel_app.export.patients import PatientTable
from monailabel_app.images.source import ImageSource

_TAGS = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "OtherPatientIDs",
    "AccessionNumber",
)
_SHORTEST = 3


@dataclass(frozen=True)
class PatientIdentity:
    """``patient`` stands for the patient; ``texts`` may occur nowhere in a data set.

    ``is_told`` is false where nothing tells the patient, so that the image stands for one.
    """

    patient: str
    texts: tuple[str, ...] = ()
    is_told: bool = True

    def occurs_in(self, text: str | None) -> bool:
        """Whether a name or number of the patient stands in ``text`` as a word of its own."""
        return text is not None and any(
            re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text, re.IGNORECASE)
            for part in self.texts
        )


def identity_of(
    source: ImageSource, info: Mapping[str, Any], patients: PatientTable
) -> PatientIdentity:
    """The Patient ID, else what the site says, else the study, else the image.

    Images without a DICOM header tell no patient: there one image counts as one patient, unless
    the datastore's info holds an id, or the site says whose it is.

    Args:
        source: of the image.
        info: what the datastore knows of the image.
        patients: the site's own word.
    """
    header = {tag: _text(info.get(tag)) for tag in _TAGS}
    if source.dicom_folder is not None:
        header |= header_texts(source.dicom_folder, source.series_uid, _TAGS)
    image_id = source.image_id or ""
    said = None if header["PatientID"] else patients.patient_of(image_id)
    if said is not None:
        header["PatientID"] = said
    told = header["PatientID"] or header["StudyInstanceUID"]
    return PatientIdentity(told or image_id, tuple(dict.fromkeys(_searched(header))), bool(told))


def header_texts(folder: Path, series_uid: str | None, tags: Sequence[str]) -> dict[str, str]:
    """What one file of a series says in some attributes; empty where none can be read.

    Args:
        folder: that holds it, and maybe others.
        series_uid: of the series; where it is empty, any file counts.
        tags: keywords of the attributes.
    """
    for path in files_below(folder):
        try:
            if format_of(path) is not ImageFormat.DICOM:
                continue
            header, _ = open_dicom(path, pixels=False)
        except UnreadableImageError:  # as the loader of the images passes it over
            continue
        if not series_uid or str(header.get("SeriesInstanceUID")) == series_uid:
            with reading(DAMAGED_HEADER):
                return {tag: _text(header.get(tag)) for tag in tags}
    return {}


def _text(value: object) -> str:
    text = "" if value is None else str(value).strip()
    return "" if text == "UNK" else text


def _searched(header: Mapping[str, str]) -> Iterator[str]:
    names = re.split(r"[\^=\s,]+", header["PatientName"])
    date = header["PatientBirthDate"]
    dates = [date]
    if len(date) == 8:
        year, month, day = date[:4], date[4:6], date[6:]
        dates += [f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{month}/{day}/{year}"]
    numbers = [header[tag] for tag in ("PatientID", "OtherPatientIDs", "AccessionNumber")]
    uids = [header[tag] for tag in ("StudyInstanceUID", "SeriesInstanceUID")]
    yield from (text for text in (*names, *dates, *numbers, *uids) if len(text) >= _SHORTEST)
