# SPDX-License-Identifier: Apache-2.0
"""The image series that a result refers to, mended, with its slices in the volume's order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.imaging import Volume
from medreasoner_infer.imaging.dicom import slice_headers
from medreasoner_infer.imaging.formats import ImageFormat, identify
from monailabel_app.dicom.errors import UnusableSeriesError
from monailabel_app.dicom.repairs import SliceSpacing, mend_header

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class SourceFrame:
    """One slice's image: its header, and its frame number from 1 (``None`` in a single frame)."""

    image: Dataset
    frame_number: int | None


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """A series that results can refer to.

    Attributes:
        volume: the voxels' grid; slice K of it is ``frames[K]``.
        images: mended headers, one per file, each once, in the order of their first slice.
        frames: by voxel index K.
        warnings: what was mended, as sentences without patient identifiers.
    """

    volume: Volume
    images: tuple[Dataset, ...]
    frames: tuple[SourceFrame, ...]
    warnings: tuple[str, ...]

    @property
    def first(self) -> Dataset:
        """The header that patient and study attributes are taken from."""
        return self.images[0]

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return str(self.first.StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.first.SeriesInstanceUID)

    @property
    def frame_of_reference_uid(self) -> str | None:
        """Frame of Reference UID, ``None`` for a picture."""
        uid = self.first.get("FrameOfReferenceUID")
        return None if uid is None else str(uid)


def open_source(path: Path, volume: Volume, series_uid: str | None = None) -> SourceSeries:
    """Open the series that ``volume`` was loaded from.

    Args:
        path: a DICOM file, or a folder that holds the series.

    Raises:
        UnreadableImageError: the files cannot be read.
        UnusableSeriesError: it is no DICOM, or identifiers that a result must refer to are empty.
    """
    if path.is_file() and identify(path) is not ImageFormat.DICOM:
        raise UnusableSeriesError(
            "A result in DICOM refers to the series that it is about, and the image is of another "
            "format. Give the DICOM series, or do without DICOM."
        )
    slices = slice_headers(path, series_uid)
    spacing = None if volume.is_picture else SliceSpacing(_plane_distance_mm(volume))
    images: dict[int, Dataset] = {}
    repairs: set[str] = set()
    for header, _ in slices:
        if id(header) not in images:
            images[id(header)] = header
            repairs |= mend_header(header, spacing)
    frames = tuple(
        SourceFrame(header, index + 1 if _has_frames(header) else None) for header, index in slices
    )
    return SourceSeries(volume, tuple(images.values()), frames, tuple(sorted(repairs)))


def _has_frames(header: Dataset) -> bool:
    return "NumberOfFrames" in header


def _plane_distance_mm(volume: Volume) -> float:
    """Distance of slice planes along their normal; with a tilted gantry less than the step in K."""
    edges = volume.ijk_to_lps[:3, :3]
    normal = np.cross(edges[:, 0], edges[:, 1])
    # A DICOM decimal string holds 16 characters.
    return round(abs(float(edges[:, 2] @ normal / np.linalg.norm(normal))), 6)
