# SPDX-License-Identifier: Apache-2.0
"""One invertible chain of coordinates: patient LPS <-> voxel IJK <-> slice px <-> reasoner px.

Frames are those of :mod:`medreasoner_infer.types`. All methods take arrays whose last axis holds
the coordinates, (2,) or (N, 2) for pixels and (3,) or (N, 3) for IJK and LPS, and return float64
arrays of the same leading shape. Nothing is clipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medreasoner_infer.errors import InputError, SliceOutOfRangeError
from medreasoner_infer.imaging.orientation import (
    direction_letters,
    opposite_letters,
)
from medreasoner_infer.imaging.plane import DisplayAxes, Plane, display_axes
from medreasoner_infer.imaging.volume import Volume
from medreasoner_infer.types import XY, XYXY

# The images of MedReasoner's training set U-MRG-14K are 840 x 840, a multiple of Qwen2.5-VL's
# 28-px patch grid.
DEFAULT_MODEL_SIZE = 840


@dataclass(frozen=True, eq=False)
class SliceMapping:
    """Where the pixels of one slice lie on the voxel grid, in the patient and in reasoner px.

    Reasoner px are the pixels of a square of ``model_size`` in which the slice is centred, scaled
    to be isotropic in millimetres and padded. The slice fills whole pixels of it, so scale and
    padding are exact for the picture that :func:`~medreasoner_infer.imaging.slices.letterbox`
    makes, at the cost of at most half a reasoner pixel of aspect.
    """

    plane: Plane
    index: int
    axes: DisplayAxes
    shape_ijk: tuple[int, int, int]
    ijk_to_lps: NDArray[np.float64]
    model_size: int = DEFAULT_MODEL_SIZE
    spacing_known: bool = True
    is_picture: bool = False

    @property
    def slice_axis(self) -> int:
        """The voxel axis (0, 1, 2 for I, J, K) that the plane cuts."""
        return self.axes.cut_axis

    @property
    def shape_hw(self) -> tuple[int, int]:
        """Height and width of the displayed slice in slice px."""
        return self.shape_ijk[self.axes.y_axis], self.shape_ijk[self.axes.x_axis]

    @property
    def spacing_xy_mm(self) -> XY:
        """Size of a slice pixel along display x and y."""
        lengths = np.linalg.norm(self.ijk_to_lps[:3, :3], axis=0)
        return float(lengths[self.axes.x_axis]), float(lengths[self.axes.y_axis])

    @cached_property
    def reasoner_content_wh_px(self) -> tuple[int, int]:
        """Width and height in reasoner px of the slice within the padded square."""
        height, width = self.shape_hw
        spacing_x, spacing_y = self.spacing_xy_mm
        scale = self.model_size / max(width * spacing_x, height * spacing_y)
        return (
            max(1, round(width * spacing_x * scale)),
            max(1, round(height * spacing_y * scale)),
        )

    @property
    def reasoner_padding_xy_px(self) -> tuple[int, int]:
        """Padding in reasoner px on the left and on top of the slice."""
        width, height = self.reasoner_content_wh_px
        return (self.model_size - width) // 2, (self.model_size - height) // 2

    @property
    def reasoner_px_per_slice_px(self) -> XY:
        """Scale along x and y; they differ where the spacing is anisotropic."""
        height, width = self.shape_hw
        return self.reasoner_content_wh_px[0] / width, self.reasoner_content_wh_px[1] / height

    def slice_px_to_ijk(self, points_xy_px: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) slice px to (..., 3) IJK on this slice."""
        xy = _coordinates(points_xy_px, 2)
        height, width = self.shape_hw
        ijk = np.empty((*xy.shape[:-1], 3))
        ijk[..., self.axes.x_axis] = _flip(xy[..., 0], width, self.axes.flip_x) - 0.5
        ijk[..., self.axes.y_axis] = _flip(xy[..., 1], height, self.axes.flip_y) - 0.5
        ijk[..., self.axes.cut_axis] = self.index
        return ijk

    def ijk_to_slice_px(self, points_ijk: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) IJK to (..., 2) slice px, projected along the cut voxel axis."""
        ijk = _coordinates(points_ijk, 3)
        height, width = self.shape_hw
        x_px = _flip(ijk[..., self.axes.x_axis] + 0.5, width, self.axes.flip_x)
        y_px = _flip(ijk[..., self.axes.y_axis] + 0.5, height, self.axes.flip_y)
        return np.stack((x_px, y_px), axis=-1)

    def slice_px_to_lps(self, points_xy_px: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) slice px to (..., 3) LPS millimetres on this slice."""
        return transform_points(self.ijk_to_lps, self.slice_px_to_ijk(points_xy_px))

    def lps_to_slice_px(self, points_lps_mm: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) LPS millimetres to (..., 2) slice px, projected along the cut voxel axis."""
        ijk = transform_points(np.linalg.inv(self.ijk_to_lps), points_lps_mm)
        return self.ijk_to_slice_px(ijk)

    def slice_px_to_reasoner_px(self, points_xy_px: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) slice px to (..., 2) reasoner px."""
        scale, padding = np.array(self.reasoner_px_per_slice_px), self.reasoner_padding_xy_px
        return np.asarray(_coordinates(points_xy_px, 2) * scale + np.array(padding))

    def reasoner_px_to_slice_px(self, points_xy_px: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) reasoner px to (..., 2) slice px; points in the padding fall off the slice."""
        inside_padding = _coordinates(points_xy_px, 2) - np.array(self.reasoner_padding_xy_px)
        return np.asarray(inside_padding / np.array(self.reasoner_px_per_slice_px))

    def slice_box_to_reasoner_px(self, bbox_xyxy_px: XYXY) -> XYXY:
        """A box in slice px to reasoner px."""
        return _as_box(self.slice_px_to_reasoner_px(np.reshape(bbox_xyxy_px, (2, 2))))

    def reasoner_box_to_slice_px(self, bbox_xyxy_px: XYXY) -> XYXY:
        """A box in reasoner px to slice px; it may reach into the padding, i.e. off the slice."""
        return _as_box(self.reasoner_px_to_slice_px(np.reshape(bbox_xyxy_px, (2, 2))))


def slice_mapping(
    volume: Volume, plane: Plane, index: int, *, model_size: int = DEFAULT_MODEL_SIZE
) -> SliceMapping:
    """The coordinate chain of one slice.

    Args:
        volume: the image.
        plane: display plane.
        index: voxel index along the axis that the plane cuts, from 0.
        model_size: side of the square that the reasoner reads, in reasoner px.

    Raises:
        SliceOutOfRangeError: the volume has no such slice.
        ImageKindError: an anatomical plane of an image without patient geometry.
        InputError: ``model_size`` is not positive.
    """
    if model_size < 1:
        raise InputError(f"The model image's side must be at least 1 px, got {model_size}.")
    axes = display_axes(volume, plane)
    count = volume.shape_ijk[axes.cut_axis]
    if not 0 <= index < count:
        raise SliceOutOfRangeError(
            f"Slice {index} of the {plane.value} plane does not exist: this image has the slices "
            f"0 to {count - 1}."
        )
    return SliceMapping(
        plane,
        int(index),
        axes,
        volume.shape_ijk,
        volume.ijk_to_lps,
        model_size,
        volume.spacing_known,
        volume.is_picture,
    )


def slice_count(volume: Volume, plane: Plane) -> int:
    """Number of slices of a plane.

    Raises:
        ImageKindError: an anatomical plane of an image without patient geometry.
    """
    return volume.shape_ijk[display_axes(volume, plane).cut_axis]


def slice_index_at(volume: Volume, plane: Plane, point_lps_mm: ArrayLike) -> int:
    """The index of the slice on which a patient position (3,) lies.

    Only the voxel axis that the plane cuts counts: the position may lie beside the image within
    the slice, as a viewer's focal point can.

    Raises:
        SliceOutOfRangeError: the position lies before the first or behind the last slice.
        ImageKindError: an anatomical plane of an image without patient geometry.
    """
    axes = display_axes(volume, plane)
    count = volume.shape_ijk[axes.cut_axis]
    point_ijk = transform_points(np.linalg.inv(volume.ijk_to_lps), point_lps_mm)
    position = float(point_ijk[axes.cut_axis])
    if not -0.5 <= position <= count - 0.5:
        place = ", ".join(f"{value:.1f}" for value in np.asarray(point_lps_mm, dtype=float))
        raise SliceOutOfRangeError(
            f"The position ({place}) mm (LPS) lies outside the image: in the {plane.value} plane "
            f"it would be slice {position:.1f}, and there are the slices 0 to {count - 1}."
        )
    return min(max(math.floor(position + 0.5), 0), count - 1)


def edge_letters(volume: Volume, mapping: SliceMapping) -> tuple[str, str, str, str] | None:
    """Patient directions at the left, right, top and bottom edge of the displayed slice.

    Letters are R, L, A, P, H and F, two or three for oblique directions. ``None`` where the image
    does not tell how the patient lies.
    """
    if not volume.is_picture:
        right = direction_letters(_display_direction(mapping, (1.0, 0.0)))
        bottom = direction_letters(_display_direction(mapping, (0.0, 1.0)))
    elif volume.patient_orientation is not None:
        right, bottom = volume.patient_orientation
    else:
        return None
    return opposite_letters(right), right, opposite_letters(bottom), bottom


def transform_points(affine: NDArray[np.float64], points: ArrayLike) -> NDArray[np.float64]:
    """Apply a (4, 4) affine to points (..., 3)."""
    return np.asarray(_coordinates(points, 3) @ affine[:3, :3].T + affine[:3, 3])


def _display_direction(mapping: SliceMapping, step_xy_px: XY) -> NDArray[np.float64]:
    start, end = mapping.slice_px_to_lps([(0.0, 0.0), step_xy_px])
    return np.asarray(end - start)


def _coordinates(points: ArrayLike, dimension: int) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != dimension:
        raise InputError(
            f"Coordinates of shape {array.shape} were given; expected (..., {dimension})."
        )
    return array


def _flip(edge_px: NDArray[np.float64], length: int, flipped: bool) -> NDArray[np.float64]:
    return length - edge_px if flipped else edge_px


def _as_box(corners_xy: NDArray[np.float64]) -> XYXY:
    x1, y1, x2, y2 = (float(value) for value in corners_xy.ravel())
    return x1, y1, x2, y2
