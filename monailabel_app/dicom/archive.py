# SPDX-License-Identifier: Apache-2.0
"""Where results are kept: what is needed of a PACS, and the same for a folder of studies."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pydicom

from medreasoner_infer.atomic import replacing
from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_file import DAMAGED_HEADER, open_dicom
from medreasoner_infer.imaging.formats import ImageFormat, format_of
from medreasoner_infer.imaging.places import files_below
from monailabel_app.dicom.errors import ArchiveRefusedError
from monailabel_app.dicom.report_reading import is_report
from monailabel_app.dicom.seg_reading import SEGMENTATION_LIMITS
from monailabel_app.errors import UnknownImageError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality"]
_REPORT, _SEGMENTATION = "SR", "SEG"


class ResultArchive(Protocol):
    """A place that keeps images and the results about them."""

    def store(self, objects: Sequence[bytes]) -> None:
        """Keep encoded DICOM objects; ones that are there already are fine.

        Raises:
            PacsUnreachableError: not now, but maybe later.
            ArchiveRefusedError: never.
        """

    def reports(self, study_uid: str) -> list[Dataset]:
        """Every report of ours on a study, of any version.

        Raises:
            PacsUnreachableError: the archive does not answer.
        """

    def segmentation(self, study_uid: str, instance_uid: str) -> Dataset | None:
        """A segmentation of a study, ``None`` if it is not there.

        Raises:
            PacsUnreachableError: the archive does not answer.
        """

    def fetch_series(self, study_uid: str, series_uid: str, folder: Path) -> Path:
        """The folder with the images of a series; ``folder`` may be used to put them into.

        Raises:
            UnknownImageError: the archive has no such series.
            PacsUnreachableError: the archive does not answer.
        """

    def remove(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Take an object back that a newer version replaces; ``False`` where that cannot be done.

        Raises:
            PacsUnreachableError: the archive does not answer.
        """


class FolderArchive:
    """A folder of studies; results are written to ``results``, hidden from the list of images.

    Args:
        studies: searched, with all folders within, for images and for results of any origin.
        results: where new results go.
    """

    def __init__(self, studies: Path, results: Path) -> None:
        self._studies = studies
        self._results = results

    def store(self, objects: Sequence[bytes]) -> None:
        """Write each object to ``<results>/<study>/<instance>.dcm``, atomically."""
        for content in objects:
            header = pydicom.dcmread(io.BytesIO(content), specific_tags=_KEYS)
            folder = self._results / str(header.StudyInstanceUID)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with replacing(folder / f"{header.SOPInstanceUID}.dcm", durable=True) as written:
                written.write_bytes(content)

    def reports(self, study_uid: str) -> list[Dataset]:
        """Every report of ours on a study."""
        found: dict[str, Dataset] = {}
        for path, header in self._headers(study_uid):
            if header.get("Modality") == _REPORT and header.SOPInstanceUID not in found:
                found[header.SOPInstanceUID] = open_dicom(path)[0]
        return [report for report in found.values() if is_report(report)]

    def segmentation(self, study_uid: str, instance_uid: str) -> Dataset | None:
        """A segmentation of a study."""
        own = self._results / study_uid / f"{instance_uid}.dcm"
        if own.is_file():
            return open_dicom(own, SEGMENTATION_LIMITS)[0]
        for path, header in self._headers(study_uid):
            if header.get("Modality") == _SEGMENTATION and header.SOPInstanceUID == instance_uid:
                return open_dicom(path, SEGMENTATION_LIMITS)[0]
        return None

    def fetch_series(self, study_uid: str, series_uid: str, folder: Path) -> Path:
        """The folder below which the series lies, maybe beside others."""
        parents = [
            path.parent
            for path, header in self._headers(study_uid)
            if header.get("SeriesInstanceUID") == series_uid
        ]
        if not parents:
            raise UnknownImageError("The folder holds no images of this series.")
        return Path(os.path.commonpath(parents))

    def remove(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Remove a result that was written here."""
        path = self._results / study_uid / f"{instance_uid}.dcm"
        if not path.is_file():
            return False
        path.unlink()
        return True

    def _headers(self, study_uid: str) -> Iterator[tuple[Path, Dataset]]:
        roots = {self._studies.resolve()}
        if self._results.is_dir():
            roots.add(self._results.resolve())
        for path in sorted({path for root in roots for path in files_below(root)}):
            header = _header(path)
            if (
                header is not None
                and header.get("StudyInstanceUID") == study_uid
                and header.get("SOPInstanceUID")
            ):
                yield path, header


def _header(path: Path) -> Dataset | None:
    """The header of a DICOM file, ``None`` where it is none or damaged."""
    try:
        if format_of(path) is not ImageFormat.DICOM:
            return None
        header, _ = open_dicom(path, SEGMENTATION_LIMITS, pixels=False)
        with reading(DAMAGED_HEADER):
            for key in _KEYS:
                header.get(key)  # values are parsed when they are asked for
        return header
    except UnreadableImageError:
        return None


def require_all_stored(reply: Dataset) -> None:
    """Check a STOW-RS response (PS3.18, 10.5.3).

    Raises:
        ArchiveRefusedError: some instance was not stored.
    """
    failed = reply.get("FailedSOPSequence") or ()
    reasons = sorted({int(item.get("FailureReason", 0)) for item in failed})
    if reasons:
        codes = ", ".join(f"{reason:04X}H" for reason in reasons)
        raise ArchiveRefusedError(
            f"The PACS did not take {len(failed)} object(s); it gave the reason {codes} (DICOM "
            "PS3.18, Table 10.5.3-2). Ask its administrator."
        )
