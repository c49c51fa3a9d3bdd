# SPDX-License-Identifier: Apache-2.0
"""DICOM series in a folder of studies, and the NIfTI files that viewers download of them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.atomic import replacing
from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_file import DAMAGED_HEADER, open_dicom
from medreasoner_infer.imaging.dicom_header import modality_of, non_image_kind
from medreasoner_infer.imaging.formats import ImageFormat, format_of
from medreasoner_infer.imaging.places import entries_below
from medreasoner_infer.imaging.write import write_nifti as write_on_grid
from monailabel_app.common.fields import is_uid
from monailabel_app.common.private_files import private_file, private_folder
from monailabel_app.errors import StudiesWriteError
from monailabel_app.studies.set_aside import SetAside

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

logger = logging.getLogger(__name__)

NIFTI = ".nii.gz"
DICOM_NAMES = (".dcm", ".dicom")
_OTHER_NAMES = (NIFTI, ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
# Images that other programs read.
_UNREAD_NAMES = (".hdr", ".mgz", ".mgh", ".mnc", ".gipl", ".vti", ".nii.bz2", ".nii.zst")
_LABELS_FOLDER = "labels"
_NS = 10**9
_NIFTI_LENGTH = 32767  # a signed 16-bit number, NIfTI-1's "dim"


@dataclass(frozen=True)
class _Header:
    """What one image file says of its series; see :class:`DicomSeries`."""

    image_id: str
    series_uid: str
    study_uid: str
    modality: str | None


@dataclass(frozen=True)
class _Read:
    """One file as it was when it was last read.

    Attributes:
        version: times in ns of the last change of its content and of its status, which the right
            to read it belongs to, and its size.
        header: of a DICOM image.
        fault: why the file cannot be read, if it is damaged.
        is_other_image: whether content or name are those of an image, but not of a DICOM one.
    """

    version: tuple[int, int, int]
    header: _Header | None = None
    fault: str | None = None
    is_other_image: bool = False


@dataclass(frozen=True)
class DicomSeries:
    """One image series found; ``folder`` holds all its files, and maybe other series.

    ``series_uid`` is empty where de-identification has emptied it; such files make one series per
    folder, and ``image_id`` is then made from the folder's name.

    Attributes:
        version_ns: the second of the newest file's last change, and in place of its nanoseconds a
            digest of all files' names, times and sizes: files may arrive with older times.
    """

    image_id: str
    series_uid: str
    study_uid: str
    modality: str | None
    folder: Path
    version_ns: int


class SeriesFinder:
    """Finds all image series below ``studies``, passing over hidden folders and the labels.

    Headers are read once per file and again when the file changes, as the studies are looked
    through whenever a file or a label is added. Damaged files are set aside.
    """

    def __init__(self, studies: Path) -> None:
        self._studies = studies
        self._read: dict[Path, _Read] = {}
        self._not_opened: list[Path] = []

    def find(self) -> list[DicomSeries]:
        """The series that are there now, by image id; no file of the studies makes it fail."""
        known, self._read, self._not_opened = self._read, {}, []
        members: dict[str, list[tuple[Path, _Read]]] = {}
        for path, may_be_opened in _entries(self._studies):
            if not may_be_opened:
                self._not_opened.append(path)
                continue
            read = self._again(path, known.get(path))
            if read is not None and read.header is not None:
                members.setdefault(read.header.image_id, []).append((path, read))
        _report_damaged(self._read, known)
        return [_series(members[image_id]) for image_id in sorted(members)]

    def damaged(self) -> list[SetAside]:
        """The files that were set aside when the studies were looked through last."""
        return [
            SetAside(path.relative_to(self._studies).as_posix(), read.fault)
            for path, read in self._read.items()
            if read.fault is not None
        ]

    def not_opened(self) -> list[Path]:
        """Links out of the studies, to folders or to nothing, pipes and the like, as of then."""
        return self._not_opened

    def other_images(self) -> list[Path]:
        """Files that are or are named as images, and are no DICOM, wherever they lie."""
        return [path for path, read in self._read.items() if read.is_other_image]

    def _again(self, path: Path, known: _Read | None) -> _Read | None:
        """What is read of a file, from memory where it has not changed; ``None`` if it is gone."""
        try:
            status = path.stat()
        except OSError:
            return None
        version = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        if known is None or known.version != version:
            known = _read(path, self._studies, version)
        self._read[path] = known
        return known


def _report_damaged(now: dict[Path, _Read], before: dict[Path, _Read]) -> None:
    damaged = {path: read for path, read in now.items() if read.fault is not None}
    new = [path for path, read in damaged.items() if before.get(path) != read]
    if new:
        logger.warning("%d damaged DICOM file(s) of the studies are set aside", len(new))


def _read(path: Path, studies: Path, version: tuple[int, int, int]) -> _Read:
    """What the finder remembers of one file."""
    try:
        kind = format_of(path)
        if kind is not ImageFormat.DICOM:
            named = path.name.lower().endswith((*DICOM_NAMES, *_OTHER_NAMES, *_UNREAD_NAMES))
            return _Read(version, is_other_image=named or kind is not None)
        return _Read(version, _read_header(path, studies))
    except UnreadableImageError as error:
        return _Read(version, fault=str(error))


def _read_header(path: Path, studies: Path) -> _Header | None:
    """The header of a DICOM image, ``None`` for DICOM files of other kinds.

    Raises:
        UnreadableImageError: the file is damaged.
    """
    header, _ = open_dicom(path, pixels=False)
    with reading(DAMAGED_HEADER):
        if non_image_kind(header) is not None:
            if _is_of_image_class(header):
                raise UnreadableImageError(
                    "The DICOM file is of an image's class and holds none: it is cut short. Export "
                    "or copy it again."
                )
            return None
        uid = str(header.get("SeriesInstanceUID") or "")
        return _Header(
            image_id=uid if is_uid(uid) else _folder_id(path, studies),
            series_uid=uid,
            study_uid=str(header.get("StudyInstanceUID") or ""),
            modality=modality_of(header),
        )


def _is_of_image_class(header: FileDataset) -> bool:
    """Whether the storage class that the file's meta header names is one of images (PS3.4, B.5)."""
    uid = header.file_meta.get("MediaStorageSOPClassUID")
    return uid is not None and "Image Storage" in uid.name


def _series(members: list[tuple[Path, _Read]]) -> DicomSeries:
    header = members[0][1].header
    assert header is not None  # nosec B101 # for type checkers
    return DicomSeries(
        image_id=header.image_id,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        modality=header.modality,
        folder=Path(os.path.commonpath([path.parent for path, _ in members])),
        version_ns=_version_ns(members),
    )


def _version_ns(members: list[tuple[Path, _Read]]) -> int:
    files = sorted((path.name, read.version[0], read.version[2]) for path, read in members)
    digest = hashlib.sha256(repr(files).encode()).digest()
    newest_s = max(changed_ns for _, changed_ns, _ in files) // _NS
    return newest_s * _NS + int.from_bytes(digest[:8], "big") % _NS


def _folder_id(path: Path, studies: Path) -> str:
    name = path.parent.relative_to(studies).as_posix()
    return f"series-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def write_nifti_copy(series: DicomSeries, folder: Path) -> Path:
    """Write ``<image id>.nii.gz`` on the grid that the series is read on, unless it is there.

    Raises:
        UnreadableImageError: the series cannot be read.
        StudiesWriteError: the copy cannot be written.
    """
    target = folder / f"{series.image_id}{NIFTI}"
    # The copy bears the series' version as its time: no clock has to be right.
    if target.exists() and target.stat().st_mtime_ns == series.version_ns:
        return target
    volume = load_volume(series.folder, series_uid=series.series_uid)
    try:
        private_folder(folder)
        with replacing(target, NIFTI) as temporary:
            write_nifti(volume, private_file(temporary))
            os.utime(temporary, ns=(series.version_ns, series.version_ns))
    except OSError as error:
        raise StudiesWriteError(
            f"The series' copy for viewers cannot be written ({error.strerror}). Check the disk "
            "space and the rights of the folder of records."
        ) from error
    return target


def _entries(studies: Path) -> Iterator[tuple[Path, bool]]:
    labels = studies / _LABELS_FOLDER
    return (
        (path, may_be_opened)
        for path, may_be_opened in entries_below(studies)
        if labels not in (path, *path.parents)
    )


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume with its own grid; colour as NIfTI's RGB24.

    Raises:
        UnreadableImageError: an axis is longer than NIfTI-1 can hold.
    """
    if max(volume.shape_ijk) > _NIFTI_LENGTH:
        raise UnreadableImageError(
            f"The image has {volume.shape_ijk} voxels; viewers get NIfTI files of at most "
            f"{_NIFTI_LENGTH} along each axis. Crop the image."
        )
    array = volume.array
    if volume.is_colour:
        rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        array = np.ascontiguousarray(array).view(rgb)[..., 0]
    write_on_grid(array, volume.ijk_to_lps, path)
