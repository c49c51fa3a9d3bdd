# SPDX-License-Identifier: Apache-2.0
"""Loading a DICOM file or a folder with DICOM series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import (
    ImageTooLargeError,
    MissingDecoderError,
    UnreadableImageError,
)
from medreasoner_infer.imaging import dicom_header as header_of
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.content import content_key, resolve_modality
from medreasoner_infer.imaging.dicom_geometry import FrameGrid, FramePlane, frame_grid
from medreasoner_infer.imaging.dicom_instances import Instance, frame_total, open_instances
from medreasoner_infer.imaging.dicom_pixels import Frames, read_frames, stack
from medreasoner_infer.imaging.limits import DEFAULT_LIMITS, FileLimits, require_size
from medreasoner_infer.imaging.volume import Volume
from medreasoner_infer.imaging.window import ValueRange

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_UNREADABLE = "The DICOM file or series cannot be read: it is damaged. Export or copy it again."
_TOMOGRAPHIC = ("CT", "MR", "NM", "PT")
# Below this share of a pixel directions differ by rounding only.
_ROUNDING_PX = 0.1
_MOST_TOLD = 5


def load_dicom(
    path: Path,
    modality: str | None = None,
    series_uid: str | None = None,
    limits: FileLimits = DEFAULT_LIMITS,
) -> Volume:
    """Load a DICOM file (one or many frames), or one series of a folder.

    A slice of the series whose pixels cannot be decoded is empty, and a warning names its file.

    Raises:
        UnreadableImageError: no image, unknown series, no decodable pixels or unusable geometry.
        ImageTooLargeError: more frames or voxels than ``limits``.
    """
    instances, warnings = open_instances(path, series_uid, limits)
    first = instances[0].header
    grid, spacing_known = _grid(instances)
    _require_size(instances, limits)
    pixels = _read_pixels(instances, grid.order, limits)
    values = pixels.values
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
        padding=pixels.padding,
        warnings=(
            *warnings,
            *pixels.warnings,
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
    warnings += _lost_places(instances)
    return FrameGrid(tuple(order), affine, warnings), spacing is not None


def _lost_places(instances: list[Instance]) -> tuple[str, ...]:
    """That frames of one file have a place in the patient, and others of it have none."""
    placed = sum(header_of.placed_frames(instance.header) for instance in instances)
    total = frame_total(instances)
    if not 0 < placed < total:
        return ()
    return (
        f"{total - placed} of the {total} frames have no place in the patient; so all are shown "
        "without one. Export the image again.",
    )


def _repairs(instances: list[Instance]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for instance in instances for text in instance.repairs))


def _require_size(instances: list[Instance], limits: FileLimits) -> None:
    """Check what all files together claim, before any pixel is read."""
    header = instances[0].header
    shape = (frame_total(instances), *instances[0].size)
    require_size(shape, int(header.get("BitsAllocated") or 1), limits)


@dataclass(frozen=True)
class _Pixels:
    """Values in index order (I, J, K) or (I, J, K, 3), and those that are padding."""

    values: NDArray[Any]
    padding: frozenset[ValueRange]
    warnings: tuple[str, ...] = ()


def _read_pixels(instances: list[Instance], order: tuple[int, ...], limits: FileLimits) -> _Pixels:
    """The pixels of all files; a slice that cannot be decoded is empty, and keeps its place.

    Raises:
        UnreadableImageError: nothing can be decoded, a decoder is missing, or shapes differ.
    """
    files = [_decoded(instance, limits) for instance in instances]
    whole = [file for file in files if isinstance(file, Frames)]
    if not whole:
        raise next(file for file in files if isinstance(file, UnreadableImageError))
    shapes = {file.values.shape[1:] for file in whole}
    if len(shapes) > 1:
        raise UnreadableImageError(
            f"The images of the series have different shapes {sorted(shapes)}; expected one."
        )
    frames: list[NDArray[Any]] = []
    for instance, file in zip(instances, files, strict=True):
        known = file.values if isinstance(file, Frames) else _empty_frames(instance.header, whole)
        frames.extend(known)
    values = stack([frames[index] for index in order])
    return _Pixels(
        np.moveaxis(values, (0, 1, 2), (2, 1, 0)),
        frozenset[ValueRange]().union(*(file.padding for file in whole)),
        _undecodable_warning(instances, files),
    )


def _decoded(instance: Instance, limits: FileLimits) -> Frames | UnreadableImageError:
    """The frames of a file, or why its pixels are damaged."""
    try:
        return read_frames(instance.path, limits)
    except (MissingDecoderError, ImageTooLargeError):
        raise
    except UnreadableImageError as error:
        return error


def _empty_frames(header: Dataset, whole: list[Frames]) -> list[NDArray[Any]]:
    """As many as the file should hold, as dark as anything that could be decoded."""
    is_inverted = header.PhotometricInterpretation == "MONOCHROME1"
    darkest = np.max if is_inverted else np.min
    value = darkest([darkest(file.values) for file in whole])
    frame = np.full_like(whole[0].values[0], value, dtype=value.dtype)
    return [frame] * header_of.frame_count(header)


def _undecodable_warning(
    instances: list[Instance], files: list[Frames | UnreadableImageError]
) -> tuple[str, ...]:
    pairs = zip(instances, files, strict=True)
    damaged = [instance for instance, file in pairs if not isinstance(file, Frames)]
    if not damaged:
        return ()
    told = ", ".join(_told_place(instance) for instance in damaged[:_MOST_TOLD])
    more = f" and {len(damaged) - _MOST_TOLD} more" if len(damaged) > _MOST_TOLD else ""
    return (
        f"{len(damaged)} of the {len(instances)} files of the series cannot be decoded: {told}"
        f"{more}. Their slices are empty; all others lie where they belong. Export or copy "
        "these files again.",
    )


def _told_place(instance: Instance) -> str:
    """The file, and where its first frame lies along the slice normal."""
    if instance.planes is None:
        return instance.path.name
    plane = instance.planes[0]
    return f"{instance.path.name} (at {plane.normal @ np.array(plane.position_lps_mm):.2f} mm)"
