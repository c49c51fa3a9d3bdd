# SPDX-License-Identifier: Apache-2.0
"""DICOM series in a folder of studies, and the NIfTI files that viewers download of them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
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

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    _Member = tuple[Path, Dataset]

logger = logging.getLogger(__name__)

NIFTI = ".nii.gz"
_PREAMBLE_BYTES = 128
_LABELS_FOLDER = "labels"


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


def find_series(studies: Path) -> list[DicomSeries]:
    """All image series below ``studies``; hidden folders and the labels are passed over."""
    import pydicom

    members: defaultdict[str, list[_Member]] = defaultdict(list)
    for path in _dicom_files(studies):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if non_image_kind(header) is None:
            image_id = str(header.get("SeriesInstanceUID") or "") or _folder_id(path, studies)
            members[image_id].append((path, header))
    return [_series(image_id, found) for image_id, found in sorted(members.items())]


def _series(image_id: str, members: list[_Member]) -> DicomSeries:
    paths = [path for path, _ in members]
    header = members[0][1]
    return DicomSeries(
        image_id=image_id,
        series_uid=str(header.get("SeriesInstanceUID") or ""),
        study_uid=str(header.get("StudyInstanceUID") or ""),
        modality=modality_of(header),
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
    if target.exists() and target.stat().st_mtime_ns >= series.newest_change_ns:
        return target
    try:
        volume = load_volume(series.folder, series_uid=series.series_uid)
    except UnreadableImageError as error:
        logger.warning("A DICOM series of the studies is left out: %s", error)
        return None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with replacing(target, NIFTI) as temporary:
        _write(volume, temporary)
    return target


def _dicom_files(studies: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(studies):
        at_top = Path(folder) == studies
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and not (at_top and name == _LABELS_FOLDER)
        )
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file() and _has_preamble(path):
                yield path


def _has_preamble(path: Path) -> bool:
    """DICOM PS3.10, 7.1: 128 bytes, then ``DICM``."""
    with path.open("rb") as file:
        file.seek(_PREAMBLE_BYTES)
        return file.read(4) == b"DICM"


def _write(volume: Volume, path: Path) -> None:
    import nibabel

    array = volume.array
    if volume.is_colour:
        rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        array = np.ascontiguousarray(array).view(rgb)[..., 0]
    image = nibabel.Nifti1Image(array, RAS_TO_LPS @ volume.ijk_to_lps)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
