# SPDX-License-Identifier: Apache-2.0
"""From the plane attributes of DICOM frames to one voxel grid (PS3.3 C.7.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.types import XYZ

# Positions are often written with two or three decimals.
POSITION_TOLERANCE_MM = 0.01
# Gaps that differ by more than this share of the usual gap put voxels onto the wrong slice.
REFUSED_GAP_SHARE = 0.5
_COSINE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class FramePlane:
    """Where one frame lies: its first pixel's centre, the directions and spacings of its pixels.

    ``row_direction`` is the direction in which the column index grows, ``column_direction`` that
    in which the row index grows (first and last three values of Image Orientation Patient).
    ``spacing_rows_mm`` is the distance between rows, ``spacing_columns_mm`` that between columns
    (first and second value of Pixel Spacing).
    """

    position_lps_mm: XYZ
    row_direction: XYZ
    column_direction: XYZ
    spacing_rows_mm: float
    spacing_columns_mm: float

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit normal, row direction x column direction."""
        normal = np.cross(self.row_direction, self.column_direction)
        return normal / np.linalg.norm(normal)

    @property
    def smallest_spacing_mm(self) -> float:
        """The shorter side of a pixel."""
        return min(self.spacing_rows_mm, self.spacing_columns_mm)

    def corner_offset_mm(self, other: FramePlane, shape_rc: tuple[int, int]) -> float:
        """How far the corners of two frames lie apart once their first pixels coincide.

        Args:
            other: the other frame.
            shape_rc: rows and columns of both.
        """
        rows, columns = (
            mine - its
            for mine, its in zip(self._edges_mm(shape_rc), other._edges_mm(shape_rc), strict=True)
        )
        corners = np.stack((rows, columns, rows + columns))
        return float(np.linalg.norm(corners, axis=1).max())

    def is_parallel(self, other: FramePlane, shape_rc: tuple[int, int]) -> bool:
        """Whether no corner of both frames lies further apart than a pixel; see above."""
        return self.corner_offset_mm(other, shape_rc) <= self.smallest_spacing_mm

    def _edges_mm(self, shape_rc: tuple[int, int]) -> tuple[NDArray[np.float64], ...]:
        """The frame's left and upper edge as vectors."""
        return (
            np.array(self.column_direction) * self.spacing_rows_mm * shape_rc[0],
            np.array(self.row_direction) * self.spacing_columns_mm * shape_rc[1],
        )


@dataclass(frozen=True)
class FrameGrid:
    """The voxel grid that frames make: ``order[k]`` is the frame that becomes slice k."""

    order: tuple[int, ...]
    ijk_to_lps: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def frame_grid(planes: Sequence[FramePlane], thickness_mm: float) -> FrameGrid:
    """Order parallel frames along their normal and place them in the patient.

    The step along K is the vector between the positions of the first and the last frame divided
    by their number less one. It is not forced onto the normal, so that a tilted gantry's shear
    survives, and Slice Thickness plays no part unless there is a single frame.

    Args:
        planes: parallel frames, in any order.
        thickness_mm: extent of a single frame along the normal.

    Raises:
        UnreadableImageError: several frames at one position, or gaps that are too uneven.
    """
    normal = _checked_normal(planes[0])
    positions = np.array([plane.position_lps_mm for plane in planes])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    warnings: tuple[str, ...] = ()
    step = normal * thickness_mm
    if len(planes) > 1:
        step = (positions[order[-1]] - positions[order[0]]) / (len(planes) - 1)
        uneven = _check_gaps(heights[order])
        bent = _check_line(positions[order], step)
        warnings = uneven or bent
    first = planes[order[0]]
    return FrameGrid(tuple(int(i) for i in order), _ijk_to_lps(first, step), warnings)


def _ijk_to_lps(first: FramePlane, step_k_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equation C.7.6.2.1-1: the row direction goes with the spacing between columns."""
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.row_direction) * first.spacing_columns_mm
    affine[:3, 1] = np.array(first.column_direction) * first.spacing_rows_mm
    affine[:3, 2] = step_k_mm
    affine[:3, 3] = first.position_lps_mm
    return affine


def _checked_normal(plane: FramePlane) -> NDArray[np.float64]:
    row, column = np.array(plane.row_direction), np.array(plane.column_direction)
    deviation = max(
        abs(float(np.linalg.norm(row)) - 1),
        abs(float(np.linalg.norm(column)) - 1),
        abs(float(row @ column)),
    )
    if not deviation <= _COSINE_TOLERANCE:
        raise UnreadableImageError(
            f"The DICOM image orientation {np.round([*row, *column], 4).tolist()} is not two "
            "perpendicular unit vectors, so left and right cannot be told. Export the series again."
        )
    return plane.normal


def _check_gaps(heights_mm: NDArray[np.float64]) -> tuple[str, ...]:
    gaps = np.diff(heights_mm)
    usual = float(np.median(gaps))
    if (gaps <= POSITION_TOLERANCE_MM).any():
        at = heights_mm[int(np.argmin(gaps))]
        raise UnreadableImageError(
            f"Several images lie at the same position ({at:.2f} mm along the slice normal): the "
            "series mixes phases, echoes or reconstructions. Give one of them in a folder of its "
            "own."
        )
    worst = int(np.argmax(np.abs(gaps - usual)))
    excess = abs(gaps[worst] - usual)
    if excess <= max(POSITION_TOLERANCE_MM, 0.01 * usual):
        return ()
    where = (
        f"between the positions {heights_mm[worst]:.2f} and {heights_mm[worst + 1]:.2f} mm along "
        f"the slice normal the distance is {gaps[worst]:.2f} mm, usual are {usual:.2f} mm"
    )
    if excess > REFUSED_GAP_SHARE * usual:
        raise UnreadableImageError(
            f"The slices are not evenly spaced or some are missing: {where}. Send the complete "
            "series, or resample it to even spacing."
        )
    return (f"The slices are not quite evenly spaced: {where}.",)


def _check_line(positions_mm: NDArray[np.float64], step_mm: NDArray[np.float64]) -> tuple[str, ...]:
    expected = positions_mm[0] + np.arange(len(positions_mm))[:, np.newaxis] * step_mm
    deviation = float(np.linalg.norm(positions_mm - expected, axis=1).max())
    spacing = float(np.linalg.norm(step_mm))
    if deviation > REFUSED_GAP_SHARE * spacing:
        raise UnreadableImageError(
            f"The slices do not lie on one straight stack: one is {deviation:.2f} mm off where "
            f"even slices of {spacing:.2f} mm would be. Send the series in parts, or resample it."
        )
    if deviation > max(10 * POSITION_TOLERANCE_MM, 0.05 * spacing):
        return (f"Slice positions deviate from an even stack by up to {deviation:.2f} mm.",)
    return ()
