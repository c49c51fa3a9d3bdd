# SPDX-License-Identifier: Apache-2.0
"""What registration looks at: an examination on a coarse grid along the patient's axes.

Memory and time of a registration depend on this grid alone, however large the examination is, and
sheared or oblique volumes are like all others on it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.imaging import Volume
from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.priors.errors import NotComparableError

MAX_VOXELS = 500_000
_LEAST_SPACING_MM = 1.0
_LEAST_BODY_VOXELS = 500
_MARGIN_VOXELS = 2
# Soft tissue between lung and bone; a bin of a joint histogram then tells organs apart.
_CT_RANGE_HU = (-250.0, 450.0)
_CT_BODY_HU = -200.0
_OTHER_RANGE_PERCENT = (1.0, 99.0)
# Share of the way from dark to bright at which a body begins.
_OTHER_BODY = 0.12


@dataclass(frozen=True, eq=False)
class WorkingImage:
    """An examination on an isotropic grid along L, P and S.

    Attributes:
        values: float32 (I, J, K), clipped to what tells tissues apart.
        inside: bool of the same shape, where the examination has voxels.
        body: bool, the body with a margin around it, without the table.
        origin_lps_mm: (3,) centre of the first voxel.
        spacing_mm: of the grid.
    """

    values: NDArray[np.float32]
    inside: NDArray[np.bool_]
    body: NDArray[np.bool_]
    origin_lps_mm: NDArray[np.float64]
    spacing_mm: float

    def body_points_lps_mm(self, most: int) -> NDArray[np.float64]:
        """(N, 3) positions of body voxels, evenly thinned to ``most`` at most."""
        flat = np.flatnonzero(self.body)
        flat = flat[np.linspace(0, len(flat) - 1, min(most, len(flat))).astype(np.int64)]
        indices = np.stack(np.unravel_index(flat, self.body.shape), axis=-1)
        return np.asarray(self.origin_lps_mm + indices * self.spacing_mm)

    def indices_of(self, points_lps_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 3) continuous voxel indices of positions."""
        return np.asarray((points_lps_mm - self.origin_lps_mm) / self.spacing_mm)


def common_spacing_mm(*volumes: Volume) -> float:
    """The finest spacing with which each volume's grid has at most :data:`MAX_VOXELS`."""
    largest_mm3 = max(float(np.prod(np.ptp(_corners_lps_mm(v), axis=0))) for v in volumes)
    return max(_LEAST_SPACING_MM, float(np.cbrt(largest_mm3 / MAX_VOXELS)))


def working_image(volume: Volume, spacing_mm: float) -> WorkingImage:
    """Average and resample a volume, and find the body in it.

    Raises:
        NotComparableError: it shows hardly anything.
    """
    reduced, ijk_to_lps = _averaged(volume, spacing_mm)
    corners = _corners_lps_mm(volume)
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = tuple(np.maximum(np.ceil((high - low) / spacing_mm).astype(int), 1))
    origin = low + spacing_mm / 2
    to_grid = np.linalg.inv(ijk_to_lps)
    matrix = to_grid[:3, :3] * spacing_mm
    offset = to_grid[:3, :3] @ origin + to_grid[:3, 3]
    values = ndimage.affine_transform(
        reduced, matrix, offset, shape, order=1, mode="nearest", output=np.float32
    )
    inside = _inside(matrix, offset, shape, reduced.shape)
    low_value, high_value, body_value = _levels(volume, values[inside])
    body = _body(inside & (values > body_value), inside)
    return WorkingImage(np.clip(values, low_value, high_value), inside, body, origin, spacing_mm)


def _averaged(volume: Volume, spacing_mm: float) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Blocks of whole voxels averaged, up to about the wanted spacing, and their affine."""
    steps = np.maximum((spacing_mm / np.array(volume.spacing_ijk_mm)).astype(int), 1)
    steps = np.minimum(steps, volume.shape_ijk)
    kept = [n // step * step for n, step in zip(volume.shape_ijk, steps, strict=True)]
    blocks = volume.array[: kept[0], : kept[1], : kept[2]].reshape(
        list(itertools.chain.from_iterable((n // s, s) for n, s in zip(kept, steps, strict=True)))
    )
    affine = volume.ijk_to_lps.copy()
    affine[:3, :3] = volume.ijk_to_lps[:3, :3] * steps
    affine[:3, 3] = transform_points(volume.ijk_to_lps, (steps - 1) / 2)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32), affine


def _inside(
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, ...],
    source_shape: tuple[int, ...],
) -> NDArray[np.bool_]:
    """Where the grid lies within the source's voxels, edges included."""
    found = np.ones(shape, np.bool_)
    axes = [np.arange(n, dtype=np.float64) for n in shape]
    for row, start, length in zip(matrix, offset, source_shape, strict=True):
        index = start + sum(
            (weight * axis).reshape([-1 if at == d else 1 for at in range(3)])
            for d, (weight, axis) in enumerate(zip(row, axes, strict=True))
        )
        found &= (index >= -0.5) & (index <= length - 0.5)
    return found


def _levels(volume: Volume, values: NDArray[np.float32]) -> tuple[float, float, float]:
    """Least and greatest value that are told apart, and that above which there is body."""
    if volume.modality == "CT":
        return *_CT_RANGE_HU, _CT_BODY_HU
    low, high = (float(v) for v in np.percentile(values, _OTHER_RANGE_PERCENT))
    return low, max(high, low + 1e-6), low + _OTHER_BODY * (high - low)


def _body(bright: NDArray[np.bool_], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest bright part, filled, with a margin."""
    parts, count = ndimage.label(ndimage.binary_opening(bright))
    sizes = np.bincount(parts.ravel())[1:]
    if not count or sizes.max() < _LEAST_BODY_VOXELS:
        raise NotComparableError(
            "An examination shows too little of a body to be registered; give series that show the "
            "same part of the patient."
        )
    largest = ndimage.binary_fill_holes(parts == 1 + int(sizes.argmax()))
    return ndimage.binary_dilation(largest, iterations=_MARGIN_VOXELS) & inside


def _corners_lps_mm(volume: Volume) -> NDArray[np.float64]:
    """(8, 3) outer corners of a volume."""
    ends = [(-0.5, n - 0.5) for n in volume.shape_ijk]
    return transform_points(volume.ijk_to_lps, list(itertools.product(*ends)))
