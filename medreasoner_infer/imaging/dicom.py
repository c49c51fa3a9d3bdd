# SPDX-License-Identifier: Apache-2.0
"""Loading a DICOM file or a folder with DICOM series."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import dicom_header as header_of
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.content import content_key, resolve_modality
from medreasoner_infer.imaging.dicom_file import DAMAGED_HEADER, open_dicom
from medreasoner_infer.imaging.dicom_geometry import FrameGrid, FramePlane, frame_grid
from medreasoner_infer.imaging.dicom_pixels import read_frames, stack
from medreasoner_infer.imaging.formats import ImageFormat, format_of
from medreasoner_infer.imaging.limits import DEFAULT_LIMITS, FileLimits, require_size
from medreasoner_infer.imaging.places import files_below
from medreasoner_infer.imaging.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_UNREADABLE = "The DICOM file or series cannot be read: it is damaged. Export or copy it again."
_TOMOGRAPHIC = ("CT", "MR", "NM", "PT")


@dataclass(frozen=True)
class _Instance:
    """One DICOM image file; ``planes`` is ``None`` where it has no place in the patient."""

    path: Path
    header: Dataset
    planes: list[FramePlane] | None
    repairs: tuple[str, ...] = ()

    def fits(self, other: _Instance) -> bool:
        """Whether both can be slices of one volume."""
        sizes = [_size(i.header) for i in (self, other)]
        if sizes[0] != sizes[1] or (self.planes is None) != (other.planes is None):
            return False
        if self.planes is None or other.planes is None:
            return True
        return self.planes[0].is_parallel(other.planes[0])


def load_dicom(
    path: Path,
    modality: str | None = None,
    series_uid: str | None = None,
    limits: FileLimits = DEFAULT_LIMITS,
) -> Volume:
    """Load a DICOM file (one or many frames), or one series of a folder.

    Raises:
        UnreadableImageError: no image, unknown series, undecodable pixels or unusable geometry.
        ImageTooLargeError: more frames or voxels than ``limits``.
    """
    instances, warnings = _open(path, series_uid, limits)
    first = instances[0].header
    grid, spacing_known = _grid(instances)
    _require_size(instances, limits)
    values = _read_values(instances, grid.order, limits)
    code, guessed = resolve_modality(modality or header_of.modality_of(first), values)
    is_picture = instances[0].planes is None
    return Volume(
        array=values,
        ijk_to_lps=grid.ijk_to_lps,
        modality=code,
        key=content_key(instance.path for instance in instances),
        source=path,
        stored_window=header_of.stored_window(first),
        inverted=first.PhotometricInterpretation == "MONOCHROME1",
        is_picture=is_picture,
        spacing_known=spacing_known,
        patient_orientation=header_of.patient_orientation(first) if is_picture else None,
        modality_guessed=guessed,
        warnings=(
            *warnings,
            *_repairs(instances),
            *grid.warnings,
            *header_of.missing_fields_warning(first),
        ),
    )


def slice_headers(path: Path, series_uid: str | None = None) -> tuple[tuple[Dataset, int], ...]:
    """Which file and frame each slice of :func:`load_dicom`'s volume comes from.

    Returns:
        The file's header (without pixels) and the frame's number in it, from 0, by voxel index K.

    Raises:
        UnreadableImageError: as :func:`load_dicom`, but for the pixels.
    """
    with reading(_UNREADABLE):
        return _slice_headers(_open(path, series_uid, DEFAULT_LIMITS)[0])


def _slice_headers(instances: list[_Instance]) -> tuple[tuple[Dataset, int], ...]:
    frames = [
        (instance.header, frame)
        for instance in instances
        for frame in range(header_of.frame_count(instance.header))
    ]
    grid, _ = _grid(instances)
    return tuple(frames[index] for index in grid.order)


def _open(
    path: Path, series_uid: str | None, limits: FileLimits
) -> tuple[list[_Instance], tuple[str, ...]]:
    """The images to show, and warnings."""
    if not path.is_dir():
        return [_open_file(path, limits)], ()
    instances, damaged = _scan_folder(path, limits)
    chosen, warnings = _select_series(instances, series_uid)
    if damaged:
        warnings = (
            f"{damaged} damaged DICOM file(s) in the folder are left out; they may belong to this "
            "series.",
            *warnings,
        )
    return chosen, warnings


def _open_file(path: Path, limits: FileLimits) -> _Instance:
    instance = _instance(path, limits)
    kind = header_of.non_image_kind(instance.header)
    if kind is not None:
        raise UnreadableImageError(
            f"This DICOM file is a {kind}, not an image. Give the image series that it belongs to."
        )
    return instance


def _instance(path: Path, limits: FileLimits) -> _Instance:
    """One file; those that are no images have no planes.

    Raises:
        UnreadableImageError: it is damaged, or claims more than it can hold.
    """
    header, repairs = open_dicom(path, limits, pixels=False)
    with reading(DAMAGED_HEADER):
        is_image = header_of.non_image_kind(header) is None
        return _Instance(
            path, header, header_of.frame_planes(header) if is_image else None, repairs
        )


def _scan_folder(folder: Path, limits: FileLimits) -> tuple[list[_Instance], int]:
    """All DICOM images in a folder and those within it, and how many files are damaged.

    Other files are passed over.
    """
    instances: dict[str, _Instance] = {}
    damaged = 0
    for path in files_below(folder):
        try:
            if format_of(path) is not ImageFormat.DICOM:
                continue
            instance = _instance(path, limits)
            is_image = header_of.non_image_kind(instance.header) is None
            # A file that was exported twice is one image.
            identity = str(instance.header.get("SOPInstanceUID") or path)
        except UnreadableImageError:
            damaged += 1
            continue
        if is_image:
            instances[identity] = instance
    if not instances:
        raise UnreadableImageError(
            "The folder holds no DICOM image. Give a folder with the files of one series, or the "
            "image file itself."
        )
    return list(instances.values()), damaged


def _select_series(
    instances: list[_Instance], series_uid: str | None
) -> tuple[list[_Instance], tuple[str, ...]]:
    by_uid: defaultdict[str, list[_Instance]] = defaultdict(list)
    for instance in instances:
        by_uid[str(instance.header.get("SeriesInstanceUID") or "")].append(instance)
    if series_uid is not None and series_uid not in by_uid:
        raise UnreadableImageError(
            f"The series that was asked for is not in the folder, which holds {len(by_uid)} other "
            "series. Check the Series Instance UID."
        )
    warnings: list[str] = []
    members = by_uid[series_uid] if series_uid is not None else max(by_uid.values(), key=_frames)
    if series_uid is None and len(by_uid) > 1:
        warnings.append(
            f"The folder holds {len(by_uid)} series; the one with most images ({len(members)} "
            "file(s)) is shown. Name a series to see another."
        )
    stacks = _parallel_stacks(members)
    largest = max(stacks, key=_frames)
    if len(stacks) > 1:
        warnings.append(
            f"The series holds {len(stacks)} stacks of different size or orientation (such as "
            f"localizers); the largest, {len(largest)} of {len(members)} files, is shown."
        )
    return largest, tuple(warnings)


def _frames(instances: list[_Instance]) -> int:
    return sum(header_of.frame_count(instance.header) for instance in instances)


def _parallel_stacks(instances: list[_Instance]) -> list[list[_Instance]]:
    stacks: list[list[_Instance]] = []
    for instance in instances:
        fitting = next((members for members in stacks if members[0].fits(instance)), None)
        if fitting is None:
            stacks.append([instance])
        else:
            fitting.append(instance)
    return stacks


def _grid(instances: list[_Instance]) -> tuple[FrameGrid, bool]:
    """The voxel grid of a stack, and whether its in-plane spacing is in millimetres."""
    if instances[0].planes is None:
        return _picture_grid(instances)
    planes = [plane for instance in instances for plane in instance.planes or ()]
    odd = sum(not plane.is_parallel(planes[0]) for plane in planes)
    if odd:
        raise UnreadableImageError(
            f"{odd} of the {len(planes)} frames have another orientation or pixel size than the "
            "first: the file holds several stacks. Export one stack by itself."
        )
    return frame_grid(planes, header_of.slice_thickness_mm(instances[0].header)), True


def _picture_grid(instances: list[_Instance]) -> tuple[FrameGrid, bool]:
    """Images without a place in the patient, such as those of an ultrasound examination.

    Each frame is a slice by itself: they follow one another by instance number, one unit apart.

    Raises:
        UnreadableImageError: several images of a tomographic modality, which have lost their place.
    """
    modality = header_of.modality_of(instances[0].header)
    if len(instances) > 1 and modality in _TOMOGRAPHIC:
        raise UnreadableImageError(
            f"The series holds {len(instances)} images without a position in the patient, so they "
            "make no volume. Give one of the files."
        )
    frames = [
        (int(instance.header.get("InstanceNumber") or 0), position, frame)
        for position, instance in enumerate(instances)
        for frame in range(header_of.frame_count(instance.header))
    ]
    order = sorted(range(len(frames)), key=frames.__getitem__)
    spacings = {header_of.projection_spacing_mm(instance.header) for instance in instances}
    spacing = spacings.pop() if len(spacings) == 1 else None
    rows_mm, columns_mm = spacing or (1.0, 1.0)
    affine = np.diag([columns_mm, rows_mm, 1.0, 1.0])
    warnings: tuple[str, ...] = ()
    if len(instances) > 1:
        warnings = (
            f"The series holds {len(instances)} images without a position in the patient; each is "
            "shown by itself, and nothing is known of what lies between them.",
        )
    return FrameGrid(tuple(order), affine, warnings), spacing is not None


def _size(header: Dataset) -> tuple[int, int, int]:
    return int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)


def _repairs(instances: list[_Instance]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for instance in instances for text in instance.repairs))


def _require_size(instances: list[_Instance], limits: FileLimits) -> None:
    """Check what all files together claim, before any pixel is read."""
    header = instances[0].header
    shape = (_frames(instances), *_size(header))
    require_size(shape, int(header.get("BitsAllocated") or 1), limits)


def _read_values(
    instances: list[_Instance], order: tuple[int, ...], limits: FileLimits
) -> NDArray[Any]:
    """Values in index order (I, J, K) or (I, J, K, 3)."""
    frames = [frame for instance in instances for frame in read_frames(instance.path, limits)]
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        raise UnreadableImageError(
            f"The images of the series have different shapes {sorted(shapes)}; expected one."
        )
    values = stack([frames[index] for index in order])
    return np.moveaxis(values, (0, 1, 2), (2, 1, 0))
