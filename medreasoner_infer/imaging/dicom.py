# SPDX-License-Identifier: Apache-2.0
"""Loading a DICOM file or a folder with DICOM series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import dicom_header as header_of
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.content import content_key, resolve_modality
from medreasoner_infer.imaging.dicom_geometry import FrameGrid, FramePlane, frame_grid
from medreasoner_infer.imaging.dicom_instances import Instance, frame_total, open_instances
from medreasoner_infer.imaging.dicom_pixels import read_frames, stack
from medreasoner_infer.imaging.limits import DEFAULT_LIMITS, FileLimits, require_size
from medreasoner_infer.imaging.volume import Volume
from medreasoner_infer.imaging.window import ValueRange

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_UNREADABLE = "The DICOM file or series cannot be read: it is damaged. Export or copy it again."
_TOMOGRAPHIC = ("CT", "MR", "NM", "PT")
# Below this share of a pixel directions differ by rounding only.
_ROUNDING_PX = 0.1


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
    instances, warnings = open_instances(path, series_uid, limits)
    first = instances[0].header
    grid, spacing_known = _grid(instances)
    _require_size(instances, limits)
    values, padding = _read_values(instances, grid.order, limits)
    code, guessed, guess = resolve_modality(modality or header_of.modality_of(first), values)
    is_picture = instances[0].planes is None
    return Volume(
        array=values,
        ijk_to_lps=grid.ijk_to_lps,
        modality=code,
        key=content_key(values, grid.ijk_to_lps),
        source=path,
        stored_window=header_of.stored_window(first),
        inverted=first.PhotometricInterpretation == "MONOCHROME1",
        is_picture=is_picture,
        spacing_known=spacing_known,
        patient_orientation=header_of.patient_orientation(first) if is_picture else None,
        modality_guessed=guessed,
        padding=padding,
        warnings=(
            *warnings,
            *_repairs(instances),
            *grid.warnings,
            *header_of.missing_fields_warning(first),
            *guess,
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
        return _slice_headers(open_instances(path, series_uid, DEFAULT_LIMITS)[0])


def _slice_headers(instances: list[Instance]) -> tuple[tuple[Dataset, int], ...]:
    frames = [
        (instance.header, frame)
        for instance in instances
        for frame in range(header_of.frame_count(instance.header))
    ]
    grid, _ = _grid(instances)
    return tuple(frames[index] for index in grid.order)


def _grid(instances: list[Instance]) -> tuple[FrameGrid, bool]:
    """The voxel grid of a stack, and whether its in-plane spacing is in millimetres."""
    if instances[0].planes is None:
        return _picture_grid(instances)
    planes = [plane for instance in instances for plane in instance.planes or ()]
    size = instances[0].size[:2]
    odd = sum(not plane.is_parallel(planes[0], size) for plane in planes)
    if odd:
        raise UnreadableImageError(
            f"{odd} of the {len(planes)} frames have another orientation or pixel size than the "
            "first: the file holds several stacks. Export one stack by itself."
        )
    grid = frame_grid(planes, header_of.slice_thickness_mm(instances[0].header))
    turned = _turned_warning(planes, size)
    return replace(grid, warnings=(*grid.warnings, *turned)), True


def _turned_warning(planes: list[FramePlane], shape_rc: tuple[int, int]) -> tuple[str, ...]:
    worst = max(plane.corner_offset_mm(planes[0], shape_rc) for plane in planes)
    if worst <= _ROUNDING_PX * planes[0].smallest_spacing_mm:
        return ()
    return (
        "The orientations or pixel sizes of the slices differ by less than a pixel, "
        f"{worst:.2g} mm at the edge of the image; those of the first slice are used for all.",
    )


def _picture_grid(instances: list[Instance]) -> tuple[FrameGrid, bool]:
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
    rows_mm, columns_mm = spacing or header_of.pixel_aspect(instances[0].header)
    affine = np.diag([columns_mm, rows_mm, 1.0, 1.0])
    warnings: tuple[str, ...] = ()
    if len(instances) > 1:
        warnings = (
            f"The series holds {len(instances)} images without a position in the patient; each is "
            "shown by itself, and nothing is known of what lies between them.",
        )
    return FrameGrid(tuple(order), affine, warnings), spacing is not None


def _repairs(instances: list[Instance]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for instance in instances for text in instance.repairs))


def _require_size(instances: list[Instance], limits: FileLimits) -> None:
    """Check what all files together claim, before any pixel is read."""
    header = instances[0].header
    shape = (frame_total(instances), *instances[0].size)
    require_size(shape, int(header.get("BitsAllocated") or 1), limits)


def _read_values(
    instances: list[Instance], order: tuple[int, ...], limits: FileLimits
) -> tuple[NDArray[Any], frozenset[ValueRange]]:
    """Values in index order (I, J, K) or (I, J, K, 3), and those that are padding."""
    files = [read_frames(instance.path, limits) for instance in instances]
    frames = [frame for file in files for frame in file.values]
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        raise UnreadableImageError(
            f"The images of the series have different shapes {sorted(shapes)}; expected one."
        )
    values = stack([frames[index] for index in order])
    padding = frozenset[ValueRange]().union(*(file.padding for file in files))
    return np.moveaxis(values, (0, 1, 2), (2, 1, 0)), padding
