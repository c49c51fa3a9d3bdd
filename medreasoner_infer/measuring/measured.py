# SPDX-License-Identifier: Apache-2.0
"""What is measured of a target: diameters, area and volume, in mm where the image tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging import SliceMapping, slice_of_mask
from medreasoner_infer.measuring.diameters import (
    Points,
    both_diameters,
    extent_across,
    farthest_two,
    hull_corners,
)
from medreasoner_infer.types import XY, XYXY, XYZ

MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Diameter:
    """A straight line across a target, between two points of its outline, in three frames.

    Attributes:
        ends_xy_slice_px: edge based, on the slice that is measured.
        ends_ijk: integers are voxel centres.
        ends_lps_mm: in the patient; of an image without scale merely scaled IJK.
        length_px: in slice px.
        length_mm: ``None`` where the image does not tell its scale.
        deviation: standard deviation among several answers, in mm, or in px without a scale.
    """

    ends_xy_slice_px: tuple[XY, XY]
    ends_ijk: tuple[XYZ, XYZ]
    ends_lps_mm: tuple[XYZ, XYZ]
    length_px: float
    length_mm: float | None
    deviation: float | None = None


@dataclass(frozen=True)
class Measured:
    """Sizes of a target; millimetres are ``None`` where the image does not tell its scale.

    Attributes:
        plane: of the slice on which diameters and area are measured.
        index: of that slice, the voxel index along the axis that the plane cuts.
        longest: its longest diameter there.
        perpendicular: the longest line across it, at right angles to ``longest``.
        area_px: pixels of the mask there.
        area_mm2: their area.
        voxels: of the whole mask.
        volume_ml: their volume; ``None`` also for a mask of one slice among several, which tells
            none of the target, and where slices make no volume (a radiograph, a clip).
        slices: how many slices of the plane hold the mask.
        parts: how many pieces that do not touch the mask has on the slice; diameters span them all.
        answers: how many answers' boxes the deviations are of; 0 where there is no second one.
        area_deviation: standard deviation among them, in mm², or in px without a scale.
    """

    plane: str
    index: int
    longest: Diameter
    perpendicular: Diameter
    area_px: int
    area_mm2: float | None
    voxels: int
    volume_ml: float | None
    slices: int
    parts: int
    answers: int = 0
    area_deviation: float | None = None


@dataclass(frozen=True)
class FeretSizes:
    """Of an outline in the patient: its greatest diameter, and its whole extent across that."""

    long_axis_mm: float
    short_axis_mm: float


def feret_sizes(on_slice_hw: NDArray[np.bool_], mapping: SliceMapping) -> FeretSizes:
    """Long and short axis of a mask (H, W) with a pixel at least, in mm of the patient."""
    points_mm = mapping.slice_px_to_lps(hull_corners(on_slice_hw))
    start, end = farthest_two(points_mm)
    length_mm = float(np.linalg.norm(points_mm[end] - points_mm[start]))
    return FeretSizes(length_mm, extent_across(points_mm, start, end))


def measure_target(
    mask_ijk: NDArray[np.uint8],
    mapping: SliceMapping,
    answer_box_px: XYXY | None = None,
    other_boxes_px: tuple[XYXY, ...] = (),
) -> Measured | None:
    """Measure a mask (I, J, K) on one slice, and its volume.

    How far several answers disagree is told by their boxes: each stretches the measured mask as its
    box stretches the box of the answer, along x and along y.

    Args:
        mask_ijk: non-zero inside.
        mapping: the slice on which diameters and area are measured.
        answer_box_px: of the answer that made the mask, in slice px of that slice.
        other_boxes_px: of further answers to the same question on the same slice.

    Returns:
        ``None`` where the mask is empty on that slice.
    """
    on_slice = slice_of_mask(mask_ijk, mapping)
    if not on_slice.any():
        return None
    steps = steps_of(mapping)
    stretches = _stretches(answer_box_px, other_boxes_px)
    longest_px, across_px = both_diameters(on_slice, steps)
    other_axes = tuple(axis for axis in range(3) if axis != mapping.slice_axis)
    filled = np.count_nonzero(np.any(mask_ijk, axis=other_axes))
    area_px, area = int(on_slice.sum()), _area_of_a_pixel(steps)
    stretched = [area_px * area * x * y for x, y in stretches]
    return Measured(
        plane=mapping.plane.value,
        index=mapping.index,
        longest=_diameter(longest_px, mapping, stretches),
        perpendicular=_diameter(across_px, mapping, stretches),
        area_px=area_px,
        area_mm2=round(area_px * area, 3) if mapping.spacing_known else None,
        voxels=int(np.count_nonzero(mask_ijk)),
        volume_ml=_volume_ml(mask_ijk, mapping, filled),
        slices=int(filled),
        parts=_parts(on_slice),
        answers=len(stretches) if len(stretches) > 1 else 0,
        area_deviation=_deviation(stretched),
    )


def steps_of(mapping: SliceMapping) -> Points:
    """How far a slice px leads along x and along y: (2, 3) in mm, or (2, 2) of px without scale."""
    if not mapping.spacing_known:
        return np.eye(2)
    origin, *ends = mapping.slice_px_to_lps([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
    return np.asarray(np.array(ends) - origin)


def _diameter(ends_px: Points, mapping: SliceMapping, stretches: tuple[XY, ...]) -> Diameter:
    steps, between = steps_of(mapping), ends_px[1] - ends_px[0]
    lengths = [float(np.linalg.norm((between * stretch) @ steps)) for stretch in stretches]
    length = float(np.linalg.norm(between @ steps))
    return Diameter(
        ends_xy_slice_px=_pair(ends_px),
        ends_ijk=_pair(mapping.slice_px_to_ijk(ends_px)),
        ends_lps_mm=_pair(mapping.slice_px_to_lps(ends_px)),
        length_px=round(float(np.linalg.norm(between)), 4),
        length_mm=round(length, 4) if mapping.spacing_known else None,
        deviation=_deviation(lengths),
    )


def _pair(points: Points) -> tuple[Any, Any]:
    first, second = (tuple(round(float(value), 4) for value in point) for point in points)
    return first, second


def _stretches(answer: XYXY | None, others: tuple[XYXY, ...]) -> tuple[XY, ...]:
    """How each answer's box stretches the answer's own, whose own stretch comes first."""
    if answer is None or not others:
        return ()
    width, height = answer[2] - answer[0], answer[3] - answer[1]
    return ((1.0, 1.0), *(((x2 - x1) / width, (y2 - y1) / height) for x1, y1, x2, y2 in others))


def _deviation(values: list[float]) -> float | None:
    return round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None


def _area_of_a_pixel(steps: Points) -> float:
    along_x, along_y = (np.pad(step, (0, 3 - len(step))) for step in steps)
    return float(np.linalg.norm(np.cross(along_x, along_y)))


def _volume_ml(mask_ijk: NDArray[np.uint8], mapping: SliceMapping, filled: int) -> float | None:
    count = mapping.shape_ijk[mapping.slice_axis]
    if not mapping.spacing_known or mapping.is_picture or (filled == 1 and count > 1):
        return None
    voxel_mm3 = abs(float(np.linalg.det(mapping.ijk_to_lps[:3, :3])))
    return round(np.count_nonzero(mask_ijk) * voxel_mm3 / MM3_PER_ML, 4)


def _parts(on_slice_hw: NDArray[np.bool_]) -> int:
    from scipy import ndimage

    _, count = ndimage.label(on_slice_hw, structure=np.ones((3, 3)))
    return int(count)
