# SPDX-License-Identifier: Apache-2.0
"""Between Slicer's frames and the server's.

Slicer places everything in RAS millimetres, the server in LPS millimetres (DICOM): the first two
coordinates have opposite signs. Both count voxels as IJK with integers at voxel centres, but may
count an axis from its other end or in another order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from .errors import GridError

_FLIP_XY = np.diag([-1.0, -1.0, 1.0, 1.0])
_PLANES = ("sagittal", "coronal", "axial")
# Of a voxel, at every corner: beyond it, two grids are not the same voxels.
_SAME_VOXEL = 0.25


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels in the patient: numbers along I, J, K and the affine (4, 4) to LPS millimetres."""

    shape_ijk: tuple[int, int, int]
    ijk_to_lps: np.ndarray

    @classmethod
    def from_ras(cls, shape_ijk: tuple[int, int, int], ijk_to_ras: np.ndarray) -> Grid:
        """The grid of a volume as Slicer describes it."""
        return cls(shape_ijk, _FLIP_XY @ np.asarray(ijk_to_ras, dtype=float))

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance of neighbouring voxel centres along I, J and K."""
        return np.linalg.norm(self.ijk_to_lps[:3, :3], axis=0)

    @property
    def directions(self) -> np.ndarray:
        """Unit vectors (LPS) along I, J and K as columns."""
        return self.ijk_to_lps[:3, :3] / self.spacing_mm

    def to_lps(self, points_ijk: np.ndarray) -> np.ndarray:
        """Points (..., 3) from voxel indices to LPS millimetres."""
        return points_ijk @ self.ijk_to_lps[:3, :3].T + self.ijk_to_lps[:3, 3]

    def to_ijk(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Points (..., 3) from LPS millimetres to voxel indices."""
        inverse = np.linalg.inv(self.ijk_to_lps)
        return points_lps_mm @ inverse[:3, :3].T + inverse[:3, 3]

    def cut_axis(self, plane: str) -> int:
        """The voxel axis that the server cuts to show ``plane``."""
        if plane not in _PLANES:
            return 2  # as acquired
        cosines = np.abs(self.directions)
        nearest = max(permutations(range(3)), key=lambda axes: sum(cosines[range(3), list(axes)]))
        return nearest[_PLANES.index(plane)]


@dataclass(frozen=True, eq=False)
class Roi:
    """A box in the patient: centre (3,), unit axes as columns (3, 3), full size (3,); RAS mm."""

    centre_ras_mm: np.ndarray
    axes: np.ndarray
    size_mm: np.ndarray


def ras_lps(points_mm: np.ndarray) -> np.ndarray:
    """Points (..., 3) from RAS to LPS millimetres or back, which is the same."""
    return np.asarray(points_mm, dtype=float) * (-1.0, -1.0, 1.0)


def plane_of_view(slice_to_ras: np.ndarray) -> str:
    """The anatomical plane that a slice view is closest to; column 2 is its normal."""
    return _PLANES[int(np.argmax(np.abs(np.asarray(slice_to_ras)[:3, 2])))]


def tilt_degrees(slice_to_ras: np.ndarray, grid: Grid) -> float:
    """How far a slice view is turned against the voxel slices that the server reads for it."""
    axes = [axis for axis in range(3) if axis != grid.cut_axis(plane_of_view(slice_to_ras))]
    normal = np.cross(*grid.directions[:, axes].T)
    view = ras_lps(np.asarray(slice_to_ras)[:3, 2])
    cosine = abs(view @ normal) / np.linalg.norm(view) / np.linalg.norm(normal)
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def position_on_view(slice_to_ras: np.ndarray, grid: Grid) -> np.ndarray:
    """A position (3,) in LPS millimetres on the slice that a view shows.

    It is the view's centre. Where the reader has moved the image out of the centre, it is the
    image's own centre, moved onto the slice: beside the image an oblique view could be on a
    slice that nobody sees.
    """
    centre = ras_lps(np.asarray(slice_to_ras)[:3, 3])
    last = np.array(grid.shape_ijk) - 1
    index = grid.to_ijk(centre)
    if np.all((index >= -0.5) & (index <= last + 0.5)):
        return centre
    normal = ras_lps(np.asarray(slice_to_ras)[:3, 2])
    normal /= np.linalg.norm(normal)
    middle = grid.to_lps(last / 2)
    return middle - ((middle - centre) @ normal) * normal


def roi_of_box(corners_lps_mm: np.ndarray, plane: str, grid: Grid) -> Roi:
    """A box on a slice, given by two opposite corners (2, 3), one voxel thick across it."""
    first, second = grid.to_ijk(np.asarray(corners_lps_mm, dtype=float))
    extent = np.abs(second - first)
    extent[grid.cut_axis(plane)] = 1.0
    axes = ras_lps(grid.directions.T).T
    if np.linalg.det(axes) < 0:
        # Slicer turns a ROI, which cannot mirror it; a box is the same along an opposite axis.
        axes[:, 2] *= -1
    centre = ras_lps(grid.to_lps((first + second) / 2))
    return Roi(centre, axes, extent * grid.spacing_mm)


def box_of_roi(roi: Roi, plane: str, grid: Grid) -> np.ndarray:
    """Opposite corners (2, 3) in LPS millimetres of a ROI on the slice through its centre."""
    signs = np.array(list(product((-0.5, 0.5), repeat=3)))
    corners_ras = roi.centre_ras_mm + signs * roi.size_mm @ roi.axes.T
    corners_ijk = grid.to_ijk(ras_lps(corners_ras))
    box_ijk = np.array([corners_ijk.min(axis=0), corners_ijk.max(axis=0)])
    cut = grid.cut_axis(plane)
    box_ijk[:, cut] = grid.to_ijk(ras_lps(roi.centre_ras_mm))[cut]
    return grid.to_lps(box_ijk)


def onto_grid(values_ijk: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Voxels (I, J, K) of one grid on another that holds the same voxels, in any order.

    Returns:
        An array of the target's shape, zero where the source has no voxels.

    Raises:
        GridError: if a voxel of the source is none of the target.
    """
    order, flipped, start = _voxel_mapping(source, target)
    moved = np.flip(np.transpose(values_ijk, order), np.flatnonzero(flipped))
    result = np.zeros(target.shape_ijk, dtype=values_ijk.dtype)
    result[tuple(slice(s, s + n) for s, n in zip(start, moved.shape))] = moved
    return result


def _voxel_mapping(source: Grid, target: Grid) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Source axis per target axis, whether it runs backwards, and the first target index."""
    to_target = np.linalg.inv(target.ijk_to_lps) @ source.ijk_to_lps
    steps = to_target[:3, :3]
    order = max(permutations(range(3)), key=lambda axes: sum(np.abs(steps[range(3), list(axes)])))
    flipped = steps[range(3), list(order)] < 0
    last = np.array(source.shape_ijk) - 1
    corners = np.array(list(product(*((0, end) for end in last))), dtype=float)
    places = corners @ steps.T + to_target[:3, 3]
    start = np.round(places.min(axis=0)).astype(int)
    along = corners[:, list(order)]
    expected = start + np.where(flipped, last[list(order)] - along, along)
    inside = (expected >= 0).all() and (expected < target.shape_ijk).all()
    if not inside or np.abs(places - expected).max() > _SAME_VOXEL:
        raise GridError("The mask lies on other voxels than the volume that is shown.")
    return order, flipped, start
