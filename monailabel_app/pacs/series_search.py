# SPDX-License-Identifier: Apache-2.0
"""Searching a DICOMweb server for series (QIDO-RS, DICOM PS3.18, 10.6)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from monailabel_app.common.fields import is_uid
from monailabel_app.errors import UnknownImageError

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from pydicom.dataset import Dataset

logger = logging.getLogger(__name__)

IMAGE_MODALITIES = ("CT", "MR", "CR", "DX", "US")
MODALITY = "Modality"
SERIES_UID = "0020000E"
STUDY_UID = "0020000D"
_MOST_SERIES = 100_000
_DESCRIBING = (
    "PatientID", "IssuerOfPatientID", "StudyDate", "StudyTime", "BodyPartExamined",
    "SeriesDescription", MODALITY,
)  # fmt: skip


def find_series(
    client: DICOMwebClient, search_filter: Mapping[str, Any], most: int = _MOST_SERIES
) -> list[str]:
    """Series Instance UIDs that match, each once.

    Args:
        search_filter: attributes to match. ``Modality`` may be several, as a list or as
            ``"CT,MR"``; QIDO matches one value, so each is asked for by itself. Without it, all of
            :data:`IMAGE_MODALITIES` are.
        most: how many are taken, as a server may go on listing for ever.

    Raises:
        ValueError: an answer is no list of DICOM JSON objects, or lists more than that.
    """
    return list(_each_modality(client, search_filter, None, most))


def find_headers(
    client: DICOMwebClient, search_filter: Mapping[str, Any], keywords: Sequence[str], most: int
) -> dict[str, Dataset]:
    """What the server tells of the series that match, by Series Instance UID.

    Args:
        client: of the server.
        search_filter: as in :func:`find_series`.
        keywords: attributes that are asked for; servers leave out what they do not know.
        most: as there.

    Raises:
        ValueError: as :func:`find_series`.
    """
    from pydicom.dataset import Dataset

    found = _each_modality(client, search_filter, keywords, most)
    return {uid: Dataset.from_json(dict(entry)) for uid, entry in found.items()}


def find_described(
    client: DICOMwebClient, search_filter: Mapping[str, str], most: int = _MOST_SERIES
) -> list[Dataset]:
    """The series that match, each once, with what the server tells of patient, study and part.

    Args:
        search_filter: attributes to match; servers may match wildcards, and pass over what they
            cannot match, so that callers check what comes back.
        most: how many are taken.

    Raises:
        ValueError: an answer is no list of DICOM JSON objects, or lists more than that.
    """
    from pydicom.dataset import Dataset

    found: list[Dataset] = []
    for _, entry in _pages(client, dict(search_filter), _DESCRIBING):
        found.append(Dataset.from_json(dict(entry)))
        if len(found) > most:
            raise ValueError(f"more than {most} series")
    return found


def find_one(client: DICOMwebClient, series_uid: str) -> Dataset:
    """The attributes by which the server knows a series.

    Raises:
        UnknownImageError: it has none of this id.
        ValueError: it has one, but its study has no UID.
    """
    from pydicom.dataset import Dataset

    # Some servers pass over what they cannot match, and answer with everything.
    for entry in client.search_for_series(search_filters={"SeriesInstanceUID": series_uid}):
        if entry.get(SERIES_UID, {}).get("Value") == [series_uid]:
            uid_of(entry, STUDY_UID)
            return Dataset.from_json(entry)
    raise UnknownImageError("The DICOMweb server holds no images of a series of this id.")


def uid_of(entry: Mapping[str, Any], tag: str) -> str:
    """A UID of a DICOM JSON object (PS3.18, F.2), fit to be a file's name.

    Raises:
        ValueError: the object has none.
    """
    values = entry.get(tag, {}).get("Value") if isinstance(entry, Mapping) else None
    if isinstance(values, list) and values and isinstance(values[0], str) and is_uid(values[0]):
        return values[0]
    raise ValueError(f"a DICOM JSON object without a UID in {tag}")


def _uid_if_any(entry: Mapping[str, Any]) -> str | None:
    try:
        return uid_of(entry, SERIES_UID)
    except ValueError:
        return None


def _each_modality(
    client: DICOMwebClient,
    search_filter: Mapping[str, Any],
    fields: Sequence[str] | None,
    most: int,
) -> dict[str, Mapping[str, Any]]:
    """Entries of the series that match by UID, each modality asked for by itself."""
    found: dict[str, Mapping[str, Any]] = {}
    others = {key: value for key, value in search_filter.items() if key != MODALITY}
    for modality in _modalities(search_filter.get(MODALITY)):
        for uid, entry in _pages(client, {**others, MODALITY: modality}, fields):
            found[uid] = entry
            if len(found) > most:
                raise ValueError(f"more than {most} series")
    return found


def _modalities(value: object) -> Sequence[str]:
    if not value:
        return IMAGE_MODALITIES
    if isinstance(value, str):
        return [part.strip() for part in value.replace("\\", ",").split(",") if part.strip()]
    if isinstance(value, Sequence):
        return [str(part) for part in value]
    return IMAGE_MODALITIES


def _pages(
    client: DICOMwebClient, filters: dict[str, Any], fields: Sequence[str] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """UIDs and entries page by page, as servers cap an answer.

    It ends too where a server ignores the offset.
    """
    asked: dict[str, Any] = {} if fields is None else {"fields": list(fields)}
    seen: set[str] = set()
    offset = 0
    while True:
        page = client.search_for_series(search_filters=filters, offset=offset, **asked)
        told = {uid: series for series in page if (uid := _uid_if_any(series)) is not None}
        nameless = sum(_uid_if_any(series) is None for series in page)
        if nameless:
            # One such series must not hide all the others.
            logger.warning("%d series without a UID are left out.", nameless)
        fresh = [uid for uid in told if uid not in seen]
        if not fresh:
            return
        yield from ((uid, told[uid]) for uid in fresh)
        seen.update(fresh)
        offset += len(page)
