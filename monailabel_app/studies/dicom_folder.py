# SPDX-License-Identifier: Apache-2.0
"""DICOM series in a folder of studies, and the NIfTI files that viewers download of them."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.imaging.dicom_header import modality_of, non_image_kind
from medreasoner_infer.imaging.nifti import RAS_TO_LPS
from medreasoner_infer.imaging.write import replacing
from monailabel_app.private_files import private_file, private_folder
from monailabel_app.studies.contents import is_inside

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

logger = logging.getLogger(__name__)

NIFTI = ".nii.gz"
_PREAMBLE_BYTES = 128
_LABELS_FOLDER = "labels"
_UID = re.compile(r"\d+(\.\d+)*")


@dataclass(frozen=True)
class _Header:
    """What one image file says of its series; see :class:`DicomSeries`."""

    image_id: str
    series_uid: str
    study_uid: str
    modality: str | None


@dataclass(frozen=True)
class DicomSeries:
    """One image series found; ``folder`` holds all its files, and maybe other series.

    ``series_uid`` is empty where de-identification has emptied it; such files make one series per
    folder, and ``image_id`` is then made from the folder's name.
    """

    image_id: str
    series_uid: str
    study_uid: str
    modality: str | None
    folder: Path
    newest_change_ns: int


class SeriesFinder:
    """Finds all image series below ``studies``, passing over hidden folders and the labels.

    Headers are read once per file and again when the file changes, as the studies are looked
    through whenever a file or a label is added.
    """

    def __init__(self, studies: Path) -> None:
        self._studies = studies
        self._read: dict[Path, tuple[int, int, _Header | None]] = {}

    def find(self) -> list[DicomSeries]:
        """The series that are there now, by image id."""
        members: dict[str, tuple[_Header, list[Path]]] = {}
        for path in _files(self._studies):
            header = self._header(path)
            if header is not None:
                members.setdefault(header.image_id, (header, []))[1].append(path)
        return [_series(*members[image_id]) for image_id in sorted(members)]

    def _header(self, path: Path) -> _Header | None:
        status = path.stat()
        known = self._read.get(path)
        if known is not None and known[:2] == (status.st_mtime_ns, status.st_size):
            return known[2]
        header = _read_header(path, self._studies)
        self._read[path] = (status.st_mtime_ns, status.st_size, header)
        return header


def is_uid(text: str) -> bool:
    """Whether ``text`` is a UID (DICOM PS3.5, 9.1): digits and dots, at most 64 characters."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def _read_header(path: Path, studies: Path) -> _Header | None:
    import pydicom

    if not _has_preamble(path):
        return None
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        return _header_of(header, path, studies)
    except Exception as error:  # noqa: BLE001 - foreign bytes: pydicom fails in many ways on them
        logger.warning("A DICOM file of the studies is damaged: %s", type(error).__name__)
        return None


def _header_of(header: Dataset, path: Path, studies: Path) -> _Header | None:
    if non_image_kind(header) is not None:
        return None
    uid = str(header.get("SeriesInstanceUID") or "")
    return _Header(
        image_id=uid if is_uid(uid) else _folder_id(path, studies),
        series_uid=uid,
        study_uid=str(header.get("StudyInstanceUID") or ""),
        modality=modality_of(header),
    )


def _series(header: _Header, paths: list[Path]) -> DicomSeries:
    return DicomSeries(
        image_id=header.image_id,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        modality=header.modality,
        folder=Path(os.path.commonpath([path.parent for path in paths])),
        newest_change_ns=max(path.stat().st_mtime_ns for path in paths),
    )


def _folder_id(path: Path, studies: Path) -> str:
    name = path.parent.relative_to(studies).as_posix()
    return f"series-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def write_nifti_copy(series: DicomSeries, folder: Path) -> Path | None:
    """Write ``<image id>.nii.gz`` on the grid that the series is read on, unless it is there.

    Returns:
        The file, or ``None`` if the series cannot be read; the log says why.
    """
    target = folder / f"{series.image_id}{NIFTI}"
    # The copy bears the time of the series' newest file: no clock has to be right.
    if target.exists() and target.stat().st_mtime_ns == series.newest_change_ns:
        return target
    try:
        volume = load_volume(series.folder, series_uid=series.series_uid)
    except UnreadableImageError as error:
        logger.warning("A DICOM series of the studies is left out: %s", error)
        return None
    except Exception as error:  # noqa: BLE001 - foreign bytes: one series must not end the list
        logger.warning("A DICOM series of the studies is left out: %s", type(error).__name__)
        return None
    private_folder(folder)
    with replacing(target, NIFTI) as temporary:
        write_nifti(volume, private_file(temporary))
        os.utime(temporary, ns=(series.newest_change_ns, series.newest_change_ns))
    return target


def _files(studies: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(studies, onerror=_raise):
        at_top = Path(folder) == studies
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and not (at_top and name == _LABELS_FOLDER)
        )
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith(".") or not path.is_file():
                continue
            if not path.is_symlink() or is_inside(studies, path):
                yield path


def _raise(error: OSError) -> None:
    """A folder that cannot be read now is no empty folder."""
    raise error


def _has_preamble(path: Path) -> bool:
    """DICOM PS3.10, 7.1: 128 bytes, then ``DICM``."""
    with path.open("rb") as file:
        file.seek(_PREAMBLE_BYTES)
        return file.read(4) == b"DICM"


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume with its own grid; colour as NIfTI's RGB24."""
    import nibabel

    array = volume.array
    if volume.is_colour:
        rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        array = np.ascontiguousarray(array).view(rgb)[..., 0]
    image = nibabel.Nifti1Image(array, RAS_TO_LPS @ volume.ijk_to_lps)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
