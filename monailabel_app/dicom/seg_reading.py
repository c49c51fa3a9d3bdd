# SPDX-License-Identifier: Apache-2.0
"""Reading a DICOM Segmentation onto the grid of its source images, by physical space.

A segmentation may hold only its non-empty frames, in any order, with another pixel size or another
orientation than the images: every source voxel takes the nearest pixel of the frame it lies on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_file import require_plausible
from medreasoner_infer.imaging.dicom_frames import stored_frames
from medreasoner_infer.imaging.dicom_geometry import FramePlane
from medreasoner_infer.imaging.dicom_header import frame_planes
from medreasoner_infer.imaging.limits import FileLimits
from medreasoner_infer.imaging.mapping import transform_points
from monailabel_app.dicom.errors import UnreadableResultError
from monailabel_app.dicom.source import SourceSeries

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# A segmentation has a frame for each slice of each segment.
SEGMENTATION_LIMITS = FileLimits(frames=100_000, elements=4_000_000)
LABELMAP = "LABELMAP"
FRACTIONAL = "FRACTIONAL"
# A voxel centre may miss a frame's plane by this share of the frames' distance.
_WITHIN = 0.5
_ROUNDING = 1e-3
_MOST_THICKNESS_MM = 500.0
_DAMAGED = (
    "The segmentation cannot be read: it is damaged, or its pixels cannot be decoded because they "
    "are compressed in a way that is not supported. Store it again, uncompressed."
)


@dataclass(frozen=True, eq=False)
class _Frame:
    """One frame of one segment: bool pixels (rows, columns), and its place."""

    pixels: np.ndarray
    item: Dataset
    plane: FramePlane | None


def read_segment(segmentation: Dataset, number: int, source: SourceSeries) -> np.ndarray:
    """The mask of one segment as uint8 (I, J, K) on the grid of ``source``.

    Raises:
        UnreadableResultError: the segmentation has no such segment, cannot be decoded, or lies in
            another frame of reference.
    """
    numbers = segment_numbers(segmentation)
    if number not in numbers:
        raise UnreadableResultError(
            f"The segmentation has no segment {number}; it has {numbers}. It may be damaged."
        )
    with reading(_DAMAGED, UnreadableResultError):
        return _segment_mask(segmentation, number, source)


def segment_numbers(segmentation: Dataset) -> list[int]:
    """The numbers of its segments.

    Raises:
        UnreadableResultError: they are damaged.
    """
    with reading(_DAMAGED, UnreadableResultError):
        return [int(segment.SegmentNumber) for segment in segmentation.get("SegmentSequence", ())]


def _segment_mask(segmentation: Dataset, number: int, source: SourceSeries) -> np.ndarray:
    mask = np.zeros(source.volume.shape_ijk, dtype=np.uint8)
    frames = list(_frames(segmentation, number))
    if all(frame.plane is not None for frame in frames) and not source.volume.is_picture:
        _require_same_space(segmentation, source)
        thickness_mm = _thickness_mm(segmentation, source)
        for frame in frames:
            _place(frame, thickness_mm, source.volume.ijk_to_lps, mask)
    else:
        for frame in frames:
            _place_by_reference(frame, source, mask)
    return mask


def _frames(segmentation: Dataset, number: int) -> Iterator[_Frame]:
    pixels = _decoded(segmentation)
    planes: Sequence[FramePlane | None] = frame_planes(segmentation) or [None] * len(pixels)
    kind = str(segmentation.get("SegmentationType"))
    level = int(segmentation.get("MaximumFractionalValue", 255)) / 2
    items = segmentation.PerFrameFunctionalGroupsSequence
    for values, item, plane in zip(pixels, items, planes, strict=True):
        if kind == LABELMAP:
            yield _Frame(values == number, item, plane)
        elif _segment_number(item, segmentation) == number:
            inside = values >= level if kind == FRACTIONAL else values > 0
            yield _Frame(inside, item, plane)


def _decoded(segmentation: Dataset) -> np.ndarray:
    content = len(segmentation.get("PixelData") or b"")
    require_plausible(segmentation, content, SEGMENTATION_LIMITS)
    return stored_frames(segmentation, "MONOCHROME2").values


def _segment_number(item: Dataset, segmentation: Dataset) -> int:
    shared = segmentation.get("SharedFunctionalGroupsSequence") or [{}]
    groups = item.get("SegmentIdentificationSequence") or shared[0].get(
        "SegmentIdentificationSequence"
    )
    return int(groups[0].ReferencedSegmentNumber) if groups else 0


def _require_same_space(segmentation: Dataset, source: SourceSeries) -> None:
    if str(segmentation.get("FrameOfReferenceUID")) != source.frame_of_reference_uid:
        raise UnreadableResultError(
            "The segmentation lies in another frame of reference than the images, so it cannot be "
            "placed on them."
        )


def _thickness_mm(segmentation: Dataset, source: SourceSeries) -> float:
    """How far along its normal a frame reaches: the images' distance where nothing is stated."""
    shared = segmentation.get("SharedFunctionalGroupsSequence") or [{}]
    measures = shared[0].get("PixelMeasuresSequence")
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if measures and measures[0].get(keyword):
            return _checked_thickness(abs(float(measures[0].get(keyword))))
    return _checked_thickness(float(source.first.SliceThickness))


def _checked_thickness(thickness_mm: float) -> float:
    if not 0 < thickness_mm <= _MOST_THICKNESS_MM:
        raise UnreadableResultError(
            f"The segmentation's frames are {thickness_mm:g} mm thick; expected at most "
            f"{_MOST_THICKNESS_MM:g} mm. It is damaged."
        )
    return thickness_mm


def _place(frame: _Frame, thickness_mm: float, ijk_to_lps: np.ndarray, out_ijk: np.ndarray) -> None:
    """Set the voxels of ``out_ijk`` whose centres lie on set pixels of a frame."""
    if frame.plane is None or not frame.pixels.any():
        return
    frame_to_lps = _frame_to_lps(frame.plane, thickness_mm)
    to_frame = np.linalg.inv(frame_to_lps) @ ijk_to_lps
    lower, upper = _bounds_ijk(frame.pixels, np.linalg.inv(ijk_to_lps) @ frame_to_lps)
    lower, upper = np.maximum(lower, 0), np.minimum(upper, out_ijk.shape)
    if (lower >= upper).any():
        return
    for k in range(lower[2], upper[2]):  # slice by slice, as an oblique frame reaches many voxels
        box = np.array([*lower[:2], k]), np.array([*upper[:2], k + 1])
        _place_within(frame, to_frame, box, out_ijk)


def _place_within(
    frame: _Frame,
    to_frame: np.ndarray,
    box_ijk: tuple[np.ndarray, np.ndarray],
    out_ijk: np.ndarray,
) -> None:
    """As :func:`_place`, for the voxels of a box: first and behind-last index."""
    lower, upper = box_ijk
    grid = np.stack(np.meshgrid(*map(np.arange, lower, upper), indexing="ij"), axis=-1)
    positions = transform_points(to_frame, grid)
    column, row = (np.floor(positions[..., a] + 0.5).astype(np.int64) for a in (0, 1))
    rows, columns = frame.pixels.shape
    on_frame = np.abs(positions[..., 2]) < _WITHIN + _ROUNDING
    on_frame &= (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    inside = np.zeros(on_frame.shape, dtype=bool)
    inside[on_frame] = frame.pixels[row[on_frame], column[on_frame]]
    box = tuple(slice(low, high) for low, high in zip(lower, upper, strict=True))
    out_ijk[box] |= inside.astype(np.uint8)


def _frame_to_lps(plane: FramePlane, thickness_mm: float) -> np.ndarray:
    """(4, 4) from (column, row, planes off the frame) to LPS mm (PS3.3 C.7.6.2.1-1)."""
    affine = np.eye(4)
    affine[:3, 0] = np.array(plane.row_direction) * plane.spacing_columns_mm
    affine[:3, 1] = np.array(plane.column_direction) * plane.spacing_rows_mm
    affine[:3, 2] = plane.normal * thickness_mm
    affine[:3, 3] = plane.position_lps_mm
    return affine


def _bounds_ijk(pixels: np.ndarray, frame_to_ijk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and behind-last voxel that the set pixels of a frame can reach."""
    rows, columns = np.nonzero(pixels)
    edges = [(v.min() - 0.5, v.max() + 0.5) for v in (columns, rows)] + [(-_WITHIN, _WITHIN)]
    corners = np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(-1, 3)
    reached = transform_points(frame_to_ijk, corners)
    lower = np.floor(reached.min(axis=0)).astype(int)
    return lower, np.ceil(reached.max(axis=0)).astype(int) + 1


def _place_by_reference(frame: _Frame, source: SourceSeries, out_ijk: np.ndarray) -> None:
    """Images without a place in the patient: a frame belongs to the image that it was made from."""
    if frame.pixels.shape != out_ijk.shape[1::-1]:
        raise UnreadableResultError(
            f"The segmentation has frames of {frame.pixels.shape} rows and columns, the images "
            f"{out_ijk.shape[1::-1]}; without positions in the patient they must be equal."
        )
    derivation = frame.item.get("DerivationImageSequence")
    references = derivation[0].get("SourceImageSequence") if derivation else None
    uid = str(references[0].ReferencedSOPInstanceUID) if references else None
    number = references[0].get("ReferencedFrameNumber") if references else None
    for k, candidate in enumerate(source.frames):
        same_image = uid in (None, str(candidate.image.SOPInstanceUID))
        if same_image and (number is None or candidate.frame_number in (None, int(number))):
            out_ijk[:, :, k] |= frame.pixels.T.astype(np.uint8)
            return
    raise UnreadableResultError(
        "The segmentation refers to an image that the series does not hold; send the whole series."
    )
